"""The folder in which a run lives while it trains, and where it can be resumed and generate from. Needs no torch."""

import contextlib
import dataclasses
import json
import math
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from core.config import RunConfig, to_dict
from core.files import atomic_path, read_json, write_json
from core.records import StepRow

_PREFIX = "step-"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """`DATA/runs/<run_id>` and what lies in it."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def records(self) -> Path:
        """A JSON line per row so far (NaN and infinities as Python's reader knows them)."""
        return self.path / "records.jsonl"

    @property
    def tokenizer(self) -> Path:
        """The run's copy of its tokenizer."""
        return self.path / "tokenizer"

    @property
    def lock(self) -> Path:
        """The file on which the process that trains here holds a lock; it stays when the lock is gone."""
        return self.path / "lock"

    @property
    def lock_holder(self) -> Path:
        """Who holds the lock, as JSON."""
        return self.path / "lock.json"

    def rows(self) -> list[StepRow]:
        """The rows so far; a last line torn by a crash is passed over."""
        if not self.records.exists():
            return []
        rows = []
        for line in self.records.read_bytes().splitlines():
            try:
                values = json.loads(line)
            except ValueError:  # not JSON, or not even UTF-8
                break
            try:
                rows.append(StepRow(**values))
            except TypeError as error:
                raise ValueError(f"{self.records}: written by another version ({error}); train it --fresh") from None
        return rows

    def truncate(self, step: int) -> list[StepRow]:
        """Drop the rows past a step; those that stay are returned."""
        rows = [row for row in self.rows() if row.step <= step]
        with atomic_path(self.records) as temporary:
            temporary.write_text("".join(to_line(row) for row in rows))
        sync_folder(self.path)
        return rows

    def clear(self) -> None:
        """Remove everything but the lock, which whoever clears the folder should hold."""
        for path in self.path.glob("*"):
            if path.is_dir():
                shutil.rmtree(path)
            elif path not in (self.lock, self.lock_holder):
                path.unlink()

    def latest_checkpoint(self) -> Path | None:
        """The checkpoint to resume from."""
        steps = self.checkpoint_steps()
        return self.checkpoint(steps[-1]) if steps else None

    def best_checkpoint(self) -> Path | None:
        """Of the checkpoints that were evaluated the one with the lowest loss."""
        step = best_step(self.rows(), self.checkpoint_steps())
        return None if step is None else self.checkpoint(step)

    def write_description(self, config: RunConfig, document_start: str, floor_loss_nats: float | None) -> None:
        """Write `run.json`: what whoever follows the run, or generates from it, wants to know."""
        write_json(
            self.path / "run.json",
            {"config": to_dict(config), "document_start": document_start, "floor_loss_nats": floor_loss_nats},
        )

    def description(self) -> dict[str, Any]:
        """What `run.json` holds; empty before the run has begun."""
        path = self.path / "run.json"
        return read_json(path) if path.exists() else {}

    def checkpoint(self, step: int) -> Path:
        """The folder of the checkpoint after `step` steps."""
        return self.checkpoints / f"{_PREFIX}{step:08d}"

    def checkpoint_steps(self) -> list[int]:
        """Steps of which there are checkpoints, in order."""
        numbers = [path.name.removeprefix(_PREFIX) for path in self.checkpoints.glob(f"{_PREFIX}*") if path.is_dir()]
        return sorted(int(number) for number in numbers if number.isdecimal())


def run_folder(data_dir: str | os.PathLike[str], run_id: str) -> RunFolder:
    """The folder of a run, whether it exists or not."""
    return RunFolder(Path(data_dir) / "runs" / run_id)


def to_line(row: StepRow) -> str:
    """A row as a line of `records.jsonl`."""
    return json.dumps(dataclasses.asdict(row)) + "\n"


def write_row(file: BinaryIO, row: StepRow) -> None:
    """Append a row to `records.jsonl`, opened unbuffered: the system has it then, whatever becomes of the process.

    Raises:
        OSError: If it cannot be written whole; the message names path and cause.
    """
    line = to_line(row).encode()
    cause = "no space left"
    try:
        if file.write(line) == len(line):
            return
    except OSError as error:
        cause = error.strerror or str(error)
    raise OSError(f"{file.name}: the row of step {row.step} cannot be written ({cause}); those before it stand")


def best_step(rows: Iterable[StepRow], steps: Sequence[int]) -> int | None:
    """Of some steps the one whose evaluation loss is the lowest; None if none was evaluated."""
    among = set(steps)
    evaluated = [
        (row.eval_loss_nats, row.step)
        for row in rows
        if row.step in among and row.eval_loss_nats is not None and math.isfinite(row.eval_loss_nats)
    ]
    return min(evaluated)[1] if evaluated else None


def sync_folder(path: Path) -> None:
    """Force a folder's names to the disk, as `fsync` does a file's content; Windows has no such call."""
    with contextlib.suppress(PermissionError):  # Windows opens no folder
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
