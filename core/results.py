"""Reading and writing `results/`: one immutable parquet file per run (or other subject) and table."""

import dataclasses
import os
import types
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from core.files import atomic_path
from core.records import (
    BenchmarkRow,
    CompressionRow,
    DeviceRow,
    FrequencyRow,
    GrowthRow,
    MemoryRow,
    RunRow,
    SampleRow,
    StepRow,
    TokenizerSpeedRow,
    TrainSpeedRow,
)

RUN_TABLES: dict[str, type] = {"runs": RunRow, "steps": StepRow, "samples": SampleRow}
"""What a run writes, in files of its id."""
TABLES: dict[str, type] = {
    **RUN_TABLES,
    "devices": DeviceRow,
    "memory": MemoryRow,
    "tokenizer_speed": TokenizerSpeedRow,
    "tokenizer_compression": CompressionRow,
    "tokenizer_frequency": FrequencyRow,
    "tokenizer_growth": GrowthRow,
    "train_speed": TrainSpeedRow,
    "benchmarks": BenchmarkRow,
}

_DTYPES = {str: pl.String, int: pl.Int64, float: pl.Float64, bool: pl.Boolean, bytes: pl.Binary}


def schema(row_type: type) -> dict[str, pl.DataType]:
    """The polars schema of a row type: each field's type, optional or not (every parquet column may hold nulls)."""
    columns = {}
    for name, hint in typing.get_type_hints(row_type).items():
        options = [t for t in typing.get_args(hint) if t is not types.NoneType] or [hint]
        inner = typing.get_args(options[0])  # of a tuple of any length
        columns[name] = pl.List(_DTYPES[inner[0]]()) if inner else _DTYPES[options[0]]()
    return columns


def to_frame(rows: Sequence[Any], row_type: type) -> pl.DataFrame:
    """Rows as a frame with their type's schema, also when there are none."""
    return pl.DataFrame([dataclasses.asdict(row) for row in rows], schema=schema(row_type), strict=True)


def table_path(results_dir: str | os.PathLike[str], table: str, run_id: str) -> Path:
    """Where a run's rows of a table lie: `RESULTS/<table>/<run_id>.parquet`."""
    return Path(results_dir) / table / f"{run_id}.parquet"


def check_writable(results_dir: str | os.PathLike[str], tables: Iterable[str] = RUN_TABLES) -> None:
    """Raise OSError unless these tables can be written there; better now than after a week of training."""
    for table in tables:
        probe = Path(results_dir) / table / ".writable"
        with atomic_path(probe):
            pass
        probe.unlink()


def write_rows(results_dir: str | os.PathLike[str], table: str, run_id: str, rows: Sequence[Any]) -> Path:
    """Write a run's rows of a table, atomically.

    Raises:
        OSError: If the folder cannot be written; nothing is left behind then.
    """
    path = table_path(results_dir, table, run_id)
    frame = to_frame(rows, TABLES[table])
    with atomic_path(path) as temporary:
        try:
            frame.write_parquet(temporary)
        except pl.exceptions.PolarsError as error:  # polars' own, on a disk that is full
            raise OSError(f"{path}: cannot be written ({error})") from None
    return path


def read_table(results_dir: str | os.PathLike[str], table: str) -> tuple[pl.DataFrame, list[str]]:
    """All rows of a table, of every run.

    Columns that a file lacks (written by an older version) come back as nulls; columns that this version does not know
    are dropped.

    Returns:
        The rows, and a line about each file that could not be read.
    """
    frames, problems = [to_frame([], TABLES[table])], []
    for path in sorted((Path(results_dir) / table).glob("*.parquet")):
        try:
            frames.append(_read(path, TABLES[table]))
        except ValueError as error:
            problems.append(str(error))
    return pl.concat(frames), problems


def read_run(results_dir: str | os.PathLike[str], run_id: str) -> dict[str, Any] | None:
    """The row of one run; None if it has none."""
    rows = read_rows(results_dir, "runs", run_id)
    return rows[0] if rows else None


def read_rows(results_dir: str | os.PathLike[str], table: str, run_id: str) -> list[dict[str, Any]]:
    """A run's rows of one table, none if there is no file.

    Raises:
        ValueError: If the file cannot be read.
    """
    path = table_path(results_dir, table, run_id)
    return _read(path, TABLES[table]).to_dicts() if path.exists() else []


def _read(path: Path, row_type: type) -> pl.DataFrame:
    """A file with the columns of its row type, in their order and types."""
    try:
        frame = pl.read_parquet(path)
        return frame.select(
            pl.col(name).cast(dtype) if name in frame.columns else pl.lit(None, dtype).alias(name)
            for name, dtype in schema(row_type).items()
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
