"""Named models and runs: functions that return complete configurations."""

from collections.abc import Callable

from core.config import ModelConfig, RunConfig
from core.config.checks import did_you_mean
from core.presets.published import PUBLISHED
from core.presets.runs import RUNS, standard_run


def _published_run(name: str, model: ModelConfig) -> RunConfig:
    """A published model with the larger runs' training recipe; not what it was trained with."""
    return standard_run(name, "owt", model, batch_size=1, num_steps=20_000)


PRESETS: dict[str, Callable[[], RunConfig]] = {
    **RUNS,
    **{name: lambda name=name, model=model: _published_run(name, model) for name, model in PUBLISHED.items()},
}


def preset(name: str) -> RunConfig:
    """The run of this name.

    Raises:
        ValueError: If there is none; the message names the nearest.
    """
    if name not in PRESETS:
        hint = did_you_mean(name, PRESETS)
        raise ValueError(f"{name!r} is neither a preset nor a file{hint} (presets: {', '.join(PRESETS)})")
    return PRESETS[name]()
