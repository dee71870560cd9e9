"""Benchmark rows, ours and others', and the questions that a reader has of them. polars; no torch."""

from core.benchmarks.questions import (
    REGIMES,
    comparable,
    compare,
    error_table,
    pareto,
    regimes,
    scaling_axes,
    scaling_groups,
    shares,
    top_k,
)
from core.benchmarks.roof import utilisation
from core.benchmarks.sets import AXES, load_benchmarks, read_set, sets_at
from core.benchmarks.text import readable, status_line
from core.benchmarks.usual_speed import at_usual_speed, noise_floor, repeat_error

__all__ = [
    "AXES",
    "REGIMES",
    "at_usual_speed",
    "comparable",
    "compare",
    "error_table",
    "load_benchmarks",
    "noise_floor",
    "pareto",
    "read_set",
    "readable",
    "regimes",
    "repeat_error",
    "scaling_axes",
    "scaling_groups",
    "sets_at",
    "shares",
    "status_line",
    "top_k",
    "utilisation",
]
