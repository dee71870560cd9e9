"""Batches as a function of (seed, step) alone, and the random streams of a run."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor]

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
    tokens: np.ndarray,
    context_length: int,
    batch_size: int,
    seed: int,
    step: int,
    device: torch.device | str,
    *,
    rank: int = 0,
    world_size: int = 1,
) -> tuple[Tensor, Tensor]:
    """Inputs and targets of a step, or the slice of them that one of several processes trains on.

    Args:
        tokens: What windows are cut out of.
        context_length: Length of a window.
        batch_size: Windows of all processes together; a multiple of their number.
        seed: The run's.
        step: Counted from 0.
        device: Where they go; to a GPU through pinned memory, while it works on.
        rank: Which slice.
        world_size: How many slices.

    Returns:
        Two int64 tensors `batch seq`; a target is the token after its input.
    """
    size = batch_size // world_size
    starts = window_starts(len(tokens), context_length, batch_size, seed, step)[rank * size : (rank + 1) * size]
    windows = tokens[starts[:, None] + np.arange(context_length + 1)].astype(np.int64)
    pairs = torch.from_numpy(windows)
    if torch.device(device).type == "cuda":
        pairs = pairs.pin_memory()
    pairs = pairs.to(device, non_blocking=True)
    return pairs[:, :-1], pairs[:, 1:]


def prefetched(make: Callable[[int], Batch], steps: Iterable[int], ahead: int = 2) -> Iterator[tuple[Batch, float]]:
    """The batches of some steps in order, made in a thread of their own while others are trained on.

    Args:
        make: Makes the batch of a step; what it raises is raised where its batch would have come.
        steps: Whose batches.
        ahead: How many are made, or being made, before they are asked for.

    Returns:
        Each batch, and the seconds that were spent waiting for it.
    """
    waiting: deque[Future[Batch]] = deque()
    remaining = iter(steps)
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        try:
            while True:
                while len(waiting) < ahead and (step := next(remaining, None)) is not None:
                    waiting.append(pool.submit(make, step))
                if not waiting:
                    return
                began = time.perf_counter()
                made = waiting.popleft().result()
                yield made, time.perf_counter() - began
        finally:
            for future in waiting:
                future.cancel()
