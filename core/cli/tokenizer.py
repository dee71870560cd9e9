"""`workbook tokenizer`: train, encode, decode, look at the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.cli.tokenizer_convert import convert
from core.tokenizer.pretokenize import END_OF_TEXT

if TYPE_CHECKING:
    from core.tokenizer import Tokenizer

app = typer.Typer(
    help="Byte-level BPE: train, encode, decode, statistics.", no_args_is_help=True, rich_markup_mode=None
)

app.command()(convert)

Input = Annotated[Path, typer.Argument(metavar="INPUT", help="UTF-8 text, plain, .gz or .zst.")]
Folder = Annotated[Path, typer.Option("--tokenizer", help="Folder that `workbook tokenizer train` wrote.")]


@app.command()
def train(
    input_path: Input,
    out: Annotated[Path, typer.Option(help="Folder for vocab.json, merges.txt and special_tokens.json.")],
    vocab_size: Annotated[int, typer.Option(help="Ids in all: 256 bytes, the special tokens, the merges.")] = 10_000,
    special: Annotated[list[str], typer.Option(help="A special token; may be given several times.")] = [END_OF_TEXT],  # noqa: B006
) -> None:
    """Train a vocabulary."""
    from core.cli.console import say, stage_progress
    from core.tokenizer import Tokenizer, train_bpe

    if out.is_file():
        raise ValueError(f"{out}: a file; name a folder for the tokenizer's files")
    with stage_progress() as progress:
        vocab, merges = train_bpe(
            input_path, vocab_size, special, on_merge=lambda done, of: progress("merges", done, of)
        )
    tokenizer = Tokenizer(vocab, merges, special)
    tokenizer.save(out)
    early = f" ({vocab_size:,} wanted: no pair was left)" if len(vocab) < vocab_size else ""
    say(f"{out}: {len(vocab):,} tokens{early}, {len(merges):,} merges, the longest {_longest(tokenizer)!r}")


@app.command()
def encode(
    input_path: Input,
    tokenizer: Folder,
    out: Annotated[Path, typer.Option(help="Token file to write; its sidecar is OUT.json.")],
) -> None:
    """Encode a text file to a token file (uint16, or uint32 for large vocabularies)."""
    from core.cli.console import byte_progress, say
    from core.corpus.tokens import encode_files
    from core.tokenizer import Tokenizer

    encoder = Tokenizer.load(tokenizer)
    compressed = input_path.suffix in (".gz", ".zst")
    size = input_path.stat().st_size if input_path.is_file() and not compressed else None
    with byte_progress(input_path.name) as progress:
        info = encode_files([input_path], encoder, out, lambda done: progress(done, size))
    say(
        f"{out}: {info.num_tokens:,} {info.dtype} tokens of {info.num_bytes:,} bytes "
        f"({info.num_bytes / info.num_tokens:.3f} bytes per token), {info.num_documents:,} documents"
    )


@app.command()
def decode(
    token_file: Annotated[Path, typer.Argument(metavar="TOKENS", help="Token file with its sidecar.")],
    tokenizer: Folder,
    out: Annotated[Path | None, typer.Option(help="Text file to write; to the terminal if not given.")] = None,
) -> None:
    """Decode a token file to the very bytes that were encoded."""
    import sys

    from core.corpus.tokens import open_tokens
    from core.files import atomic_path
    from core.tokenizer import Tokenizer

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


@app.command()
def stats(
    input_path: Input,
    tokenizer: Folder,
    top: Annotated[int, typer.Option(min=1, help="How many of the most frequent tokens to list.")] = 10,
) -> None:
    """Count what a tokenizer makes of a text: compression, use of the vocabulary, the most frequent tokens."""
    from collections import Counter

    from core.cli.console import say
    from core.files import text_blocks
    from core.tokenizer import Tokenizer
    from core.tokenizer.pretokenize import independent_segments

    encoder = Tokenizer.load(tokenizer)
    counts: Counter[int] = Counter()
    num_bytes = 0
    for segment in independent_segments(text_blocks(input_path), encoder.special_tokens):
        counts.update(encoder.encode(segment))
        num_bytes += len(segment.encode())
    num_tokens = counts.total()
    say(f"{num_bytes:,} bytes, {num_tokens:,} tokens, {num_bytes / num_tokens:.4f} bytes per token")
    say(f"{len(counts):,} of {len(encoder.vocab):,} ids used; longest token {_longest(encoder)!r}")
    say(f"{'id':>8}  {'count':>12}  {'share':>7}  token")
    for token_id, count in counts.most_common(top):
        token = encoder.vocab[token_id].decode("utf-8", errors="replace")
        say(f"{token_id:>8}  {count:>12,}  {count / num_tokens:>7.2%}  {token!r}")


def _longest(tokenizer: Tokenizer) -> str:
    ordinary = [
        token for token in tokenizer.vocab.values() if token.decode("utf-8", "replace") not in tokenizer.special_tokens
    ]
    return max(ordinary, key=len).decode("utf-8", errors="replace")
