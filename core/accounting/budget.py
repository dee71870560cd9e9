"""Solving for what fits: the largest batch or context within a device's memory."""

from collections.abc import Callable

from core.accounting.account import account
from core.accounting.memory import peak
from core.config import ModelConfig

LARGEST = 2**40


def peak_bytes(model: ModelConfig, **workload: int | str | bool | None) -> int:
    """Bytes alive at the peak of a training step; arguments as those of `account`."""
    return peak(account(model, **workload)).total


def largest_batch_size(model: ModelConfig, memory_bytes: int, **workload: int | str | bool | None) -> int:
    """The largest batch whose training step fits.

    Args:
        model: The architecture.
        memory_bytes: What there is.
        workload: Further arguments of `account`, `batch_size` left out.

    Returns:
        Sequences; 0 if not even one fits.
    """
    return largest_that_fits(lambda size: peak_bytes(model, **workload, batch_size=size), memory_bytes)


def largest_seq(model: ModelConfig, memory_bytes: int, **workload: int | str | bool | None) -> int:
    """The longest sequence whose training step fits, at the given batch size; it may exceed the model's context.

    Returns:
        Tokens; 0 if not even one fits.
    """
    return largest_that_fits(lambda size: peak_bytes(model, **workload, seq=size), memory_bytes)


def largest_that_fits(cost: Callable[[int], int], limit: int) -> int:
    """The largest number from 1 whose cost does not exceed the limit, for a cost that grows; 0 if that of 1 does.

    Between a number that fits and one that does not, the next guess is where a straight line through both meets the
    limit (costs are nearly straight), every other time the middle, so that a crooked cost cannot hold it up.
    """
    low, high, low_cost = 1, 2, cost(1)
    if low_cost > limit:
        return 0
    while (high_cost := cost(high)) <= limit:
        if high >= LARGEST:
            return high
        low, low_cost, high = high, high_cost, 8 * high
    straight = True
    while high - low > 1:
        guess = low + (limit - low_cost) * (high - low) // (high_cost - low_cost) if straight else (low + high) // 2
        guess, straight = min(max(guess, low + 1), high - 1), not straight
        if (guess_cost := cost(guess)) <= limit:
            low, low_cost = guess, guess_cost
            # On a straight line the very next number is too large already.
            if high - low > 1 and (next_cost := cost(low + 1)) > limit:
                high, high_cost = low + 1, next_cost
        else:
            high, high_cost = guess, guess_cost
    return low
