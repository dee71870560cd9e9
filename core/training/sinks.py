"""Where the rows of a run go while it trains. The loop knows none of them."""

from typing import Any, Protocol

from core.config import RunConfig, to_dict
from core.records import RunRow, StepRow


class Sink(Protocol):
    """Something that follows a run."""

    def row(self, row: StepRow) -> None:
        """Take a step's row."""

    def finish(self, run: RunRow) -> None:
        """Take the run's row; nothing follows."""


class WandbSink:
    """Weights & Biases as a mirror of what is on disk anyway; imported only when it is used.

    Args:
        config: Logged whole.
        run_id: The run's id there too, so that a resumed run continues the same curve.
        mode: `online` or `offline`.
        project: Where the run is listed.
        folder: Where wandb keeps its files.

    Raises:
        ValueError: If wandb cannot start: no key, no connection, no room.
    """

    def __init__(self, config: RunConfig, run_id: str, mode: str, project: str, folder: str) -> None:
        import wandb

        try:
            self._run = wandb.init(
                project=project,
                id=run_id,
                name=run_id,
                config=to_dict(config),
                mode=mode,
                dir=folder,
                resume="allow" if mode == "online" else None,
                settings=wandb.Settings(silent=True),
            )
        except wandb.errors.Error as error:
            raise ValueError(f"Weights & Biases cannot start: {error} (--wandb offline needs neither)") from None

    def row(self, row: StepRow) -> None:
        """Log every measured value under the step's own number."""
        values: dict[str, Any] = {
            name: getattr(row, name)
            for name in row.__slots__
            if name not in ("run_id", "step") and getattr(row, name) is not None
        }
        self._run.log(values, step=row.step)

    def finish(self, run: RunRow) -> None:
        """Store the final values and close the run."""
        for name in run.__slots__:
            if name != "config_json":
                self._run.summary[name] = getattr(run, name)
        self._run.finish(exit_code=0 if run.status != "diverged" else 1)
