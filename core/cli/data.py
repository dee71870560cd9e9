"""`workbook data`: corpora and data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.cli.options import DEFAULT_DATA, DataDir
from core.presets.runs import owt, quickstart, tinystories

if TYPE_CHECKING:
    from core.corpus.dataset import Dataset

app = typer.Typer(help="Make, fetch and prepare text and tokens.", no_args_is_help=True, rich_markup_mode=None)

Replace = Annotated[bool, typer.Option("--replace", help="Put it in the place of another data set of this name.")]

STORIES = quickstart().data.dataset
STORIES_TRAIN_BYTES = 8_000_000
STORIES_VALID_BYTES = 400_000
STORIES_VOCAB_SIZE = quickstart().model.vocab_size


@app.command()
def stories(
    data: DataDir = DEFAULT_DATA,
    name: Annotated[str, typer.Option(help="Name of the data set.")] = STORIES,
    train_bytes: Annotated[int, typer.Option(min=1, help="Size of the training text.")] = STORIES_TRAIN_BYTES,
    valid_bytes: Annotated[int, typer.Option(min=1, help="Size of the validation text.")] = STORIES_VALID_BYTES,
    vocab_size: Annotated[int, typer.Option(help="Size of the tokenizer.")] = STORIES_VOCAB_SIZE,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds, other stories.")] = 0,
    replace: Replace = False,
) -> None:
    """Make the built-in stories, whose cross-entropy floor is known, and their data set."""
    make_stories(data, name, train_bytes, valid_bytes, vocab_size, seed, replace)


def make_stories(
    data: Path,
    name: str = STORIES,
    train_bytes: int = STORIES_TRAIN_BYTES,
    valid_bytes: int = STORIES_VALID_BYTES,
    vocab_size: int = STORIES_VOCAB_SIZE,
    seed: int = 0,
    replace: bool = False,
) -> Dataset:
    """Make the built-in stories where they are not there yet, and say so."""
    from core.cli.console import stage_progress
    from core.corpus.dataset import dataset_folder, prepare_stories

    with stage_progress() as progress:
        dataset, new = prepare_stories(
            dataset_folder(data, name),
            train_bytes=train_bytes,
            valid_bytes=valid_bytes,
            vocab_size=vocab_size,
            seed=seed,
            replace=replace,
            progress=progress,
        )
    report_dataset(dataset, new)
    return dataset


@app.command()
def prepare(
    files: Annotated[
        list[Path], typer.Argument(help="UTF-8 text, plain, .gz or .zst; documents separated by <|endoftext|>.")
    ],
    data: DataDir = DEFAULT_DATA,
    name: Annotated[
        str | None, typer.Option(help="Name of the data set; the first file's if not given.", show_default=False)
    ] = None,
    valid: Annotated[
        list[Path] | None,
        typer.Option(help="Validation text; split off the training text if not given.", show_default=False),
    ] = None,
    valid_fraction: Annotated[float, typer.Option(help="How much is split off.")] = 0.05,
    vocab_size: Annotated[int, typer.Option(help="Size of the tokenizer to train.")] = 4096,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Use the tokenizer in this folder and train none.", show_default=False)
    ] = None,
    replace: Replace = False,
) -> None:
    """Make a data set from your own text: split, train a tokenizer, encode."""
    from core.cli.console import say, stage_progress
    from core.corpus.dataset import dataset_folder, prepare_files
    from core.tokenizer import Tokenizer

    name = files[0].name.split(".")[0] if name is None else name
    with stage_progress() as progress:
        dataset, new = prepare_files(
            dataset_folder(data, name),
            files,
            valid_files=valid or [],
            valid_fraction=valid_fraction,
            vocab_size=vocab_size,
            tokenizer=Tokenizer.load(tokenizer) if tokenizer else None,
            replace=replace,
            progress=progress,
        )
    report_dataset(dataset, new)
    say(
        f"train on it: workbook train quickstart name={name} data.dataset={name} "
        f"model.vocab_size={dataset.tokenizer.vocab_size}"
    )


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="tinystories or owt.")],
    data: DataDir = DEFAULT_DATA,
) -> None:
    """Fetch a public corpus into DATA/corpora; an interrupted download goes on where it stopped."""
    from core.cli.console import byte_progress, say
    from core.corpus.download import DATASETS
    from core.corpus.download import download as fetch

    if name not in DATASETS:
        raise ValueError(f"{name!r} is not a corpus that can be fetched: {' or '.join(DATASETS)}")
    paths = []
    for file in DATASETS[name]:
        with byte_progress(file.name) as progress:
            paths.append(fetch(file, data / "corpora" / name, progress=progress))
    train, valid = paths
    run = {"tinystories": tinystories, "owt": lambda: owt("small")}[name]()  # whose vocabulary the presets expect
    say(f"prepare it: workbook data prepare {train} --valid {valid} --name {name} --vocab-size {run.model.vocab_size}")


@app.command()
def longtail(
    out: Annotated[Path, typer.Argument(help="Text file to write.")],
    num_bytes: Annotated[int, typer.Option("--bytes", min=1, help="Its size; it ends with a document.")] = 150_000_000,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds, other text in the same words.")] = 0,
) -> None:
    """Make text without meaning whose vocabulary keeps growing as the web's does, to measure tokenizers on."""
    from core.cli.console import byte_progress, say
    from core.corpus.longtail import write_longtail
    from core.outputs import check_output

    check_output(out)
    with byte_progress(out.name, before=0) as progress:
        write_longtail(out, num_bytes, seed, lambda done: progress(done, num_bytes))
    say(f"{out}: {out.stat().st_size:,} bytes")


@app.command()
def floor(
    file: Annotated[Path, typer.Argument(help="Text of the built-in stories (train.txt or valid.txt, say).")],
    tokenizer: Annotated[
        Path | None, typer.Option(help="Also per token of the tokenizer in this folder.", show_default=False)
    ] = None,
) -> None:
    """The exact cross-entropy floor of a text of built-in stories: no model can expect a lower loss on it."""
    import math

    from core.cli.console import say
    from core.corpus.dataset import read_documents
    from core.corpus.stories import floor_nats
    from core.tokenizer import Tokenizer
    from core.tokenizer.pretokenize import END_OF_TEXT

    texts = list(read_documents([file]))
    nats = math.fsum(floor_nats(texts))
    num_bytes = sum(len((text + END_OF_TEXT).encode()) for text in texts)
    say(f"{len(texts):,} stories, {num_bytes:,} bytes, end markers counted")
    say(f"{nats / len(texts):.4f} nats per story")
    say(f"{nats / num_bytes:.6f} nats per byte ({nats / num_bytes / math.log(2):.6f} bits)")
    if tokenizer:
        encoder = Tokenizer.load(tokenizer)
        num_tokens = sum(len(encoder.encode(text + END_OF_TEXT)) for text in texts)
        say(f"{nats / num_tokens:.6f} nats per token ({num_tokens:,} tokens)")


def report_dataset(dataset: Dataset, new: bool) -> None:
    """Say what a data set holds, and whether it was made now."""
    from core.cli.console import say

    train, valid = dataset.train.info, dataset.valid.info
    say(
        f"{'made' if new else 'already there:'} {dataset.folder}: {train.num_tokens:,} tokens to train on "
        f"({train.num_bytes / train.num_tokens:.2f} bytes each), {valid.num_tokens:,} to validate on, "
        f"vocabulary {dataset.tokenizer.vocab_size:,}"
    )
