"""`workbook tokenizer convert`: the same tokenizer in the files of another library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from core.tokenizer import Tokenizer

Format = Literal["gpt2", "huggingface", "tiktoken"]


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FROM",
            help="A folder (vocab.json, merges.txt; or encoder.json, vocab.bpe), a tokenizer.json or a .tiktoken file.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder or file to write.")],
    kind: Annotated[
        Format | None,
        typer.Option("--format", help="If not given, .json is huggingface, .tiktoken is tiktoken, a folder is gpt2."),
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="gpt2 or cl100k, where FROM does not say how text is cut into pre-tokens.")
    ] = None,
    special: Annotated[
        list[str],
        typer.Option(help="A special token, where FROM does not say which there are; TOKEN=ID for a .tiktoken file."),
    ] = [],  # noqa: B006
) -> None:
    """Convert a tokenizer: GPT-2's files, Hugging Face's tokenizer.json, tiktoken's ranks; the ids stay the same."""
    from core.cli.console import say
    from core.tokenizer.huggingface import write_huggingface
    from core.tokenizer.ranks import write_ranks

    tokenizer = _read(source, pattern, special)
    kind = kind or {".json": "huggingface", ".tiktoken": "tiktoken"}.get(out.suffix, "gpt2")
    if kind == "gpt2":
        if out.is_file():
            raise ValueError(f"{out}: a file; name a folder for GPT-2's files")
        tokenizer.save(out)
    else:
        if out.is_dir():
            raise ValueError(f"{out}: a folder; name a file")
        (write_huggingface if kind == "huggingface" else write_ranks)(out, tokenizer)
    specials = ", ".join(f"{token}={tokenizer.special_id(token)}" for token in tokenizer.special_tokens) or "none"
    say(
        f"{out}: {len(tokenizer.vocab):,} tokens, {len(tokenizer.merges):,} merges, "
        f"pattern {tokenizer.pattern}, special tokens: {specials}"
    )


def _read(source: Path, pattern: str | None, special: list[str]) -> Tokenizer:
    """Read whatever files these are; --pattern and --special only where they say nothing of it."""
    from core.tokenizer import Tokenizer
    from core.tokenizer.formats import gpt2_paths
    from core.tokenizer.huggingface import read_huggingface
    from core.tokenizer.ranks import read_ranks

    if not source.exists():
        raise ValueError(f"{source}: no such file or folder")
    if source.is_dir() and not any(
        (source / f"{name}.json").exists() for name in ("special_tokens", "pre_tokenization")
    ):
        return Tokenizer.from_files(*gpt2_paths(source), special, pattern=pattern or "gpt2")
    is_ranks = source.is_file() and not _is_json(source)
    if not is_ranks and (pattern is not None or special):
        raise ValueError(f"{source}: it names its pattern and special tokens; leave out --pattern and --special")
    if source.is_dir():
        return Tokenizer.load(source)
    if not is_ranks:
        return read_huggingface(source)
    if pattern is None:
        raise ValueError(f"{source}: it does not say how text is cut into pre-tokens; give --pattern gpt2 or cl100k")
    return read_ranks(source, pattern, _special_ids(special))


def _is_json(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")  # base64 has no brace


def _special_ids(special: list[str]) -> dict[str, int]:
    from core.tokenizer.pretokenize import check_special_tokens

    pairs = [text.rpartition("=") for text in special]
    for text, (token, _, number) in zip(special, pairs, strict=True):
        if not token or not (number.isascii() and number.isdecimal()):
            raise ValueError(f"--special is {text!r}: TOKEN=ID was expected, for a .tiktoken file has none")
    check_special_tokens([token for token, _, _ in pairs])
    return {token: int(number) for token, _, number in pairs}
