"""Result sets of benchmarks: our own rows and those of other programs as one frame."""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from core.accounting import account, peak
from core.accounting.phases import phase_cost
from core.benchmarks.usual_speed import at_usual_speed
from core.config import ModelConfig
from core.records import BenchmarkRow
from core.results import schema

AXES = {
    "batch_size": "batch size",
    "context_length": "context length",
    "d_model": "d_model",
    "num_heads": "heads",
    "d_head": "d_head",
    "num_layers": "layers",
    "d_ff": "d_ff",
    "vocab_size": "vocabulary",
    "precision": "precision",
    "attention": "attention",
    "compiled": "compiled",
    "optimizer": "optimizer",
}
"""What configurations differ in: column and name."""

SCHEMA = schema(BenchmarkRow)
_OURS = ["subject", "phase", "batch_size", "context_length", "precision", "status", "median_s", "device_name"]
_FOREIGN = ["batch_size", "seq_len", "d_model", "num_heads", "num_layers", "d_ff", "median_s"]
_ASSUMED = {"vocab_size": 10_000, "precision": "float32", "attention": "written_out", "optimizer": "adamw"}
"""What a foreign row means that does not say otherwise."""
_FEWEST_BLOCKS = 5


def load_benchmarks(
    results_dir: str | Path, others: Mapping[str, Path | bytes] | None = None
) -> tuple[pl.DataFrame, list[str]]:
    """Every row of `results/benchmarks/` and of other files.

    Args:
        results_dir: Where results lie.
        others: Further files by name: where they are, or what they hold.

    Returns:
        The rows with the columns of `BenchmarkRow` and those that `read_set` adds (the usual speed of a machine is that
        of all its rows together), and a line about each file that could not be read or read only in part.
    """
    sets = {path.name: path for path in sorted((Path(results_dir) / "benchmarks").glob("*.parquet"))}
    frames, problems = [pl.DataFrame(schema=SCHEMA).with_columns(source=pl.lit(""))], []
    for name, content in {**sets, **(others or {})}.items():
        try:
            frame, lines = _read_set(name, content)
        except ValueError as error:
            problems.append(str(error))
        else:
            frames.append(frame.with_columns(source=pl.lit(name)))
            problems += lines
    return _with_rates(pl.concat(frames)), problems


def sets_at(path: str) -> dict[str, Path]:
    """The parquet file at a path, or those in a folder, by name; none for an empty path.

    Raises:
        ValueError: If nothing is there.
    """
    if not path.strip():
        return {}
    place = Path(path.strip()).expanduser()
    found = sorted(place.glob("*.parquet")) if place.is_dir() else [place] * place.is_file()
    if not found:
        raise ValueError(f"path is {path.strip()!r}: there is no file and no folder with .parquet files")
    return {file.name: file for file in found}


def read_set(name: str, content: Path | bytes) -> tuple[pl.DataFrame, list[str]]:
    """One result set: rows of ours, of any version, or a table of training steps by another program.

    Times are those of the machine's usual speed (`at_usual_speed`). The columns added: `clock_s` and `clock_iqr_s` (the
    times as the clock had them), `source` (the name), `machine` (device and, of a CPU, threads), `tokens`,
    `tokens_per_s` with `low_tokens_per_s` and `high_tokens_per_s` (at the ends of the interquartile range about the
    median), `used_bytes` (measured peak, else predicted), `used` (which of the two), `tokens_per_s_per_gib`,
    `flop_per_s` (matrix products, non-causal), `intensity` (FLOP per ideal byte), `label`.

    Args:
        name: What messages call it.
        content: The parquet file: where it is, or its bytes.

    Returns:
        The rows, and a line about whatever is missing of them.

    Raises:
        ValueError: If it is no parquet file, lacks columns, or has them in other types.
    """
    frame, lines = _read_set(name, content)
    return _with_rates(frame.with_columns(source=pl.lit(name))), lines


def _read_set(name: str, content: Path | bytes) -> tuple[pl.DataFrame, list[str]]:
    """Its rows by `SCHEMA` alone."""
    try:
        frame = pl.read_parquet(io.BytesIO(content) if isinstance(content, bytes) else content)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"{name}: cannot be read ({str(error).splitlines()[0]})") from None
    try:
        if set(_OURS) <= set(frame.columns):
            lacking = [column for column in SCHEMA if column not in frame.columns]
            lines = [f"{name}: written by another version, without {', '.join(lacking)}"] if lacking else []
            return _complete(frame), lines
        if set(_FOREIGN) <= set(frame.columns):
            rows, lines = _foreign_rows(frame, name)
            return pl.DataFrame(rows, schema=SCHEMA), lines
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{name}: columns of other types than they should be ({str(error).splitlines()[0]})") from None
    wanted = min((_OURS, _FOREIGN), key=lambda names: len(set(names) - set(frame.columns)))
    lacking = [column for column in wanted if column not in frame.columns]
    raise ValueError(
        f"{name}: no result set, for it has no column {', '.join(lacking)}; needed are those of our own rows "
        f"({', '.join(_OURS)}, ...) or those of training steps ({', '.join(_FOREIGN)})"
    )


