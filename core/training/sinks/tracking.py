"""Trackers of experiments as mirrors of what is on disk anyway; each library is imported only when it is used."""

from collections.abc import Sequence

from core.config import RunConfig, to_dict
from core.records import RunRow, StepRow
from core.training.sinks.protocol import measured

INIT_TIMEOUT_S = 60.0
"""How long W&B may try to reach its server before it has failed."""
FINISH_TIMEOUT_S = 45.0
"""How long it may upload at the end, also when the process ends without `finish`; what is left can be synced later."""


class WandbSink:
    """Weights & Biases.

    Killed and resumed, an online run goes on under the same id. Offline there is no resuming: every session leaves an
    `offline-run-*` folder of its own with the same id and the run's own step numbers, and `wandb sync` of all of them
    makes one run. A killed process leaves what it had logged up to a second before.

    Args:
        config: Logged whole, nested.
        run_id: The run's id there too.
        mode: `online` or `offline`.
        project: Where the run is listed.
        folder: Where wandb keeps its files.
        tags: Labels to filter runs by.
        group: Shown as one with the other runs of that group.

    Raises:
        ValueError: If it is used wrongly, as far as this machine can tell: no API key, or one that cannot be.
        wandb.errors.Error: If it cannot start: no connection, a key that is refused, no room.
    """

    def __init__(
        self,
        config: RunConfig,
        run_id: str,
        mode: str,
        project: str,
        folder: str,
        *,
        tags: Sequence[str] = (),
        group: str | None = None,
    ) -> None:
        import wandb

        try:
            wandb.setup(wandb.Settings(silent=True))
            if mode == "online" and not wandb.login(prompt=False, verify=False):  # left alone it asks, and waits
                raise wandb.errors.UsageError("no API key (wandb login, or the variable WANDB_API_KEY)")
            self._run = wandb.init(
                project=project,
                id=run_id,
                name=run_id,
                config=to_dict(config),
                mode=mode,
                dir=folder,
                tags=list(tags),
                group=group,
                resume="allow" if mode == "online" else None,
                settings=wandb.Settings(
                    silent=True,
                    console="off",  # the bar redraws itself some ten times a second
                    init_timeout=INIT_TIMEOUT_S,
                    finish_timeout=FINISH_TIMEOUT_S,
                ),
            )
        except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
            raise ValueError(f"Weights & Biases cannot start: {error}; --wandb offline needs no account") from None

    def row(self, row: StepRow) -> None:
        """Log every measured value under the step's own number."""
        self._run.log(measured(row), step=row.step)

    def finish(self, run: RunRow) -> None:
        """Store the final values and close the run."""
        self._run.summary.update(measured(run))
        self._run.finish(exit_code=0 if run.status != "diverged" else 1)


class TrackioSink:
    """Trackio, which keeps a SQLite file of its own (`TRACKIO_DIR`) and shows it with `trackio show`.

    A resumed run goes on under its name. Steps that a killed one had logged past its last checkpoint are made again,
    with equal losses, and stand there twice.

    Args:
        config: Logged whole, nested, with the tags as one more field.
        run_id: The run's name there.
        project: Where the run is listed.
        tags: Labels; Trackio has none of its own.
        group: Shown as one with the other runs of that group.

    Raises:
        ValueError: If the package is not installed.
    """

    def __init__(
        self, config: RunConfig, run_id: str, project: str, *, tags: Sequence[str] = (), group: str | None = None
    ) -> None:
        try:
            import trackio
        except ImportError:
            raise ValueError("trackio is not installed: pip install -e '.[trackio]'") from None
        self._run = trackio.init(
            project=project,
            name=run_id,
            group=group,
            config={**to_dict(config), "tags": list(tags)},
            resume="allow",
            embed=False,
        )

    def row(self, row: StepRow) -> None:
        """Log every measured value under the step's own number."""
        self._run.log(measured(row), step=row.step)

    def finish(self, run: RunRow) -> None:
        """Log the final values beside the last step's, under `final/`, and close the run."""
        values = {f"final/{name}": value for name, value in measured(run).items() if isinstance(value, int | float)}
        self._run.log(values, step=run.steps)
        self._run.finish()
