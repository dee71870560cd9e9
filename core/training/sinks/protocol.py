"""What a sink is, and what of a row it shows."""

from typing import Protocol

from core.records import RunRow, StepRow


class Sink(Protocol):
    """Something that follows a run."""

    def row(self, row: StepRow) -> None:
        """Take a step's row."""

    def finish(self, run: RunRow) -> None:
        """Take the run's row; nothing follows."""


def measured(row: StepRow | RunRow) -> dict[str, float | str]:
    """What a row measured, by name: no nulls, and not what names the row (run, step, configuration)."""
    values = {name: getattr(row, name) for name in row.__slots__ if name not in ("run_id", "step", "config_json")}
    return {name: value for name, value in values.items() if value is not None}
