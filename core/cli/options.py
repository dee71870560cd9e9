"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

DataDir = Annotated[Path, typer.Option("--data", help="Folder for corpora, tokens, runs and checkpoints.")]
ResultsDir = Annotated[Path, typer.Option("--results", help="Folder for result rows (parquet).")]
Device = Annotated[
    str, typer.Option(help="auto (the first of cuda, mps, cpu that is there), cpu, mps, cuda, cuda:1 ...")
]
Commit = Annotated[
    str | None, typer.Option(help="Commit to record in the results; asked from git if not given.", show_default=False)
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Measure anew what is measured already.")]

DEFAULT_DATA = Path("data")
DEFAULT_RESULTS = Path("results")
