"""Curves for charts: smoothing, spread and thinning, on plain lists; what a run's rows say of its speed."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

_UNIT = 2**50
"""In which `smooth` counts: 2^-50 of a nat is finer than what single precision tells of a loss."""


def smooth(positions: Sequence[int], values: Sequence[float | None], half_width: float) -> list[float | None]:
    """Local linear regression: at each position a straight line, by least squares, to the values around it.

        smoothed_n = a,   (a, b) = argmin sum_i (value_i - a - b d_i)^2,   d_i = position_i - position_n
                   = (S_2 T_0 - S_1 T_1) / (S_2 S_0 - S_1^2),   S_k = sum_i d_i^k,   T_k = sum_i d_i^k value_i

    over the i with |d_i| <= h_n = min(half_width, (position_n - position_first) / 3). Unlike a moving average it does
    not lag, and at an end, where half of the window is missing, a line is still that line. The window narrows towards
    the start, where a loss falls most steeply: of a power law 1 / position^p, as learning curves are, the curvature
    lifts it by about p (p + 1) / 54 of itself. Gaps stay gaps; no result leaves the values' range.

    Args:
        positions: Where the values were measured, in rising order: steps, say. They need not be evenly spaced.
        values: Finite, or None where nothing was measured.
        half_width: In the unit of the positions; so far to either side values count. 0 returns the values.

    Raises:
        ValueError: If there are more of the ones than of the others.

    Reference:
        Hastie, Tibshirani & Friedman (2009), The Elements of Statistical Learning, section 6.1.1, with a kernel that
        is 1 in the window.

    >>> smooth([1, 2, 3, 4, 5], [8.0, 4.0, 3.0, 2.0, 4.0], half_width=1)
    [8.0, 4.0, 3.0, 3.0, 4.0]
    """
    if len(positions) != len(values):
        raise ValueError(f"{len(positions)} positions for {len(values)} values: as many are needed")
    # Sums of integers are exact: a value that leaves the window leaves no rounding error behind.
    points = [(at, _exact(value)) for at, value in zip(positions, values, strict=True) if value is not None]
    if not points:
        return list(values)
    start = here = points[0][0]
    known = [value for value in values if value is not None]
    lowest, highest = min(known), max(known)
    first = last = 0  # the window is points[first:last]
    s0 = s1 = s2 = t0 = t1 = 0
    fitted = []
    for (position, _), value in zip(points, known, strict=True):
        move, here = position - here, position
        s2 += move * (move * s0 - 2 * s1)
        s1 -= move * s0
        t1 -= move * t0
        reach = min(half_width, (position - start) / 3)
        while last < len(points) and points[last][0] - position <= reach:
            d, entering = points[last][0] - position, points[last][1]
            s0, s1, s2, t0, t1 = s0 + 1, s1 + d, s2 + d * d, t0 + entering, t1 + d * entering
            last += 1
        while position - points[first][0] > reach:
            d, leaving = points[first][0] - position, points[first][1]
            s0, s1, s2, t0, t1 = s0 - 1, s1 - d, s2 - d * d, t0 - leaving, t1 - d * leaving
            first += 1
        determinant = s2 * s0 - s1 * s1
        fit = (s2 * t0 - s1 * t1) / (_UNIT * determinant) if determinant else value
        fitted.append(min(max(fit, lowest), highest))
    smoothed = iter(fitted)
    return [None if value is None else next(smoothed) for value in values]


def _exact(value: float) -> int:
    """A value in units of 1 / _UNIT, however large it is."""
    whole = math.floor(value)
    return whole * _UNIT + round((value - whole) * _UNIT)


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
