"""AdamW's update on the CPU: one loop over the elements, compiled by Numba, in all threads that PyTorch may use.

Every rounding is IEEE 754's and no product is fused with a sum, so that every processor gets the same weights.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import torch

from core.optim.adamw_plain import Coefficients, Slot

_DTYPES = {torch.float32: np.float32, torch.float64: np.float64}
_MOST_THREADS = 8  # a few saturate the memory, and each costs the time to start it
_LEAST_SHARE = 2**17  # elements for which a thread is worth starting


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _update(weight, gradient, mean, mean_square, numbers):
    decay, gradient_weight, beta2, square_weight = numbers[0], numbers[1], numbers[2], numbers[3]
    square_correction, eps, step_size = numbers[4], numbers[5], numbers[6]
    for i in range(weight.size):
        g = gradient[i]
        m = mean[i] + gradient_weight * (g - mean[i])
        v = mean_square[i] * beta2 + square_weight * g * g
        mean[i] = m
        mean_square[i] = v
        weight[i] = weight[i] * decay + step_size * m / (math.sqrt(v / square_correction) + eps)


def takes(slot: Slot) -> bool:
    """Whether the loop can update this parameter: contiguous, float32 or float64 throughout."""
    dtype = slot.weight.dtype
    return dtype in _DTYPES and all(tensor.dtype == dtype and tensor.is_contiguous() for tensor in slot)


def update(slots: list[Slot], numbers: Coefficients) -> None:
    """Update parameters, all threads together, each a contiguous share of the elements."""
    arrays = [[tensor.detach().view(-1).numpy() for tensor in slot] for slot in slots]
    rounded = {dtype: np.array(numbers, dtype) for dtype in _DTYPES.values()}

    def work(share: list[tuple[int, int, int]]) -> None:
        for place, start, stop in share:
            parts = [array[start:stop] for array in arrays[place]]
            _update(*parts, rounded[parts[0].dtype.type])

    sizes = [slot.weight.numel() for slot in slots]
    threads = max(1, min(torch.get_num_threads(), _MOST_THREADS, sum(sizes) // _LEAST_SHARE))
    shares = list(_shares(sizes, threads))
    if threads == 1:
        work(shares[0])
        return
    with ThreadPoolExecutor(threads - 1) as pool:
        others = [pool.submit(work, share) for share in shares[1:]]
        work(shares[0])
    for other in others:
        other.result()


def _shares(sizes: list[int], threads: int) -> Iterator[list[tuple[int, int, int]]]:
    """Cut all elements, laid end to end, into equal shares: lists of (place, start, stop).

    >>> list(_shares([3, 5], 2))
    [[(0, 0, 3), (1, 0, 1)], [(1, 1, 5)]]
    """
    total = sum(sizes)
    for thread in range(threads):
        first, last = total * thread // threads, total * (thread + 1) // threads
        share, before = [], 0
        for place, size in enumerate(sizes):
            start, stop = max(first - before, 0), min(last - before, size)
            if start < stop:
                share.append((place, start, stop))
            before += size
        yield share
