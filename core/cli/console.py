"""What a person at the terminal sees: stages, progress bars, training live."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from core.records import RunRow, StepRow

console = Console(highlight=False)
"""Results, on standard output."""
errors = Console(highlight=False, stderr=True)
"""Progress, so that standard output holds the results alone."""


def say(text: str = "") -> None:
    """Print a line as it is: no markup, no colour codes, no wrapping."""
    console.print(text, markup=False, soft_wrap=True)


def _progress(*columns: ProgressColumn) -> Progress:
    """Bars on standard error; none where that is no terminal, since a log has no use for them."""
    errors.quiet = console.quiet
    return Progress(*columns, console=errors, disable=not errors.is_terminal)


class _RateColumn(ProgressColumn):
    """Bytes per second from the beginning to now: what is shown in the end is the rate of the whole."""

    def render(self, task: Task) -> Text:
        """The rate, nothing where there is none yet."""
        seconds = task.finished_time or task.elapsed
        done = task.completed - (task.fields["before"] or 0)
        return Text(f"{decimal(int(done / seconds))}/s" if seconds and done > 0 else "", style="progress.data.speed")


@contextlib.contextmanager
def stage_progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar per stage; yields what `core.corpus.dataset` calls with (stage, done, total)."""
    progress = _progress(
        TextColumn("  {task.description:<14}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(compact=True)
    )
    tasks = {}

    def update(stage: str, done: int, total: int) -> None:
        progress.start()  # only now: a stage that is skipped shows nothing
        if stage not in tasks:
            tasks[stage] = progress.add_task(stage, total=total)
        progress.update(tasks[stage], completed=done, total=total)

    try:
        yield update
    finally:
        if tasks:
            progress.stop()


@contextlib.contextmanager
def byte_progress(description: str, before: int | None = None) -> Iterator[Callable[[int, int | None], None]]:
    """A bar of bytes with speed and time left; yields what takes (done, total).

    Args:
        description: Stands before the bar.
        before: Bytes that were done before this began, which the speed leaves out; what the first call says if not
            given.
    """
    progress = _progress(
        TextColumn("  {task.description}"),
        BarColumn(),
        DownloadColumn(),
        _RateColumn(),
        TimeRemainingColumn(compact=True),
    )
    task = progress.add_task(description, total=None, before=before)

    def update(done: int, total: int | None) -> None:
        nonlocal before
        before = done if before is None else before
        progress.start()
        progress.update(task, completed=done, total=total, before=before)

    try:
        yield update
    finally:
        if progress.live.is_started:
            progress.stop()


class ConsoleSink:
    """A bar over the steps with loss, tokens per second and time left; a line for every evaluation, both as progress.

    Args:
        num_steps: Of the whole run.
        start_step: Where this session starts.
        floor_loss_nats: Shown beside every evaluation, where it is known.
    """

    def __init__(self, num_steps: int, start_step: int, floor_loss_nats: float | None) -> None:
        self._floor = floor_loss_nats
        self._progress = _progress(
            TextColumn("  step"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
        )
        self._task = self._progress.add_task("train", total=num_steps, completed=start_step, figures="")
        self._progress.start()

    def row(self, row: StepRow) -> None:
        """Move the bar."""
        if row.train_loss_nats is not None and row.tokens_per_s is not None:
            figures = f"loss {row.train_loss_nats:.3f}  {row.tokens_per_s:,.0f} tokens/s"
            self._progress.update(self._task, completed=row.step, figures=figures)
        if row.eval_loss_nats is not None:
            floor = f"  (floor {self._floor:.4f})" if self._floor is not None else ""
            self._progress.console.print(
                f"  step {row.step:>6}  evaluation loss {row.eval_loss_nats:.4f} nats/token{floor}", markup=False
            )

    def finish(self, run: RunRow) -> None:
        """Leave the bar where it ended."""
        self.close()

    def close(self) -> None:
        """Give the terminal back; may be called twice."""
        self._progress.stop()
