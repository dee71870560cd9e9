"""Token files: raw little-endian integers, memory-mapped, each with a JSON sidecar that says what they are."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.files import atomic_path, read_json, text_blocks, write_json
from core.tokenizer import Tokenizer
from core.tokenizer.pretokenize import END_OF_TEXT, independent_segments


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


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A memory-mapped token file and its sidecar."""

    path: Path
    info: TokenFileInfo
    tokens: np.ndarray
    """`num_tokens` integers, read-only."""


def sidecar_path(path: str | os.PathLike[str]) -> Path:
    """`FILE.json` beside FILE."""
    return Path(f"{Path(path)}.json")


def token_dtype(vocab_size: int) -> str:
    """The smaller of two types that holds every id."""
    return "uint16" if vocab_size <= 1 << 16 else "uint32"


def encode_files(
    inputs: Sequence[str | os.PathLike[str]],
    tokenizer: Tokenizer,
    out: str | os.PathLike[str],
    progress: Callable[[int], None] | None = None,
) -> TokenFileInfo:
    """Encode text files, one after another, into one token file; memory holds a block at a time.

    Args:
        inputs: UTF-8 text, plain, `.gz` or `.zst`.
        tokenizer: Its special tokens stay whole.
        out: Token file to write; the sidecar goes beside it.
        progress: Called with the text bytes encoded so far.

    Raises:
        ValueError: If an input is missing, empty or not UTF-8; nothing is left behind then.
    """
    if Path(out).is_dir():
        raise ValueError(f"{out}: a folder; name the token file to write")
    if any(Path(path).resolve() == Path(out).resolve() for path in inputs):
        raise ValueError(f"{out}: the text itself; its tokens need a file of their own")
    end_of_text_id = tokenizer.special_id(END_OF_TEXT)
    dtype = np.dtype(token_dtype(tokenizer.vocab_size)).newbyteorder("<")
    num_tokens = num_bytes = num_documents = 0
    digest = hashlib.sha256()
    with atomic_path(out) as temporary, temporary.open("wb") as file:
        for path in inputs:
            tail_is_blank = True
            for segment in independent_segments(text_blocks(path), tokenizer.special_tokens):
                ids = np.array(tokenizer.encode(segment), dtype=dtype)
                data = ids.tobytes()
                file.write(data)
                digest.update(data)
                num_tokens += ids.size
                num_bytes += len(segment.encode())
                if end_of_text_id is not None:
                    num_documents += int(np.count_nonzero(ids == end_of_text_id))
                    _, marker, tail = segment.rpartition(END_OF_TEXT)
                    tail_is_blank = (tail_is_blank or bool(marker)) and not tail.strip()
                if progress is not None:
                    progress(num_bytes)
            num_documents += end_of_text_id is None or not tail_is_blank
    info = TokenFileInfo(
        dtype=dtype.name,
        num_tokens=num_tokens,
        num_bytes=num_bytes,
        num_documents=num_documents,
        vocab_size=tokenizer.vocab_size,
        end_of_text_id=end_of_text_id,
        tokenizer_id=tokenizer.tokenizer_id,
        sha256=digest.hexdigest(),
    )
    write_json(sidecar_path(out), dataclasses.asdict(info))
    return info


def read_info(path: str | os.PathLike[str]) -> TokenFileInfo:
    """Read a token file's sidecar.

    Raises:
        ValueError: If it is missing or not a sidecar.
    """
    content = read_json(sidecar_path(path))
    try:
        return TokenFileInfo(**content)
    except TypeError as error:
        raise ValueError(f"{sidecar_path(path)}: not the sidecar of a token file ({error})") from None


def open_tokens(path: str | os.PathLike[str]) -> TokenFile:
    """Memory-map a token file.

    Raises:
        ValueError: If it or its sidecar is missing, or its size is not what the sidecar says.
    """
    path = Path(path)
    info = read_info(path)
    if info.dtype not in ("uint16", "uint32"):
        raise ValueError(f"{sidecar_path(path)}: dtype is {info.dtype!r}: uint16 or uint32")
    dtype = np.dtype(info.dtype).newbyteorder("<")
    found = path.stat().st_size if path.exists() else 0
    expected = info.num_tokens * dtype.itemsize
    if found != expected:
        raise ValueError(f"{path}: {found} bytes, but its sidecar says {info.num_tokens} tokens, {expected} bytes")
    return TokenFile(path, info, np.memmap(path, dtype=dtype, mode="r", shape=(info.num_tokens,)))


def documents(tokens: np.ndarray, end_of_text_id: int) -> Iterable[np.ndarray]:
    """The documents of a token array, without their end markers; text after the last marker is left out."""
    start = 0
    for end in np.flatnonzero(tokens == end_of_text_id):
        yield tokens[start:end]
        start = end + 1
