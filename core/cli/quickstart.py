"""`workbook quickstart`: the whole path once, from nothing to stories and rows."""

import dataclasses
from typing import Annotated

import typer

from core.cli.data import make_stories
from core.cli.options import DEFAULT_DATA, DEFAULT_RESULTS, Commit, DataDir, Device, ResultsDir
from core.cli.run import report_run, train_and_sample
from core.presets.runs import quickstart as quickstart_preset


def quickstart(
    data: DataDir = DEFAULT_DATA,
    results: ResultsDir = DEFAULT_RESULTS,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of the run; other seeds start from other weights.")] = 0,
    commit: Commit = None,
) -> None:
    """Corpus, tokenizer, tokens, training, evaluation, three stories, result rows; what stands already is skipped."""
    from core.cli.console import say
    from core.training.device import resolve_device

    config = dataclasses.replace(quickstart_preset(), device=resolve_device(device), seed=seed)
    say("1. corpus, tokenizer and tokens of the built-in stories")
    dataset = make_stories(data)
    say("\n2. training and evaluation")
    run, samples = train_and_sample(config, dataset, data, results, commit=commit)
    report_run(run, data, results)
    if run.status != "finished":
        raise typer.Exit(1 if run.status == "diverged" else 0)
    say("\n3. three stories that the model wrote")
    for sample in samples[:3]:
        say(f"\n{sample.text}")
    elsewhere = (data, results) != (DEFAULT_DATA, DEFAULT_RESULTS)
    say("\nNow look at it: marimo run notebooks" + (f" -- --data {data} --results {results}" if elsewhere else ""))
