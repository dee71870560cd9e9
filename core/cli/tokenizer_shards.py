"""`workbook tokenizer`: work in parts on many machines: joining shards, counting, merging counts."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from core.tokenizer.engines import ENGINES
from core.tokenizer.pretokenize import END_OF_TEXT, PATTERNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from core.files import Source

Input = typer.Argument(metavar="INPUT...", help="UTF-8 texts, plain, .gz or .zst; files or URLs (s3://...).")
Engine = Annotated[str, typer.Option(help=f"{', '.join(ENGINES)}: auto takes the quicker one; the results are equal.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Of the fast engine. [default: one a core]", show_default=False)
]


def join(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder or URL that shards were encoded to.")],
    out: Annotated[str, typer.Option(help="Token file to write; its sidecar is OUT.json.")],
) -> None:
    """Put the shards of `encode --shard` together to one token file; refuses missing, damaged and foreign ones."""
    from core.cli.console import byte_progress, say
    from core.corpus.shards import join_shards

    with byte_progress("join", before=0) as progress:
        info = join_shards(folder, out, progress)
    say(f"{out}: {info.num_tokens:,} {info.dtype} tokens of {info.num_bytes:,} bytes, {info.num_documents:,} documents")


def count(
    inputs: Annotated[list[str], Input],
    out: Annotated[str, typer.Option(help="File of counts to write (parquet); its sidecar is OUT.json.")],
    shard: Annotated[
        str | None,
        typer.Option(help="i/n: count the i-th of n parts only, 0/n the first; into a file of its own."),
    ] = None,
    special: Annotated[list[str], typer.Option(help="A special token; may be given several times.")] = [END_OF_TEXT],  # noqa: B006
    pattern: Annotated[str, typer.Option(help=f"How text is cut: {' or '.join(PATTERNS)}.")] = "gpt2",
    engine: Engine = "auto",
    threads: Threads = None,
) -> None:
    """Count the pre-tokens of texts, for `train --counts`; `merge-counts` adds up the counts of parts."""
    from core.cli.console import say
    from core.corpus.parts import check_division, text_id
    from core.outputs import check_output
    from core.tokenizer.counts import count_texts

    which = which_shard(shard, None)
    check_output(out, inputs, sidecar=True)
    part = record = None
    if which is not None:
        (number,), of = which
        check_division(inputs, of)
        part, record = (number, of, special), {"number": number, "of": of, "text": text_id(inputs)}
    with reading_progress("count", inputs, part=part) as (sources, progress):
        info = count_texts(sources, out, special, pattern, progress, engine=engine, threads=threads, shard=record)
    say(f"{out}: {info.num_pre_tokens:,} pre-tokens, {info.num_distinct:,} distinct, of {info.num_bytes:,} bytes")


def merge_counts(
    inputs: Annotated[list[str], typer.Argument(metavar="COUNTS...", help="What `count` wrote; files or URLs.")],
    out: Annotated[str, typer.Option(help="File of counts to write; its sidecar is OUT.json.")],
) -> None:
    """Add up counts; refuses counts of other patterns or special tokens, and parts of a text without the others."""
    from core.cli.console import say
    from core.tokenizer.counts import merge_counts as merge

    info = merge(inputs, out)
    say(f"{out}: {info.num_pre_tokens:,} pre-tokens, {info.num_distinct:,} distinct, of {info.num_bytes:,} bytes")


def which_shard(shard: str | None, shards: int | None) -> tuple[Sequence[int], int] | None:
    """The numbers of the shards to make, and how many there are; None if the work is not divided."""
    if shard is not None and shards is not None:
        raise ValueError(f"--shard {shard} and --shards {shards}: give one; --shard alone says how many there are")
    if shard is None:
        return None if shards is None else (range(shards), shards)
    number, slash, of = shard.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and int(number) < int(of)):
        raise ValueError(f"--shard is {shard!r}: i/n was expected, 0/16 for the first of 16 and 15/16 for the last")
    return [int(number)], int(of)


@contextlib.contextmanager
def reading_progress(
    description: str,
    inputs: Sequence[str],
    *,
    part: tuple[int, int, Sequence[str]] | None = None,
    stages: Callable[[str, int, int], None] | None = None,
) -> Iterator[tuple[list[Source], Callable[[int], None]]]:
    """A bar of text bytes with speed and time left; yields what to read, and what takes the bytes done.

    If there are compressed files, whose text is of unknown size, the bar shows the stored bytes that have been read.

    Args:
        description: Stands before the bar.
        inputs: Files or URLs.
        part: Number, how many parts there are, and special tokens: only that part of the inputs.
        stages: Another bar's update, to show the progress as a stage of it.
    """
    from core.cli.console import byte_progress
    from core.corpus.parts import split_inputs
    from core.files import Source, file_size, is_compressed

    sources = [Source(path) for path in inputs] if part is None else split_inputs(inputs, *part)
    stored = sum(file_size(source) for source in sources)
    compressed = any(is_compressed(source) for source in sources)

    def far(done: int) -> tuple[int, int | None]:
        if compressed:
            return sum(source.num_read for source in sources), stored
        return done, stored or None  # a pipe's size is not known

    if stages is not None:
        yield sources, lambda done: stages(description, far(done)[0], far(done)[1] or done)
        return
    with byte_progress(description, before=0) as progress:
        yield sources, lambda done: progress(*far(done))
