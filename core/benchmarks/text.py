"""Benchmark rows as people read them: headings and numbers of a table."""

from collections.abc import Callable
from typing import Any

import polars as pl

from core.accounting.text import bytes_text, count, duration
from core.benchmarks.sets import AXES

TITLES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "median_s": ("median time", duration),
    "iqr_s": ("IQR", duration),
    "used_bytes": ("memory", bytes_text),
    "one_s": ("first", duration),
    "other_s": ("second", duration),
    "times": ("first / second", "{:.2f}".format),
    "tokens_per_s": ("tokens/s", count),
    "tokens_per_s_per_gib": ("tokens/s per GiB", count),
    "median_error": ("median error", "{:.1%}".format),
    "mean_error": ("mean error", "{:.1%}".format),
    "p90_error": ("p90 error", "{:.1%}".format),
    "above": ("predicted too slow", "{:.0%}".format),
}
"""Heading and form of each column that has them."""


def readable(rows: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, Callable[[Any], str]]]:
    """Rows with headings for names, and how the numbers under each heading are written; nothing stands for null."""

    def some(form: Callable[[Any], str]) -> Callable[[Any], str]:
        return lambda value: "" if value is None else form(value)

    told = {name: TITLES[name] for name in rows.columns if name in TITLES}
    headings = {name: heading for name, heading in AXES.items() if name in rows.columns}
    headings |= {name: heading for name, (heading, _) in told.items()}
    return rows.rename(headings), {heading: some(form) for heading, form in told.values()}


def status_line(rows: pl.DataFrame) -> str:
    """How many rows were measured and where, how many not and why, and what to be careful about (Markdown)."""
    measured = rows.filter(pl.col("median_s") > 0)
    left = rows.filter(pl.col("median_s").is_null()).group_by("status").len().sort("status")
    words = [f"**{measured.height} measured** on {', '.join(measured['machine'].unique().sort()) or 'no machine'}"]
    words += [f"{number} not ({status.replace('_', ' ')})" for status, number in left.rows()]
    noisy, apart = measured.filter("noisy").height, measured.filter(~pl.col("adds_up")).height
    words += [f"{noisy} noisy"] * bool(noisy)
    words += [f"{apart} whose phases do not add up to the step"] * bool(apart)
    return "; ".join(words) + "."
