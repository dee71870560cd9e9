"""Rows of a parquet file, ours or another's, as workloads to fit to or to predict."""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from core.accounting import Account, account
from core.accounting.phases import PHASES
from core.accounting.policies import choose
from core.benchmarks.usual_speed import at_usual_speed, repeat_error
from core.config import ModelConfig, from_dict

SIZES = ("batch_size", "context_length", "d_model", "num_heads", "num_layers", "d_ff")
"""Columns that every file must have; `seq_len` is another name of `context_length`."""
ABSENT = {
    "vocab_size": 10_000,
    "attention": "written_out",
    "precision": "float32",
    "optimizer": "adamw",
    "phase": "step",
    "compiled": False,
}
"""What it means that a column is not there, or empty in a row."""
TIME = "median_s"


@dataclass(frozen=True, slots=True)
class Workload:
    """One row of a file."""

    row: int
    """Its place in the file, the first is 0."""
    costs: Account
    phase: str
    compiled: bool
    seconds: float | None
    """Measured, where it was, at the machine's usual speed."""
    repeat_error: float | None
    """The standard error of its logarithm, from repeats; None where it was not repeated."""

    @property
    def setting(self) -> str:
        """What has prices of its own: `step, float32`."""
        return ", ".join([self.phase, self.costs.precision, *(["compiled"] if self.compiled else [])])


@dataclass(frozen=True, slots=True)
class RowFile:
    """A file and those of its rows that are whole models."""

    frame: pl.DataFrame
    workloads: tuple[Workload, ...]
    device_name: str | None
    """None where the rows do not say."""
    memory_bytes: int | None
    """Of the device; None where the rows do not say."""


def read_workloads(path: str | os.PathLike[str], *, measured: bool) -> RowFile:
    """Read a file's rows of whole models; rows of our micro-benchmarks are passed over.

    Args:
        path: A parquet with the columns `SIZES`, of which any other may stand beside them (see `ABSENT`), or with those
            of our table `benchmarks`.
        measured: Whether each row needs a time; then rows whose `status` is not `ok` are passed over too.

    Raises:
        ValueError: If the file cannot be read, has not the columns or their types, a row describes no model or has no
            positive time, or no row is left; the message names file, column and row.
    """
    frame = _read(Path(path))
    names = {name: _column(path, frame, name) for name in SIZES}
    if measured:
        _check_time(path, frame)
    workloads = []
    for number, row in enumerate(at_usual_speed(frame).iter_rows(named=True)):
        if row.get("subject", "model") != "model" or (measured and row.get("status", "ok") != "ok"):
            continue
        try:
            workloads.append(_workload(number, row, names, measured))
        except ValueError as error:
            raise ValueError(f"{path}: row {number}: {error}") from None
    if not workloads:
        kind = "measured row of a whole model" if measured else "row of a whole model"
        raise ValueError(f"{path}: no {kind} among {frame.height} rows")
    kept = frame[[workload.row for workload in workloads]]
    return RowFile(frame, tuple(workloads), _device_name(path, kept, measured), _memory_bytes(path, kept))


def _read(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise ValueError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}; name a parquet file")
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"{path}: not a parquet file ({str(error).splitlines()[0]})") from None


def _column(path: str | os.PathLike[str], frame: pl.DataFrame, name: str) -> str:
    """What a column is called here, if it holds whole numbers."""
    here = "seq_len" if name == "context_length" and name not in frame.columns else name
    if here not in frame.columns:
        also = " (or seq_len)" if name == "context_length" else ""
        raise ValueError(f"{path}: no column {name}{also}; needed are {', '.join(SIZES)}")
    if not frame[here].dtype.is_integer():
        raise ValueError(f"{path}: column {here} is {frame[here].dtype}: it must hold whole numbers")
    return here


def _check_time(path: str | os.PathLike[str], frame: pl.DataFrame) -> None:
    if TIME not in frame.columns:
        raise ValueError(f"{path}: no column {TIME}: the measured seconds to fit to")
    if not frame[TIME].dtype.is_numeric():
        raise ValueError(f"{path}: column {TIME} is {frame[TIME].dtype}: it must hold seconds")


def _workload(number: int, row: dict[str, Any], names: dict[str, str], measured: bool) -> Workload:
    def given(column: str) -> Any:
        value = row.get(column)
        return ABSENT[column] if value is None else value

    phase, compiled = given("phase"), given("compiled")
    choose("phase", phase, PHASES)
    if type(compiled) is not bool:
        raise ValueError(f"compiled is {compiled!r}: it must be true or false")
    sizes = {name: row[here] for name, here in names.items()}
    for name, value in sizes.items():
        if value is None:
            raise ValueError(f"{names[name]} is empty")
    model = _model(row, sizes, given("vocab_size"), given("attention"))
    costs = account(
        model,
        batch_size=sizes["batch_size"],
        seq=sizes["context_length"],
        precision=given("precision"),
        optimizer=given("optimizer"),
    )
    seconds = row.get(TIME)
    if measured and not (seconds is not None and math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"{TIME} is {'empty' if seconds is None else seconds}: it must be positive seconds")
    seconds = float(seconds) if isinstance(seconds, int | float) else None
    return Workload(number, costs, phase, compiled, seconds, repeat_error(row))


def _model(row: dict[str, Any], sizes: dict[str, int], vocab_size: int, attention: str) -> ModelConfig:
    """The configuration that a row holds, else one of its columns."""
    if row.get("config_json") is not None:
        try:
            return from_dict(ModelConfig, json.loads(row["config_json"]))
        except (json.JSONDecodeError, TypeError) as error:
            raise ValueError(f"config_json is not JSON ({error})") from None
    fields = {name: value for name, value in sizes.items() if name != "batch_size"}
    d_head, heads = row.get("d_head"), max(1, sizes["num_heads"])
    other = d_head is not None and sizes["d_model"] != d_head * heads
    return ModelConfig(**fields, vocab_size=vocab_size, attention=attention, head_dim=d_head if other else None)


def _device_name(path: str | os.PathLike[str], rows: pl.DataFrame, measured: bool) -> str | None:
    if "device_name" not in rows.columns:
        return None
    found = sorted(rows["device_name"].drop_nulls().cast(pl.String).unique().to_list())
    if measured and len(found) > 1:
        raise ValueError(f"{path}: rows of {len(found)} devices ({', '.join(found)}): a fit is of one")
    return found[0] if len(found) == 1 else None


def _memory_bytes(path: str | os.PathLike[str], rows: pl.DataFrame) -> int | None:
    if "memory_bytes" not in rows.columns:
        return None
    if not rows["memory_bytes"].dtype.is_integer():
        raise ValueError(f"{path}: column memory_bytes is {rows['memory_bytes'].dtype}: it must hold whole numbers")
    return rows["memory_bytes"].min()
