"""Questions of benchmark rows: what is best, how it scales, what limits it, how well it was predicted."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from core.benchmarks.sets import AXES, SCHEMA

REGIMES = {"FLOP": "compute", "B": "bandwidth"}
"""What a term of a fitted time stands for, by its unit; every other unit is a count: of launches."""
LAUNCHES = "launches"

WAYS = ("machine", "source", "precision", "attention", "compiled", "optimizer")
"""Columns whose values are compared two by two."""
_FIXED = ["source", "machine", "subject", "phase", *AXES]
_SIZES = [name for name in AXES if SCHEMA[name] == pl.Int64]
_MOVING = {"d_model": ("d_head",), "num_heads": ("d_head",), "width": ("d_model", "num_heads", "d_ff")}
SCALING = {
    **{axis: (axis, [name for name in _FIXED if name not in (axis, *_MOVING.get(axis, ()))]) for axis in _SIZES},
    "width": ("d_model", [*(name for name in _FIXED if name not in _MOVING["width"]), "d_ff_ratio"]),
}
"""What a configuration is scaled in: the axis drawn and all that must be equal. `width` widens the model as a whole:
heads as wide as they were, d_ff in proportion. Along d_model or the number of heads alone, the width of heads moves."""


def pareto(rows: pl.DataFrame, cost: str = "used_bytes", gain: str = "tokens_per_s") -> pl.DataFrame:
    """The rows that no other row of the same machine beats: none has as little cost and more gain, or the reverse.

    Equal rows stand or fall together. Rows in which either is null are left out.

    Returns:
        The frontier, machine by machine, in the order of rising cost; its gain rises with it.
    """
    known = rows.drop_nulls([cost, gain])
    best = known.group_by("machine", cost).agg(pl.col(gain).max()).sort("machine", cost)
    before = pl.col(gain).cum_max().shift(1).over("machine")
    frontier = best.filter(before.is_null() | (pl.col(gain) > before))
    return known.join(frontier, on=["machine", cost, gain], how="semi").sort("machine", cost, maintain_order=True)


def scaling_groups(rows: pl.DataFrame, axis: str) -> pl.DataFrame:
    """Rows that differ in one axis alone, together with those that they differ from.

    Args:
        rows: As `load_benchmarks` returns them.
        axis: One of `SCALING`.

    Returns:
        The rows of every group that has two values of the axis at least, sorted along it, with `x` (the value) and
        `group` (what the rows of a group have in common, as text). Nothing is averaged.

    Raises:
        ValueError: If there is no such axis.
    """
    if axis not in SCALING:
        raise ValueError(f"axis is {axis!r}: one of {', '.join(SCALING)}")
    column, held = SCALING[axis]
    ratio = (pl.col("d_ff") / pl.col("d_model")).alias("d_ff_ratio")
    told = [name for name in held if name not in ("source", "subject")]
    names = {name: AXES.get(name, name) for name in told}
    values = (
        pl.concat_str([pl.lit(names[name] + " "), pl.col(name).cast(pl.String).fill_null("none")]) for name in told
    )
    return (
        rows.drop_nulls([column, "median_s"])
        .with_columns(ratio)
        .filter(pl.col(column).n_unique().over(held) > 1)
        .with_columns(x=pl.col(column), group=pl.concat_str(list(values), separator=", "))
        .sort("group", "source", "x")
    )


def scaling_axes(rows: pl.DataFrame) -> dict[str, int]:
    """How many groups there are to draw along each axis of `SCALING`; those with none are left out."""
    counts = {axis: scaling_groups(rows, axis).select("source", "group").n_unique() for axis in SCALING}
    return {axis: number for axis, number in counts.items() if number}


def comparable(rows: pl.DataFrame) -> dict[str, tuple[str, str, str]]:
    """What can be compared: two machines, result sets, precisions ... with configurations in common.

    Returns:
        By a name: the column and its two values, as `compare` takes them; in each column first those with the most.
    """
    found = {}
    for by in WAYS:
        values = sorted(rows[by].drop_nulls().unique().cast(pl.String).to_list())
        pairs = [(by, one, other) for place, one in enumerate(values) for other in values[place + 1 :]]
        sizes = {pair: compare(rows, *pair).height for pair in pairs}
        pairs = sorted((pair for pair in pairs if sizes[pair]), key=lambda pair: -sizes[pair])
        found |= {f"{by}: {one} | {other}": (by, one, other) for by, one, other in pairs}
    return found


def compare(rows: pl.DataFrame, by: str, one: str, other: str) -> pl.DataFrame:
    """The same configuration under two values of a column: on two devices, with two implementations of attention.

    Args:
        rows: As `load_benchmarks` returns them.
        by: `machine`, `source` or one of `AXES`.
        one: A value of it, as text.
        other: Another.

    Returns:
        A row for each pair: `label`, the axes, `one_s` and `other_s` (medians), `times` (one / other: above 1 the other
        is faster).
    """
    # Between machines, sources differ as a matter of course.
    held = [name for name in _FIXED if name != by and not (name == "source" and by == "machine")]
    held = [name for name in held if not (name == "machine" and by == "source")]
    measured = rows.drop_nulls(["median_s", by]).with_columns(pl.col(by).cast(pl.String))
    first, second = (measured.filter(pl.col(by) == value) for value in (one, other))
    return (
        first.join(second.select(*held, other_s="median_s"), on=held, how="inner", nulls_equal=True)
        .rename({"median_s": "one_s"})
        .with_columns(times=pl.col("one_s") / pl.col("other_s"))
        .select("label", "phase", *AXES, "one_s", "other_s", "times")
        .sort("times")
    )


def top_k(rows: pl.DataFrame, k: int, by: str = "tokens_per_s") -> pl.DataFrame:
    """The k rows with the most of a column, the most first."""
    return rows.drop_nulls(by).sort(by, descending=True, maintain_order=True).head(k)


def regimes(terms: Sequence[Mapping[str, float]], units: Mapping[str, str]) -> list[dict[str, Any]]:
    """What limits each row, from the terms of its fitted time.

    Args:
        terms: Of each row, the seconds of each feature.
        units: Of each feature.

    Returns:
        For each row the shares (0 to 1) of `compute`, `bandwidth` and `launches`, and `regime`, the largest; for a time
        without terms, no shares and the regime `unknown`.
    """
    found = []
    for row in terms:
        shares = dict.fromkeys([*REGIMES.values(), LAUNCHES], 0.0)
        for name, seconds in row.items():
            shares[REGIMES.get(units[name], LAUNCHES)] += seconds
        total = sum(shares.values())
        if total > 0:
            shares = {name: seconds / total for name, seconds in shares.items()}
            found.append(shares | {"regime": max(shares, key=lambda name: shares[name])})
        else:
            found.append(dict.fromkeys(shares) | {"regime": "unknown"})
    return found


def error_table(rows: pl.DataFrame, predicted: str) -> pl.DataFrame:
    """How far predictions are from measurements, machine by machine.

        error = |predicted - measured| / measured

    Args:
        rows: With `median_s`, `memory_pressure` and the column of predictions; rows in which time or prediction is null
            are left out.
        predicted: That column, in seconds.

    Returns:
        For each machine a line of all its rows and one of those not under memory pressure (`of`): `rows`,
        `median_error`, `mean_error`, `p90_error` and `above` (the share of predictions above the measurement).
    """
    known = rows.drop_nulls([predicted, "median_s"]).with_columns(error=pl.col(predicted) / pl.col("median_s") - 1)
    calm = known.filter(~pl.col("memory_pressure").fill_null(False))
    size = pl.col("error").abs()
    return (
        pl.concat([known.with_columns(of=pl.lit("all")), calm.with_columns(of=pl.lit("not flagged"))])
        .group_by("machine", "of")
        .agg(
            rows=pl.len(),
            median_error=size.median(),
            mean_error=size.mean(),
            p90_error=size.quantile(0.9, "linear"),
            above=(pl.col("error") > 0).mean(),
        )
        .sort("machine", "of")
    )


def shares(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """What the fitted time of each row consists of, those with the most compute first.

    Args:
        rows: With the shares and the regime that `regimes` finds; those without are left out.

    Returns:
        A row for each of them and each part: `order` (from 0), `part`, `share`, `label`, `phase`, `machine`,
        `median_s`.
    """
    parts = [*REGIMES.values(), LAUNCHES]
    known = rows.drop_nulls(parts).sort("compute", descending=True, maintain_order=True).with_row_index("order")
    told = ["order", "label", "phase", "machine", "median_s"]
    return known.unpivot(parts, index=told, variable_name="part", value_name="share").to_dicts()
