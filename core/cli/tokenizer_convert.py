"""`workbook tokenizer convert`: the same tokenizer in the files of another library."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from core.tokenizer import Tokenizer

Format = Literal["gpt2", "huggingface", "tiktoken"]
_FORMATS = {"": "gpt2", ".json": "huggingface", ".tiktoken": "tiktoken"}
"""By what a name ends with."""
_BRACKETED = re.compile(rb"<[!-~]+>")
"""How tokens look that stand for no text: <|endoftext|>, <pad>, </s>."""


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
    from core.outputs import check_output
    from core.tokenizer.huggingface import write_huggingface
    from core.tokenizer.ranks import write_ranks
    from core.tokenizer.tokenizer import FILES

    kind = kind or ("gpt2" if out.is_dir() else _FORMATS.get(out.suffix))
    if kind is None:
        raise ValueError(
            f"{out}: {out.suffix} is no format: .json is Hugging Face's, .tiktoken tiktoken's, a folder GPT-2's; "
            "--format gpt2, huggingface or tiktoken says it whatever the name"
        )
    read = [source / name for name in (*FILES, "encoder.json", "vocab.bpe")] if source.is_dir() else [source]
    check_output(out, folder=kind == "gpt2")
    for path in [out / name for name in FILES] if kind == "gpt2" else [out]:
        check_output(path, read)
    tokenizer, assumed = _read(source, pattern, special)
    if kind == "gpt2":
        tokenizer.save(out)
    else:
        (write_huggingface if kind == "huggingface" else write_ranks)(out, tokenizer)
    specials = ", ".join(f"{token}={tokenizer.special_id(token)}" for token in tokenizer.special_tokens) or "none"
    say(
        f"{out}: {len(tokenizer.vocab):,} tokens, {len(tokenizer.merges):,} merges, "
        f"pattern {tokenizer.pattern}, special tokens: {specials}"
    )
    if assumed:
        say(f"assumed, for {source} does not say: {'; '.join(assumed)}")


def _read(source: Path, pattern: str | None, special: list[str]) -> tuple[Tokenizer, list[str]]:
    """Read whatever files these are; --pattern and --special only where they say nothing of it.

    Returns:
        The tokenizer, and what was assumed because neither the files nor the options say it.
    """
    from core.tokenizer import Tokenizer
    from core.tokenizer.huggingface import read_huggingface
    from core.tokenizer.ranks import looks_like_ranks, read_ranks

    if not source.exists():
        raise ValueError(f"{source}: no such file or folder")
    if source.is_dir() and not any(
        (source / f"{name}.json").exists() for name in ("special_tokens", "pre_tokenization")
    ):
        return _read_bare(source, pattern, special)
    is_ranks = source.is_file() and not _is_json(source)
    if not is_ranks and (pattern is not None or special):
        raise ValueError(f"{source}: it names its pattern and special tokens; leave out --pattern and --special")
    if source.is_dir():
        return Tokenizer.load(source), []
    if not is_ranks:
        return read_huggingface(source), []
    if not looks_like_ranks(source):
        raise ValueError(f"{source}: not a tokenizer: neither a tokenizer.json nor tiktoken's ranks")
    if pattern is None:
        raise ValueError(f"{source}: it does not say how text is cut into pre-tokens; give --pattern gpt2 or cl100k")
    tokenizer = read_ranks(source, pattern, _special_ids(special))
    if special:
        return tokenizer, []
    left_out = sorted(set(range(tokenizer.vocab_size)) - set(tokenizer.vocab))
    ids = f" (no token has id {', '.join(map(str, left_out[:4]))}{' ...' * (len(left_out) > 4)})" if left_out else ""
    return tokenizer, [f"no special tokens{ids}; --special TOKEN=ID names one"]


def _read_bare(folder: Path, pattern: str | None, special: list[str]) -> tuple[Tokenizer, list[str]]:
    """GPT-2's two files alone, which say neither how text is cut nor which tokens are special.

    A token in angle brackets that no merge makes is taken for special: nothing else could ever give its id.
    """
    from core.tokenizer import Tokenizer
    from core.tokenizer.formats import gpt2_paths, read_merges, read_vocab

    assumed = [] if pattern else ["pattern gpt2"]
    paths = gpt2_paths(folder)
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise ValueError(f"{folder}: not a tokenizer folder (no {' and no '.join(missing)})")
    vocab, merges = read_vocab(paths[0]), read_merges(paths[1])
    if not special:
        made = {left + right for left, right in merges}
        unmade = [token for _, token in sorted(vocab.items()) if len(token) > 1 and token not in made]
        special = [token.decode() for token in unmade if _BRACKETED.fullmatch(token)]
        others = [token.decode("utf-8", "replace") for token in unmade if not _BRACKETED.fullmatch(token)]
        assumed.append(f"special tokens {', '.join(special) or 'none'}")
        if others:
            more = " ..." * (len(others) > 4)
            assumed[-1] += f", not {', '.join(others[:4])}{more}, which no merge makes"
        assumed[-1] += " (--special names others)"
    return Tokenizer(vocab, merges, special, pattern=pattern or "gpt2"), assumed


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
