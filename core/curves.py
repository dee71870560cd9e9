"""Curves for charts: smoothing and thinning, on plain lists."""

from collections.abc import Sequence
from typing import Any


def smooth(values: Sequence[float | None], half_life: float) -> list[float | None]:
    """Exponential moving average, corrected for its start; gaps stay gaps.

        average_n = sum_i w^(n - i) value_i / sum_i w^(n - i),   w = 2^(-1 / half_life)

    Args:
        values: In order; None where nothing was measured.
        half_life: After so many values a value counts half; 0 returns the values.

    >>> smooth([4.0, None, 8.0], half_life=1)
    [4.0, None, 6.666666666666667]
    """
    if half_life <= 0:
        return list(values)
    keep = 0.5 ** (1 / half_life)
    total = weight = 0.0
    smoothed: list[float | None] = []
    for value in values:
        if value is None:
            smoothed.append(None)
            continue
        total, weight = total * keep + value, weight * keep + 1
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
