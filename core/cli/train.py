"""`workbook train`: one run from a preset or a file, resumable."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from core.cli.data import STORIES, make_stories
from core.cli.options import DEFAULT_DATA, DEFAULT_RESULTS, Commit, DataDir, ResultsDir

if TYPE_CHECKING:
    from core.config import RunConfig
    from core.corpus.dataset import Dataset
    from core.records import RunRow, SampleRow
    from core.training.folder import RunFolder

SAMPLES = 3
WANDB_PROJECT = "lm-workbook"

WandbMode = Literal["off", "online", "offline"]


def train(
    source: Annotated[str, typer.Argument(metavar="PRESET|FILE", help="A preset's name, or a YAML or JSON file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="FIELD=VALUE", help="Fields to change, such as optimizer.lr=3e-4.", show_default=False),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="The same, as an option.", show_default=False),
    ] = None,
    data: DataDir = DEFAULT_DATA,
    results: ResultsDir = DEFAULT_RESULTS,
    device: Annotated[
        str | None,
        typer.Option(help="auto, cpu, mps, cuda, cuda:1 ...; the configuration's if not given.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the whole configuration and its cost; stop.")
    ] = False,
    run_id: Annotated[
        str | None,
        typer.Option(
            help="Name of the run's folder and rows; from configuration and data if not given.", show_default=False
        ),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what stands of this run and start over.")] = False,
    wandb: Annotated[WandbMode, typer.Option(help="Mirror the run to Weights & Biases.")] = "off",
    wandb_project: Annotated[str, typer.Option(help="Project there.")] = WANDB_PROJECT,
    samples: Annotated[int, typer.Option(min=0, help="Texts to generate at the end.")] = SAMPLES,
    commit: Commit = None,
) -> None:
    """Train a model; the same command again resumes a stopped run and leaves a finished one alone."""
    from core.cli.configuration import load_config
    from core.cli.console import say
    from core.training.device import resolve_device

    config = load_config(source, [*(overrides or ()), *(set_ or ())])
    if dry_run:  # the device need not be here to be reckoned with
        say(describe(dataclasses.replace(config, device=device or config.device)))
        return
    config = dataclasses.replace(config, device=resolve_device(device or config.device))
    from core.corpus.dataset import dataset_folder, open_dataset
    from core.model.transformer import check_buildable

    check_buildable(config.model)  # before a data set is made for it

    folder = dataset_folder(data, config.data.dataset)
    built_in = config.data.dataset == STORIES and not (folder / "dataset.json").exists()
    dataset = make_stories(data) if built_in else open_dataset(folder)
    run, texts = train_and_sample(
        config,
        dataset,
        data,
        results,
        run_id=run_id,
        fresh=fresh,
        wandb=wandb,
        wandb_project=wandb_project,
        samples=samples,
        commit=commit,
    )
    report_run(run, data, results)
    for row in texts[:samples]:
        say(f"\n--- sample {row.sample} (temperature {row.temperature:g}, seed {row.seed}) ---\n{row.prompt}{row.text}")
    if run.status == "diverged":
        print(
            f"workbook: the run diverged: a loss or gradient norm at step {run.steps} is not finite; "
            f"lower optimizer.lr (it is {config.optimizer.lr:g}) or lengthen schedule.warmup_steps",
            file=sys.stderr,
        )
        raise typer.Exit(1)


def train_and_sample(
    config: RunConfig,
    dataset: Dataset,
    data: Path,
    results_dir: Path,
    *,
    run_id: str | None = None,
    fresh: bool = False,
    wandb: WandbMode = "off",
    wandb_project: str = WANDB_PROJECT,
    samples: int = SAMPLES,
    commit: str | None = None,
) -> tuple[RunRow, list[SampleRow]]:
    """Train where that is still to do, then generate; rows that stand are returned as they are."""
    from core import results
    from core.cli.console import say
    from core.config import check_name
    from core.inference.samples import sample_run
    from core.records import RunRow, SampleRow
    from core.training import run as training
    from core.training.folder import run_folder

    run_id = run_id or training.run_id_of(config, dataset)
    check_name(run_id, "run id")
    folder = run_folder(data, run_id)
    if fresh:
        training.check_fits(config, dataset)  # before anything is forgotten
        results.check_writable(results_dir)
        shutil.rmtree(folder.path, ignore_errors=True)
        for table in results.RUN_TABLES:
            results.table_path(results_dir, table, run_id).unlink(missing_ok=True)
    standing = results.read_run(results_dir, run_id)
    # A row without a folder came from another machine (with the repository, say): here the run is still to be made.
    if standing is not None and standing["status"] != "stopped" and folder.records.exists():
        _check_same(standing, config, dataset, run_id)
        say(f"run {run_id}: already {standing['status']}, nothing to train (--fresh trains it anew)")
        run = RunRow(**standing)
        rows = [SampleRow(**row) for row in results.read_rows(results_dir, "samples", run_id)]
    else:
        run, rows = _train(config, dataset, folder, results_dir, wandb, wandb_project, commit), []
    if run.status == "finished" and len(rows) < samples:
        rows = sample_run(run, data, samples)
        results.write_rows(results_dir, "samples", run_id, rows)
    return run, rows


def _train(
    config: RunConfig,
    dataset: Dataset,
    folder: RunFolder,
    results_dir: Path,
    wandb: WandbMode,
    wandb_project: str,
    commit: str | None,
) -> RunRow:
    """Train with a progress bar, stoppable."""
    from core.cli.console import ConsoleSink, say
    from core.provenance import git_commit
    from core.training import run as training
    from core.training.interrupt import stop_on_signals
    from core.training.sinks import WandbSink

    run_id = folder.path.name
    consoles: list[ConsoleSink] = []

    def sinks(trainer: training.Trainer) -> list:
        at = f"from step {trainer.step} of {config.num_steps}" if trainer.step else f"{config.num_steps} steps"
        say(f"run {run_id}: {at} on {config.device}, {config.batch_tokens:,} tokens each; Ctrl-C saves and stops")
        consoles.append(ConsoleSink(config.num_steps, trainer.step, trainer.evaluation.floor_loss_nats))
        mirror = [WandbSink(config, run_id, wandb, wandb_project, str(folder.path))] if wandb != "off" else []
        return [*consoles, *mirror]

    try:
        with stop_on_signals() as stop:
            return training.train(
                config,
                dataset,
                folder,
                results_dir,
                sinks=sinks,
                should_stop=lambda: stop.requested,
                git_commit=commit or git_commit(),
            )
    finally:
        for console in consoles:
            console.close()


def report_run(run: RunRow, data: Path, results_dir: Path) -> None:
    """Say how a run ended and where its rows are."""
    from core.cli.console import say

    say(f"{run.status} after {run.steps:,} steps, {run.tokens:,} tokens, {run.elapsed_s:.0f} s of training")
    if run.eval_loss_nats is not None:
        bits = f", {run.eval_bits_per_byte:.4f} bits per byte" if run.eval_bits_per_byte is not None else ""
        at = "" if run.eval_step == run.steps else f", at step {run.eval_step:,}"
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


def describe(config: RunConfig) -> str:
    """The whole configuration and what it costs."""
    from core import accounting
    from core.cli.configuration import to_yaml

    costs = accounting.account(config.model, batch_size=config.batch_size, precision=config.precision)
    peak = accounting.peak(costs)
    tokens = config.num_steps * config.batch_tokens
    lines = [
        to_yaml(config).rstrip(),
        "",
        f"parameters              {costs.parameters:,}",
        f"forward FLOP per token  {costs.forward_flop / costs.tokens:,.0f} (non-causal, at the full context)",
        f"training FLOP per token {costs.training_step_flop / costs.tokens:,.0f}",
        f"tokens                  {tokens:,} ({config.batch_tokens:,} a step)",
        f"training FLOP in all    {config.num_steps * costs.training_step_flop:.4g}",
        f"memory at the peak      {peak.total / 2**20:,.1f} MiB ({peak}): "
        + ", ".join(f"{name} {getattr(peak, name) / 2**20:,.1f}" for name in peak.KINDS),
    ]
    return "\n".join(lines)


def _check_same(standing: dict, config: RunConfig, dataset: Dataset, run_id: str) -> None:
    from core.config import config_id

    for what, here in (("config_id", config_id(config)), ("dataset_id", dataset.dataset_id)):
        if standing[what] != here:
            thing = "another configuration" if what == "config_id" else "other data"
            raise ValueError(
                f"run {run_id} stands with {thing}; give this one another --run-id, or --fresh to replace it"
            )
