"""One run as commands make it: trained with a bar, mirrored, stoppable, and sampled from at its end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from core.cli.data import STORIES, make_stories
from core.cli.options import DEFAULT_DATA

if TYPE_CHECKING:
    from core.config import RunConfig
    from core.corpus.dataset import Dataset
    from core.records import RunRow, SampleRow
    from core.training.folder import RunFolder
    from core.training.sinks import Sink

SAMPLES = 3
PROJECT = "lm-workbook"

WandbMode = Literal["off", "online", "offline"]
Parallel = Literal["ddp", "fsdp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrors:
    """Which trackers follow a run, besides its rows on disk."""

    wandb: WandbMode = "off"
    trackio: bool = False
    project: str = PROJECT
    tags: tuple[str, ...] = ()
    group: str | None = None

    def sinks(self, config: RunConfig, run_id: str, folder: RunFolder) -> list[Sink]:
        """The trackers, each behind a queue, so that none can stop or slow the run."""
        from core.cli.console import say
        from core.training.sinks import QueuedSink, TrackioSink, WandbSink

        labels = {"tags": self.tags, "group": self.group}
        makers = {}
        if self.wandb != "off":
            makers["Weights & Biases"] = lambda: WandbSink(
                config, run_id, self.wandb, self.project, str(folder.path), **labels
            )
        if self.trackio:
            makers["Trackio"] = lambda: TrackioSink(config, run_id, self.project, **labels)
        return [QueuedSink(name, make, say) for name, make in makers.items()]


def dataset_of(config: RunConfig, data: Path) -> Dataset:
    """The run's data set; of several processes the main one makes the built-in stories where they are missing."""
    from core.corpus.dataset import dataset_folder, open_dataset
    from core.training import distributed

    folder = dataset_folder(data, config.data.dataset)
    missing = config.data.dataset == STORIES and not (folder / "dataset.json").exists()
    if distributed.agree(missing):
        if distributed.is_main():
            make_stories(data)
        distributed.wait_for_all()
    return open_dataset(folder)


def train_and_sample(
    config: RunConfig,
    dataset: Dataset,
    data: Path,
    results_dir: Path,
    *,
    run_id: str | None = None,
    fresh: bool = False,
    mirrors: Mirrors | None = None,
    parallel: Parallel = "ddp",
    samples: int = SAMPLES,
    commit: str | None = None,
) -> tuple[RunRow, list[SampleRow]]:
    """Train where that is still to do, then generate; rows that stand are returned as they are."""
    from core import results
    from core.cli.console import say
    from core.config import check_name
    from core.inference.samples import sample_run
    from core.records import RunRow, SampleRow
    from core.training import distributed
    from core.training import run as training
    from core.training.folder import run_folder
    from core.training.lock import run_lock

    run_id = run_id or training.run_id_of(config, dataset)
    check_name(run_id, "run id")
    folder = run_folder(data, run_id)
    if fresh:
        training.check_fits(config, dataset)  # before anything is forgotten
        results.check_writable(results_dir)
        distributed.wait_for_all()
        if distributed.is_main():
            with run_lock(folder):
                folder.clear()
                for table in results.RUN_TABLES:
                    results.table_path(results_dir, table, run_id).unlink(missing_ok=True)
        distributed.wait_for_all()
    standing = results.read_run(results_dir, run_id)
    # A row without a folder came from another machine (with the repository, say): here the run is still to be made.
    over = standing is not None and standing["status"] != "stopped" and folder.records.exists()
    if distributed.agree(over):
        _check_same(standing, config, dataset, run_id)
        say(f"run {run_id}: already {standing['status']}, nothing to train (--fresh trains it anew)")
        run = RunRow(**standing)
        rows = [SampleRow(**row) for row in results.read_rows(results_dir, "samples", run_id)]
    else:
        run, rows = _train(config, dataset, folder, results_dir, mirrors or Mirrors(), parallel, commit), []
    if run.status == "finished" and len(rows) < samples and distributed.is_main():
        rows = sample_run(run, data, samples)
        results.write_rows(results_dir, "samples", run_id, rows)
    return run, rows


def _train(
    config: RunConfig,
    dataset: Dataset,
    folder: RunFolder,
    results_dir: Path,
    mirrors: Mirrors,
    parallel: Parallel,
    commit: str | None,
) -> RunRow:
    """Train with a progress bar, stoppable."""
    from core.cli.console import ConsoleSink, say
    from core.provenance import git_commit
    from core.training import run as training
    from core.training.interrupt import stop_on_signals
    from core.training.numerics import faster_precision, is_emulated

    run_id = folder.path.name
    consoles: list[ConsoleSink] = []

    def sinks(trainer: training.Trainer) -> list:
        watching = mirrors.sinks(config, run_id, folder)  # first: to open them may take a while
        at = f"from step {trainer.step} of {config.num_steps}" if trainer.step else f"{config.num_steps} steps"
        say(f"run {run_id}: {at} on {config.device}, {config.batch_tokens:,} tokens each; Ctrl-C saves and stops")
        if trainer.step == 0 and (faster := faster_precision(config)):
            say(f"{config.device} multiplies faster in bfloat16: precision={faster} (workbook bench train measures it)")
        if is_emulated(config):
            say(f"{config.device} has no instructions for bfloat16: precision=float32 is many times faster here")
        consoles.append(ConsoleSink(config.num_steps, trainer.step, trainer.evaluation.floor_loss_nats))
        return [*consoles, *watching]

    try:
        with stop_on_signals() as stop:
            return training.train(
                config,
                dataset,
                folder,
                results_dir,
                sinks=sinks,
                should_stop=lambda: stop.requested,
                parallel=parallel,
                git_commit=commit or git_commit(),
            )
    finally:
        for console in consoles:
            console.close()


def report_run(run: RunRow, data: Path, results_dir: Path) -> None:
    """Say how a run ended and where its rows are."""
    from core.cli.console import say

    steps = f"{run.steps:,} step{'s' if run.steps != 1 else ''}"
    say(f"{run.status} after {steps}, {run.tokens:,} tokens, {run.elapsed_s:.0f} s of training")
    if run.eval_loss_nats is not None:
        bits = f", {run.eval_bits_per_byte:.4f} bits per byte" if run.eval_bits_per_byte is not None else ""
        at = "" if run.eval_step == run.steps else f"; the last evaluation, at step {run.eval_step:,}"
        say(f"evaluation loss  {run.eval_loss_nats:.4f} nats per token{bits} ({run.eval_tokens:,} tokens{at})")
        if run.floor_loss_nats is not None:
            say(
                f"corpus floor     {run.floor_loss_nats:.4f} nats per token, the lowest any model can expect: "
                f"{run.eval_loss_nats - run.floor_loss_nats:.4f} to go"
            )
    say(f"rows: {results_dir}/runs/{run.run_id}.parquet and {results_dir}/steps/{run.run_id}.parquet")
    if run.status == "stopped":
        say("the same command resumes it")
    elif run.status == "finished":
        say(f"more text: workbook generate {run.run_id}" + ("" if data == DEFAULT_DATA else f" --data {data}"))


def _check_same(standing: dict, config: RunConfig, dataset: Dataset, run_id: str) -> None:
    from core.config import config_id

    for what, here in (("config_id", config_id(config)), ("dataset_id", dataset.dataset_id)):
        if standing[what] != here:
            thing = "another configuration" if what == "config_id" else "other data"
            raise ValueError(
                f"run {run_id} stands with {thing}; give this one another --run-id, or --fresh to replace it"
            )
