"""Curves for charts: smoothing, spread and thinning, on plain lists; what a run's rows say of its speed."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any


def smooth(positions: Sequence[float], values: Sequence[float | None], time_constant: float) -> list[float | None]:
    """Exponential moving average, corrected for its start; gaps stay gaps.

        average_n = sum_i w_i value_i / sum_i w_i,   w_i = exp(-(position_n - position_i) / time_constant),   i <= n

    The correction is the division by the weights there are: a constant stays that constant from its first value on.

    Args:
        positions: Where the values were measured, in order: steps, say. They need not be evenly spaced.
        values: None where nothing was measured.
        time_constant: In the unit of the positions; so far back a value counts 1/e. 0 returns the values.

    Raises:
        ValueError: If there are more of the ones than of the others.

    >>> [round(value, 3) for value in smooth([1, 2], [4.0, 8.0], time_constant=1)]
    [4.0, 6.924]
    """
    if len(positions) != len(values):
        raise ValueError(f"{len(positions)} positions for {len(values)} values: as many are needed")
    if time_constant <= 0:
        return list(values)
    total = weight = last = 0.0
    smoothed: list[float | None] = []
    for position, value in zip(positions, values, strict=True):
        if value is None:
            smoothed.append(None)
            continue
        keep = math.exp((last - position) / time_constant) if weight else 0.0
        total, weight, last = total * keep + value, weight * keep + 1, position
        smoothed.append(total / weight)
    return smoothed


def thin(rows: Sequence[dict[str, Any]], most: int, always: str) -> list[dict[str, Any]]:
    """At most about `most` rows, evenly spread; first, last and all rows where `always` is not None stay.

    Args:
        rows: In order.
        most: How many of the other rows are kept.
        always: Name of the column that protects a row.
    """
    stride = max(1, -(-len(rows) // most))
    last = len(rows) - 1
    return [
        row for place, row in enumerate(rows) if place % stride == 0 or place == last or row.get(always) is not None
    ]


@dataclass(frozen=True, slots=True)
class Spread:
    """Values of which many lie close together."""

    position: float
    """Mean of theirs."""
    count: int
    low: float
    """First quartile; of a single value, the value."""
    median: float
    high: float
    """Third quartile."""


def spread(positions: Sequence[float], values: Sequence[float], bins: int) -> list[Spread]:
    """Median and quartiles of values in stretches of equal length, in order; stretches without values are left out.

    Args:
        positions: Where the values were measured, in order.
        values: As many, none missing.
        bins: Into how many stretches first to last position are cut.

    >>> [(part.position, part.median) for part in spread([0, 1, 2, 9, 10], [3, 5, 100, 7, 8], bins=2)]
    [(1.0, 5), (9.5, 7.5)]
    """
    length = (positions[-1] - positions[0]) / bins if positions else 0.0
    groups: dict[int, list[tuple[float, float]]] = {}
    for position, value in zip(positions, values, strict=True):
        place = min(bins - 1, int((position - positions[0]) / length)) if length else 0
        groups.setdefault(place, []).append((position, value))
    return [
        Spread(
            statistics.fmean(position for position, _ in group),
            len(group),
            *quartiles([value for _, value in group]),
        )
        for _, group in sorted(groups.items())
    ]


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median and third quartile, interpolated between values (numpy's default).

    >>> quartiles([1, 2, 3, 4, 5])
    (2.0, 3, 4.0)
    """
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, statistics.median(values), high


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a run, or a stretch of it, went."""

    tokens_per_s: float
    """Of the median step."""
    low: float
    """First quartile of the steps' tokens per second."""
    high: float
    """Third quartile."""
    flop_per_s: float
    """Of the median step: training FLOP, non-causal model convention."""
    stall_share: float | None
    """Of the time of steps, what was spent waiting for batches; None where it was not recorded."""
    resumes: tuple[int, ...]
    """The first step after each time that the run was resumed."""


def speed(rows: Sequence[Mapping[str, Any]]) -> Speed | None:
    """The speed of steps; None where no step measured any.

        step_s = (tokens / step) / tokens_per_s,   stall_share = sum stall_s / sum step_s

    The median step stands for all: a compilation, or another program on the machine, moves a mean.

    Args:
        rows: Of table `steps`, of one run, in order.
    """
    timed = [row for row in rows if row["tokens_per_s"]]
    if not timed:
        return None
    low, median, high = quartiles([row["tokens_per_s"] for row in timed])
    last = timed[-1]
    stalled = [row for row in timed if row.get("stall_s") is not None]
    stalled_s = sum(row["stall_s"] for row in stalled)
    steps_s = sum(row["tokens"] / row["step"] / row["tokens_per_s"] for row in stalled)
    resumes = [row["step"] for before, row in pairwise(rows) if row["segment"] > before["segment"]]
    return Speed(
        tokens_per_s=median,
        low=low,
        high=high,
        flop_per_s=median * (last["model_flop"] / last["tokens"]),
        stall_share=stalled_s / steps_s if stalled else None,
        resumes=tuple(resumes),
    )
