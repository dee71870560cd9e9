"""Token files: raw little-endian integers, memory-mapped, each with a JSON sidecar that says what they are."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.corpus.parts import text_id
from core.files import atomic_path, is_url, read_sidecar, text_blocks, text_size, write_json
from core.outputs import check_output
from core.tokenizer import Tokenizer
from core.tokenizer.engines import choose
from core.tokenizer.pretokenize import END_OF_TEXT, independent_segments, special_pattern, split_specials

if TYPE_CHECKING:
    from core.tokenizer.fast.stream import Chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFileInfo:
    """The sidecar `FILE.json` of a token file."""

    dtype: str
    """`uint16`, or `uint32` when an id needs it; little-endian."""
    num_tokens: int
    num_bytes: int
    """Size of the text that was encoded, in UTF-8 bytes."""
    num_documents: int
    """End markers, and a file's text after its last one if it is not blank."""
    vocab_size: int
    end_of_text_id: int | None
    """Id of the marker that ends a document; null if the tokenizer has none."""
    tokenizer_id: str
    sha256: str
    """Of the token file itself."""
    shard: dict[str, Any] | None = None
    """Of which text a shard is (see `core.corpus.shards`); null, and not written, for a whole file."""
    text: str | None = None
    """`core.corpus.parts.text_id` of the texts of a whole file; null, and not written, for a shard."""


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A memory-mapped token file and its sidecar."""

    path: Path
    info: TokenFileInfo
    tokens: np.ndarray
    """`num_tokens` integers, read-only."""


def sidecar_path(path: str | os.PathLike[str]) -> str | Path:
    """`FILE.json` beside FILE; a string where FILE is a URL, which a `Path` would spoil."""
    return f"{path}.json" if is_url(path) else Path(f"{Path(path)}.json")


def token_dtype(vocab_size: int) -> str:
    """The smaller of two types that holds every id."""
    return "uint16" if vocab_size <= 1 << 16 else "uint32"


@dataclass(frozen=True, slots=True)
class EncodedPiece:
    """A piece of a text, encoded."""

    ids: np.ndarray
    """Integers of any size."""
    num_bytes: int
    tail: Callable[[], str]
    """Gives what follows the last end-of-text token, or the whole piece."""


def encoded_pieces(
    path: str | os.PathLike[str], tokenizer: Tokenizer, engine: str = "auto", threads: int | None = None
) -> Iterator[EncodedPiece]:
    """Encode a text file piece by piece, in order.

    Args:
        path: UTF-8 text, plain, `.gz` or `.zst`; also a URL or a `core.files.Source`.
        tokenizer: Its special tokens stay whole.
        engine: `reference`, `fast`, or `auto`: whichever is quicker for a file of that size.
        threads: Of the fast engine; one a core if not given.

    Raises:
        ValueError: If the file is missing, empty or not UTF-8.
    """
    if choose(engine, text_size([path]), "encoding") == "fast":
        return _fast_pieces(path, tokenizer, threads)
    return _reference_pieces(path, tokenizer)


def _reference_pieces(path: str | os.PathLike[str], tokenizer: Tokenizer) -> Iterator[EncodedPiece]:
    pattern = special_pattern(tokenizer.special_tokens)

    def tail(segment: str) -> str:
        pieces = split_specials(segment, pattern)
        last = max((place for place, piece in enumerate(pieces) if place % 2 and piece == END_OF_TEXT), default=-1)
        return "".join(pieces[last + 1 :])

    for segment in independent_segments(text_blocks(path), tokenizer.special_tokens, tokenizer.pattern):
        ids = np.array(tokenizer.encode_reference(segment), dtype=np.uint32)
        yield EncodedPiece(ids, len(segment.encode()), functools.partial(tail, segment))


def _fast_pieces(path: str | os.PathLike[str], tokenizer: Tokenizer, threads: int | None) -> Iterator[EncodedPiece]:
    end_of_text_id = tokenizer.special_id(END_OF_TEXT)

    from core.tokenizer.fast.boundaries import PADDING

    def tail(chunk: "Chunk") -> str:
        rows = chunk.segments
        marked = np.flatnonzero(rows[:, 2] == end_of_text_id) if end_of_text_id is not None else ()
        first = int(marked[-1]) + 1 if len(marked) else 0
        begin = int(rows[first, 0]) if first < len(rows) else PADDING + chunk.num_bytes
        return chunk.buffer[begin : PADDING + chunk.num_bytes].tobytes().decode()

    for ids, chunk in tokenizer.fast_encoder(threads).encode_file(path):
        yield EncodedPiece(ids, chunk.num_bytes, functools.partial(tail, chunk))


def encode_files(
    inputs: Sequence[str | os.PathLike[str]],
    tokenizer: Tokenizer,
    out: str | os.PathLike[str],
    progress: Callable[[int], None] | None = None,
    *,
    engine: str = "auto",
    threads: int | None = None,
    replace: bool = True,
) -> TokenFileInfo:
    """Encode text files, one after another, into one token file; memory holds a few pieces at a time.

    Args:
        inputs: UTF-8 text, plain, `.gz` or `.zst`; also URLs and `core.files.Source`.
        tokenizer: Its special tokens stay whole.
        out: Token file to write, also a URL; the sidecar goes beside it.
        progress: Called with the text bytes encoded so far.
        engine: `reference`, `fast`, or `auto`: whichever is quicker. They write the same bytes.
        threads: Of the fast engine; one a core if not given.
        replace: Whether also the tokens of other texts, or by another tokenizer, are replaced that stand there.

    Raises:
        ValueError: If an input is missing, empty or not UTF-8, or `out` cannot be written, is an input, or holds what
            must not be replaced; nothing is left behind then.
    """
    text = text_id(inputs)
    if not replace:
        _check_replaceable(out, text, tokenizer)
    info = write_tokens(inputs, tokenizer, out, progress, engine=engine, threads=threads)
    info = dataclasses.replace(info, text=text)
    write_info(out, info)
    return info


def _check_replaceable(out: str | os.PathLike[str], text: str, tokenizer: Tokenizer) -> None:
    """Raise ValueError if a token file of another text or tokenizer stands there."""
    try:
        standing = read_info(out)
    except ValueError:  # nothing, or no token file
        return
    if (standing.text, standing.tokenizer_id) != (text, tokenizer.tokenizer_id):
        raise ValueError(f"{out}: tokens of other text or another tokenizer stand there; --fresh replaces them")


def write_tokens(
    inputs: Sequence[str | os.PathLike[str]],
    tokenizer: Tokenizer,
    out: str | os.PathLike[str],
    progress: Callable[[int], None] | None = None,
    *,
    engine: str = "auto",
    threads: int | None = None,
) -> TokenFileInfo:
    """`encode_files` without the sidecar."""
    check_output(out, inputs, sidecar=True)
    engine = choose(engine, text_size(inputs), "encoding")
    end_of_text_id = tokenizer.special_id(END_OF_TEXT)
    dtype = np.dtype(token_dtype(tokenizer.vocab_size)).newbyteorder("<")
    num_tokens = num_bytes = num_documents = 0
    digest = hashlib.sha256()
    with atomic_path(out) as temporary, temporary.open("wb") as file:
        for path in inputs:
            tail_is_blank = True
            for piece in encoded_pieces(path, tokenizer, engine, threads):
                data = piece.ids.astype(dtype, copy=False)
                file.write(data)
                digest.update(data)
                num_tokens += data.size
                num_bytes += piece.num_bytes
                if end_of_text_id is not None:
                    markers = int(np.count_nonzero(data == end_of_text_id))
                    num_documents += markers
                    # Text that is not blank stays so until the next marker: few tails are looked at.
                    if markers or tail_is_blank:
                        tail_is_blank = not piece.tail().strip()
                if progress is not None:
                    progress(num_bytes)
            num_documents += end_of_text_id is None or not tail_is_blank
    return TokenFileInfo(
        dtype=dtype.name,
        num_tokens=num_tokens,
        num_bytes=num_bytes,
        num_documents=num_documents,
        vocab_size=tokenizer.vocab_size,
        end_of_text_id=end_of_text_id,
        tokenizer_id=tokenizer.tokenizer_id,
        sha256=digest.hexdigest(),
    )


def write_info(path: str | os.PathLike[str], info: TokenFileInfo) -> None:
    """Write a token file's sidecar."""
    content = dataclasses.asdict(info)
    for field in ("shard", "text"):
        if content[field] is None:
            del content[field]
    write_json(sidecar_path(path), content)


