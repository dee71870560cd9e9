"""Batches as a function of (seed, step) alone, and the random streams of a run."""

import numpy as np
import torch
from torch import Tensor

STREAMS = {"init": 0, "data": 1, "sampling": 2}
"""Separate streams, so that a model which draws more initial numbers still sees the same batches."""


def stream_seed(seed: int, stream: str) -> int:
    """The seed of one stream of a run."""
    return int(np.random.SeedSequence([seed, STREAMS[stream]]).generate_state(1)[0])


def check_long_enough(num_tokens: int, context_length: int, what: str) -> None:
    """Raise ValueError unless a token array holds one window and its last target."""
    if num_tokens < context_length + 1:
        raise ValueError(
            f"{what}: {num_tokens} tokens, but a window of model.context_length {context_length} needs "
            f"{context_length + 1} with its last target; shorten the context or bring more text"
        )


def window_starts(num_tokens: int, context_length: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Where the windows of a step begin: uniform over every place where one fits.

    Args:
        num_tokens: Length of the token array.
        context_length: Length of a window.
        batch_size: Windows wanted.
        seed: The run's.
        step: Counted from 0.
    """
    rng = np.random.default_rng([seed, STREAMS["data"], step])
    return rng.integers(0, num_tokens - context_length, size=batch_size)


def batch(
    tokens: np.ndarray, context_length: int, batch_size: int, seed: int, step: int, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Inputs and targets of a step.

    Returns:
        Two int64 tensors `batch seq`; a target is the token after its input.
    """
    starts = window_starts(len(tokens), context_length, batch_size, seed, step)
    windows = tokens[starts[:, None] + np.arange(context_length + 1)].astype(np.int64)
    pairs = torch.from_numpy(windows).to(device)
    return pairs[:, :-1], pairs[:, 1:]