def _complete(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(
        pl.col(column).cast(dtype) if column in frame.columns else pl.lit(None, dtype).alias(column)
        for column, dtype in SCHEMA.items()
    )


def _foreign_rows(frame: pl.DataFrame, name: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Training steps of another program as rows of ours, with what the accounting says of each."""
    sizes = dict.fromkeys([*_FOREIGN[:-1], "vocab_size"], pl.Int64) | {"median_s": pl.Float64, "iqr_s": pl.Float64}
    frame = frame.with_columns(pl.col(column).cast(dtype) for column, dtype in sizes.items() if column in frame.columns)
    rows, refused = [], []
    for number, given in enumerate(frame.iter_rows(named=True)):
        try:
            rows.append(_foreign_row(given, number, name))
        except (ValueError, TypeError) as error:
            refused.append(f"row {number}: {error}")
    more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
    return rows, [f"{name}: left out {refused[0]}{more}"] if refused else []


def _foreign_row(given: dict[str, Any], number: int, name: str) -> dict[str, Any]:
    given = {**_ASSUMED, **{column: value for column, value in given.items() if value is not None}}
    seconds = given.get("median_s")
    if seconds is None or not seconds > 0:
        raise ValueError(f"median_s is {seconds}: it must be positive")
    if not given.get("batch_size", 0) > 0:
        raise ValueError(f"batch_size is {given.get('batch_size')}: it must be positive")
    sizes = {column: given[column] for column in ("d_model", "num_heads", "num_layers", "d_ff", "vocab_size")}
    model = ModelConfig(**sizes, context_length=given["seq_len"], attention=given["attention"])
    workload = {key: given[key] for key in ("batch_size", "precision", "optimizer")}
    costs = account(model, **workload)
    asked = phase_cost(costs, "step")
    stem = Path(name).stem
    # Fewer runs have no quartiles, whatever the file says.
    blocks = given.get("num_runs")
    spread = given.get("iqr_s") if blocks is None or blocks >= _FEWEST_BLOCKS else None
    return {
        **dict.fromkeys(SCHEMA),
        **{"bench_id": stem, "point_id": f"{stem}-{number}", "subject": "model", "phase": "step"},
        **sizes,
        **workload,
        **{"context_length": given["seq_len"], "d_head": model.d_head, "attention": given["attention"]},
        **{"compiled": bool(given.get("compiled", False)), "config_json": json.dumps(asdict(model))},
        **{"status": "ok", "median_s": seconds, "iqr_s": spread, "num_blocks": blocks},
        **{"predicted_peak_bytes": peak(costs).total, "predicted_flop": float(asked.flop)},
        **{"predicted_bytes": float(asked.ideal_bytes), "device_name": given.get("device_name", stem)},
        "device": given.get("device", "not said"),
    }


def _with_rates(frame: pl.DataFrame) -> pl.DataFrame:
    frame = at_usual_speed(frame)
    seconds, half = pl.col("median_s"), pl.col("iqr_s") / 2
    ending = pl.when(pl.col("num_threads") == 1).then(pl.lit("")).otherwise(pl.lit("s"))
    threads = pl.format("{}, {} thread{}", "device_name", "num_threads", ending)
    is_cpu = (pl.col("device") == "cpu") & pl.col("num_threads").is_not_null()
    named = {"batch_size": "B", "context_length": "T", "num_heads": "heads", "num_layers": "layers", "vocab_size": "V"}
    sizes = [name for name, dtype in SCHEMA.items() if name in AXES and dtype == pl.Int64]
    parts = [pl.format(named.get(name, name) + " {}", name) for name in sizes]
    subject = pl.when(pl.col("subject") != "model").then("subject")
    compiled = pl.when("compiled").then(pl.lit("compiled"))
    with_tokens = frame.with_columns(
        machine=pl.when(is_cpu).then(threads).otherwise("device_name"),
        tokens=pl.col("batch_size") * pl.col("context_length"),
        used_bytes=pl.coalesce("peak_bytes", "predicted_peak_bytes"),
        used=pl.when(pl.col("peak_bytes").is_not_null()).then(pl.lit("measured")).otherwise(pl.lit("predicted")),
        flop_per_s=pl.col("predicted_flop") / seconds,
        intensity=pl.col("predicted_flop") / pl.col("predicted_bytes"),
        label=pl.concat_str([subject, *parts, "attention", "precision", compiled], separator=", ", ignore_nulls=True),
    ).with_columns(
        tokens_per_s=pl.col("tokens") / seconds,
        low_tokens_per_s=pl.col("tokens") / (seconds + half),
        high_tokens_per_s=pl.col("tokens") / (seconds - half),
    )
    per_gib = pl.col("tokens_per_s") / (pl.col("used_bytes") / 2**30)
    return with_tokens.with_columns(tokens_per_s_per_gib=per_gib)