def read_info(path: str | os.PathLike[str]) -> TokenFileInfo:
    """Read a token file's sidecar.

    Raises:
        ValueError: If the token file or its sidecar is missing, or that is no sidecar.
    """
    content = read_sidecar(path, "token file")
    try:
        return TokenFileInfo(**content)
    except TypeError:
        raise ValueError(f"{sidecar_path(path)}: not the sidecar of a token file") from None


def open_tokens(path: str | os.PathLike[str]) -> TokenFile:
    """Memory-map a token file.

    Raises:
        ValueError: If it or its sidecar is missing, or its size is not what the sidecar says, or it is a URL.
    """
    if is_url(path):
        raise ValueError(f"{path}: token files are mapped into memory; copy it and its sidecar to a local folder first")
    path = Path(path)
    info = read_info(path)
    if info.dtype not in ("uint16", "uint32"):
        raise ValueError(f"{sidecar_path(path)}: dtype is {info.dtype!r}: uint16 or uint32")
    dtype = np.dtype(info.dtype).newbyteorder("<")
    found = path.stat().st_size
    expected = info.num_tokens * dtype.itemsize
    if found != expected:
        raise ValueError(f"{path}: {found} bytes, but its sidecar says {info.num_tokens} tokens, {expected} bytes")
    if not expected:  # nothing to map: a shard may be empty
        tokens = np.zeros(0, dtype)
        tokens.setflags(write=False)
        return TokenFile(path, info, tokens)
    return TokenFile(path, info, np.memmap(path, dtype=dtype, mode="r", shape=(info.num_tokens,)))


def documents(tokens: np.ndarray, end_of_text_id: int) -> Iterable[np.ndarray]:
    """The documents of a token array, without their end markers; text after the last marker is left out."""
    start = 0
    for end in np.flatnonzero(tokens == end_of_text_id):
        yield tokens[start:end]
        start = end + 1
