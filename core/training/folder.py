"""The folder in which a run lives while it trains, and where it can be resumed and generate from. Needs no torch."""

import dataclasses
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

    def rows(self) -> list[StepRow]:
        """The rows so far; a last line torn by a crash is passed over."""
        if not self.records.exists():
            return []
        rows = []
        for line in self.records.read_text().splitlines():
            try:
                values = json.loads(line)
            except json.JSONDecodeError:
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
        return rows

    def latest_checkpoint(self) -> Path | None:
        """The checkpoint to resume from."""
        steps = self.checkpoint_steps()
        return self.checkpoint(steps[-1]) if steps else None

    def best_checkpoint(self) -> Path | None:
        """Of the checkpoints that were evaluated the one with the lowest loss."""
        saved = set(self.checkpoint_steps())
        evaluated = [
            (row.eval_loss_nats, row.step)
            for row in self.rows()
            if row.step in saved and row.eval_loss_nats is not None and math.isfinite(row.eval_loss_nats)
        ]
        return self.checkpoint(min(evaluated)[1]) if evaluated else None

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
        paths = self.checkpoints.glob(f"{_PREFIX}*")
        return sorted(int(path.name.removeprefix(_PREFIX)) for path in paths if path.is_dir())


def run_folder(data_dir: str | os.PathLike[str], run_id: str) -> RunFolder:
    """The folder of a run, whether it exists or not."""
    return RunFolder(Path(data_dir) / "runs" / run_id)


def to_line(row: StepRow) -> str:
    """A row as a line of `records.jsonl`."""
    return json.dumps(dataclasses.asdict(row)) + "\n"
