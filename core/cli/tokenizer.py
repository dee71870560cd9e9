"""`workbook tokenizer`: train, encode, decode, look at the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.cli.tokenizer_convert import convert
from core.cli.tokenizer_shards import (
    Engine,
    Input,
    Threads,
    count,
    join,
    merge_counts,
    reading_progress,
    which_shard,
)
from core.cli.tokenizer_study import study
from core.tokenizer.pretokenize import END_OF_TEXT, PATTERNS

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.corpus.tokens import TokenFileInfo
    from core.tokenizer import Tokenizer

app = typer.Typer(
    help="Byte-level BPE: train, encode, decode, statistics.", no_args_is_help=True, rich_markup_mode=None
)

Folder = Annotated[Path, typer.Option("--tokenizer", help="Folder that `workbook tokenizer train` wrote.")]


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder for vocab.json, merges.txt and special_tokens.json.")],
    inputs: Annotated[list[str] | None, Input] = None,
    vocab_size: Annotated[int, typer.Option(help="Ids in all: 256 bytes, the special tokens, the merges.")] = 10_000,
    special: Annotated[
        list[str] | None,
        typer.Option(help=f"A special token; may be given several times. [default: {END_OF_TEXT}]", show_default=False),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(help=f"How text is cut: {' or '.join(PATTERNS)}. [default: gpt2]", show_default=False),
    ] = None,
    counts: Annotated[
        str | None,
        typer.Option(
            help="Train on what `workbook tokenizer count` wrote, instead of INPUT; its special tokens and pattern.",
            show_default=False,
        ),
    ] = None,
    engine: Engine = "auto",
    threads: Threads = None,
) -> None:
    """Train a vocabulary on texts, or on counts of them."""
    from core.cli.console import say, stage_progress
    from core.outputs import check_output
    from core.tokenizer import Tokenizer
    from core.tokenizer.tokenizer import FILES

    check_output(out, folder=True)
    for name in FILES:
        check_output(out / name, inputs or ([] if counts is None else [counts, f"{counts}.json"]))
    if counts is None:
        from core.tokenizer.train import train_bpe_files

        if not inputs:
            raise ValueError("nothing to train on: name text files, or --counts")
        special, pattern = special or [END_OF_TEXT], pattern or "gpt2"
        with stage_progress() as stages, reading_progress("count", inputs, stages=stages) as (sources, counted):
            vocab, merges = train_bpe_files(
                sources,
                vocab_size,
                special,
                pattern=pattern,
                engine=engine,
                threads=threads,
                on_count=counted,
                on_merge=lambda done, of: stages("merges", done, of),
            )
            _end_merges(stages, len(merges))
    else:
        from core.tokenizer.counts import train_on_counts

        if inputs or special or pattern:
            raise ValueError("--counts takes the place of INPUT, --special and --pattern: the counts have their own")
        with stage_progress() as stages:
            vocab, merges, info = train_on_counts(
                counts, vocab_size, engine=engine, on_merge=lambda done, of: stages("merges", done, of)
            )
            _end_merges(stages, len(merges))
        special, pattern = info.special_tokens, info.pattern
    tokenizer = Tokenizer(vocab, merges, special, pattern=pattern)
    tokenizer.save(out)
    early = f" of {vocab_size:,} wanted (no pair of tokens was left to merge)" if len(vocab) < vocab_size else ""
    learnt = f"{len(merges):,} merges, the longest token {_longest(tokenizer)!r}" if merges else "no merge was learnt"
    say(f"{out}: {len(vocab):,} tokens{early}, {learnt}")


def _end_merges(stages: Callable[[str, int, int], None], num_merges: int) -> None:
    """Fill the bar, also where training ended early because no pair was left."""
    if num_merges:
        stages("merges", num_merges, num_merges)


@app.command()
def encode(
    inputs: Annotated[list[str], Input],
    tokenizer: Folder,
    out: Annotated[str, typer.Option(help="Token file to write, its sidecar is OUT.json; with shards a folder.")],
    shards: Annotated[
        int | None, typer.Option(min=1, help="Write so many token files, one after another.", show_default=False)
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(help="i/n: write the i-th of n only, 0/n the first. Any machine, any order.", show_default=False),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Encode also shards that stand already, and replace tokens of other text."),
    ] = False,
    engine: Engine = "auto",
    threads: Threads = None,
) -> None:
    """Encode texts to a token file (uint16, or uint32 for large vocabularies), or to several that `join` puts together.

    Run again, shards that stand are recognised by tokenizer and text, and skipped.
    """
    from core.cli.console import say
    from core.corpus.parts import check_division
    from core.corpus.shards import check_folder, encode_shard, shard_name
    from core.corpus.tokens import encode_files
    from core.files import join_path
    from core.outputs import check_output
    from core.tokenizer import Tokenizer
    from core.tokenizer.tokenizer import FILES

    which = which_shard(shard, shards)
    check_output(out, [*inputs, *(tokenizer / name for name in FILES)], folder=which is not None, sidecar=which is None)
    encoder = Tokenizer.load(tokenizer)
    if which is None:
        with reading_progress("encode", inputs) as (sources, progress):
            info = encode_files(sources, encoder, out, progress, engine=engine, threads=threads, replace=fresh)
        say(_summary(out, info))
        return
    numbers, of = which
    check_division(inputs, of)
    check_folder(out, inputs, encoder, of, fresh=fresh)
    for number in numbers:
        name = shard_name(number, of)
        with reading_progress(name, inputs, part=(number, of, encoder.special_tokens)) as (sources, progress):
            info, made = encode_shard(
                inputs, encoder, out, number, of, progress, fresh=fresh, engine=engine, threads=threads, part=sources
            )
        say(_summary(join_path(out, name), info) + ("" if made else " (stands already)"))


app.command()(join)


@app.command()
def decode(
    token_file: Annotated[str, typer.Argument(metavar="TOKENS", help="Token file with its sidecar.")],
    tokenizer: Folder,
    out: Annotated[str | None, typer.Option(help="Text file to write; to the terminal if not given.")] = None,
) -> None:
    """Decode a token file to the very bytes that were encoded."""
    import sys

    from core.corpus.tokens import open_tokens
    from core.files import atomic_path
    from core.outputs import check_output
    from core.tokenizer import Tokenizer
    from core.tokenizer.tokenizer import FILES

    if out is not None:
        check_output(out, [token_file, f"{token_file}.json", *(tokenizer / name for name in FILES)])
    decoder = Tokenizer.load(tokenizer)
    tokens = open_tokens(token_file)
    if tokens.info.tokenizer_id != decoder.tokenizer_id:
        raise ValueError(f"{token_file}: encoded with another tokenizer than {tokenizer}")
    block = 1 << 20
    pieces = (
        decoder.decode_bytes(tokens.tokens[start : start + block].tolist())
        for start in range(0, len(tokens.tokens), block)
    )
    if out is None:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    with atomic_path(out) as temporary, temporary.open("wb") as file:
        file.writelines(pieces)


app.command()(count)
app.command("merge-counts")(merge_counts)
app.command()(convert)
app.command()(study)


@app.command()
def stats(
    inputs: Annotated[list[str], Input],
    tokenizer: Folder,
    top: Annotated[int, typer.Option(min=1, help="How many of the most frequent tokens to list.")] = 10,
    engine: Engine = "auto",
    threads: Threads = None,
) -> None:
    """Count what a tokenizer makes of texts: compression, use of the vocabulary, the most frequent tokens."""
    import numpy as np

    from core.cli.console import say
    from core.corpus.tokens import encoded_pieces
    from core.files import text_size
    from core.tokenizer import Tokenizer
    from core.tokenizer.engines import choose

    encoder = Tokenizer.load(tokenizer)
    counts = np.zeros(encoder.vocab_size, np.int64)
    num_bytes = 0
    engine = choose(engine, text_size(inputs), "encoding")
    with reading_progress("encode", inputs) as (sources, progress):
        for source in sources:
            for piece in encoded_pieces(source, encoder, engine, threads):
                counts += np.bincount(piece.ids, minlength=len(counts))
                num_bytes += piece.num_bytes
                progress(num_bytes)
    num_tokens = int(counts.sum())
    say(f"{num_bytes:,} bytes, {num_tokens:,} tokens, {num_bytes / num_tokens:.4f} bytes per token")
    say(f"{np.count_nonzero(counts):,} of {len(encoder.vocab):,} ids used; longest token {_longest(encoder)!r}")
    say(f"{'id':>8}  {'count':>12}  {'share':>7}  token")
    for token_id in np.argsort(-counts, kind="stable")[:top].tolist():
        if counts[token_id]:
            token = encoder.vocab[token_id].decode("utf-8", errors="replace")
            say(f"{token_id:>8}  {counts[token_id]:>12,}  {counts[token_id] / num_tokens:>7.2%}  {token!r}")


def _summary(path: str, info: TokenFileInfo) -> str:
    per_token = f" ({info.num_bytes / info.num_tokens:.3f} bytes per token)" if info.num_tokens else ""
    return (
        f"{path}: {info.num_tokens:,} {info.dtype} tokens of {info.num_bytes:,} bytes{per_token}, "
        f"{info.num_documents:,} documents"
    )


def _longest(tokenizer: Tokenizer) -> str:
    ordinary = [
        token for token in tokenizer.vocab.values() if token.decode("utf-8", "replace") not in tokenizer.special_tokens
    ]
    return max(ordinary, key=len).decode("utf-8", errors="replace")
