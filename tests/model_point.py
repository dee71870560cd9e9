"""A small model of a benchmark grid to vary."""

from core.config.grid import SUBJECTS
from core.experiments.grid_points import GridPoint


def model_point(**changes):
    sizes = {"batch_size": 3, "context_length": 5, "d_model": 12, "num_heads": 3, "d_head": 4}
    sizes |= {"num_layers": 2, "d_ff": 11, "vocab_size": 17, "attention": "sdpa", "optimizer": "adamw"}
    return GridPoint(**{"subject": "model", "phases": SUBJECTS["model"].phases, **sizes, **changes})
