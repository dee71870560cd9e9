"""What a run is: frozen dataclasses whose every field is final.

Nothing downstream rescales, rounds or defaults a field again; what can be derived is a property. Variants are made with
`dataclasses.replace`, grids with comprehensions.
"""

from core.config.checks import canonical_json, check_name, config_id, from_dict, to_dict, with_fields
from core.config.model import ExpertsConfig, LatentConfig, ModelConfig
from core.config.run import DataConfig, OptimizerConfig, RunConfig, ScheduleConfig

__all__ = [
    "DataConfig",
    "ExpertsConfig",
    "LatentConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RunConfig",
    "ScheduleConfig",
    "canonical_json",
    "check_name",
    "config_id",
    "from_dict",
    "to_dict",
    "with_fields",
]
