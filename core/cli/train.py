"""`workbook train`: one run from a preset or a file, resumable."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from core.cli.options import DEFAULT_DATA, DEFAULT_RESULTS, Commit, DataDir, ResultsDir
from core.cli.run import PROJECT, SAMPLES, Mirrors, Parallel, WandbMode, dataset_of, report_run, train_and_sample

if TYPE_CHECKING:
    from core.config import RunConfig


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
    trackio: Annotated[bool, typer.Option("--trackio", help="Mirror the run to Trackio, a local dashboard.")] = False,
    project: Annotated[str, typer.Option(help="Of the run in trackers.")] = PROJECT,
    tag: Annotated[
        list[str] | None,
        typer.Option(help="Label of the run in trackers; may be given several times.", show_default=False),
    ] = None,
    group: Annotated[str | None, typer.Option(help="Runs that trackers show as one.", show_default=False)] = None,
    upload: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Put the finished run's rows into an object store, s3://bucket/prefix say; what is there is skipped.",
            show_default=False,
        ),
    ] = None,
    upload_model: Annotated[
        bool, typer.Option("--upload-model", help="With --upload: the last checkpoint and the tokenizer, too.")
    ] = False,
    parallel: Annotated[
        Parallel,
        typer.Option(
            help="Under torchrun: every process holds the whole model (ddp), or its part of weights, gradients and "
            "optimizer state (fsdp)."
        ),
    ] = "ddp",
    samples: Annotated[int, typer.Option(min=0, help="Texts to generate at the end.")] = SAMPLES,
    commit: Commit = None,
) -> None:
    """Train a model; the same command again resumes a stopped run and leaves a finished one alone.

    On several devices: torchrun --nproc-per-node N -m core train ...; any number resumes what another began.
    """
    from core.cli.configuration import load_config
    from core.cli.console import say
    from core.training.device import resolve_device

    config = load_config(source, [*(overrides or ()), *(set_ or ())])
    if dry_run:  # the device need not be here to be reckoned with
        say(describe(dataclasses.replace(config, device=device or config.device)))
        return
    config = dataclasses.replace(config, device=resolve_device(device or config.device))
    if upload_model and upload is None:
        raise ValueError("--upload-model is given without --upload: it needs a place to go")
    from core.cli.console import byte_progress, console
    from core.model.transformer import check_buildable
    from core.training import distributed
    from core.training.folder import run_folder
    from core.training.upload import check_upload, upload_run

    check_buildable(config.model)  # before a data set is made for it
    distributed.check_parallel(parallel)
    with distributed.joined(config.device):
        console.quiet = not distributed.is_main()
        if upload is not None and distributed.is_main():
            check_upload(upload)
        run, texts = train_and_sample(
            config,
            dataset_of(config, data),
            data,
            results,
            run_id=run_id,
            fresh=fresh,
            mirrors=Mirrors(wandb=wandb, trackio=trackio, project=project, tags=tuple(tag or ()), group=group),
            parallel=parallel,
            samples=samples,
            commit=commit,
        )
    if upload is not None and run.status == "finished" and not console.quiet:
        folder = run_folder(data, run.run_id) if upload_model else None
        with byte_progress("upload") as progress:
            written = upload_run(upload, run.run_id, results, folder, progress)
        say(f"{upload}: {len(written)} files written" if written else f"{upload}: holds the run already")
    report_run(run, data, results)
    for row in texts[:samples]:
        say(f"\n--- sample {row.sample} (temperature {row.temperature:g}, seed {row.seed}) ---\n{row.prompt}{row.text}")
    if run.status == "diverged" and not console.quiet:
        print(
            f"workbook: the run diverged: a loss or gradient norm at step {run.steps} is not finite; "
            f"lower optimizer.lr (it is {config.optimizer.lr:g}) or lengthen schedule.warmup_steps",
            file=sys.stderr,
        )
    if run.status == "diverged":
        raise typer.Exit(1)


def describe(config: RunConfig) -> str:
    """The whole configuration and what it costs."""
    from core import accounting
    from core.accounting.runs import run_account
    from core.cli.configuration import to_yaml

    costs = run_account(config)
    peak = accounting.peak(costs)
    step_flop = accounting.training_step_flop(config.model, config.batch_size)
    tokens = config.num_steps * config.batch_tokens
    lines = [
        to_yaml(config).rstrip(),
        "",
        f"parameters              {costs.parameters:,}",
        f"forward FLOP per token  {costs.forward_flop / costs.tokens:,.0f} (non-causal, at the full context)",
        f"training FLOP per token {step_flop / config.batch_tokens:,.0f}",
        f"tokens                  {tokens:,} ({config.batch_tokens:,} a step)",
        f"training FLOP in all    {config.num_steps * step_flop:.4g}",
        f"memory at the peak      {peak.total / 2**20:,.1f} MiB ({peak}): "
        + ", ".join(f"{name} {getattr(peak, name) / 2**20:,.1f}" for name in peak.KINDS),
    ]
    return "\n".join(lines)
