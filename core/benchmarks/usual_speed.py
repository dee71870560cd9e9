"""Times of benchmark rows at the speed that the machine usually had, and how well repeats of a row agree."""

import math
import statistics
from collections.abc import Mapping
from typing import Any

import polars as pl

_MACHINE = ["device_name", "num_threads", "precision"]
_TIMES = ("median_s", "iqr_s", "relative_median", "relative_iqr", "reference_s")


def at_usual_speed(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows with the times that they would have if the machine had always been as fast as it usually was.

        median_s = relative_median usual        iqr_s = relative_iqr usual
        usual    = median of reference_s over the rows of the same machine and precision

    A shared machine is now faster, now slower; the reference product that was timed beside each round tells by how
    much, and what is compared should not depend on the minute in which it was measured.

    Args:
        frame: Rows of the table `benchmarks`, or others, which stay as they are: they have no reference.

    Returns:
        The rows, with the times of the clock in `clock_s` and `clock_iqr_s`.
    """
    if "median_s" not in frame.columns:
        return frame
    spread = pl.col("iqr_s") if "iqr_s" in frame.columns else pl.lit(None, pl.Float64)
    frame = frame.with_columns(clock_s=pl.col("median_s"), clock_iqr_s=spread)
    numbers = {name for name, dtype in frame.schema.items() if dtype.is_numeric()}
    if not (numbers.issuperset(_TIMES) and set(frame.columns).issuperset(_MACHINE)):
        return frame
    usual = pl.col("reference_s").median().over(_MACHINE)
    times = {"median_s": "relative_median", "iqr_s": "relative_iqr"}
    return frame.with_columns(
        pl.when(pl.col("relative_median").is_null()).then(name).otherwise(pl.col(relative) * usual).alias(name)
        for name, relative in times.items()
    )


def repeat_error(row: Mapping[str, Any]) -> float | None:
    """The standard error of the logarithm of a row's relative median.

        standard deviation over the n visits of log(median of the visit's relative times) / sqrt(n)

    What a row says differs by about so much from what endless repeats would say; no prediction can be nearer to it.

    Args:
        row: With the columns of `BenchmarkRow`.

    Returns:
        None for a row with fewer than two visits.
    """
    by_visit: dict[int, list[float]] = {}
    rounds = (row.get(name) or () for name in ("round_visit", "round_s", "round_reference_s"))
    for visit, seconds, reference_s in zip(*rounds, strict=True):
        by_visit.setdefault(visit, []).append(seconds / reference_s)
    if len(by_visit) < 2:
        return None
    visits = [math.log(statistics.median(each)) for each in by_visit.values()]
    return statistics.stdev(visits) / math.sqrt(len(visits))


def noise_floor(errors: list[float | None]) -> float | None:
    """The mean |error| that a perfect prediction would show, given each row's standard error.

        mean of sqrt(2 / pi) sigma,   the mean of |x| for a normal x of standard deviation sigma

    Returns:
        None where no row was repeated.
    """
    known = [error for error in errors if error is not None]
    return math.sqrt(2 / math.pi) * statistics.fmean(known) if known else None
