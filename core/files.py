"""Files: written whole or not at all, read through whatever compression their name says."""

import codecs
import contextlib
import gzip
import itertools
import json
import os
import secrets
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

BLOCK_BYTES = 1 << 20


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on failure.

    Readers see the old file or the whole new one, never a part, also after a crash.

    Raises:
        OSError: Where the folder cannot be made or written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode())


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write indented JSON atomically."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read JSON.

    Raises:
        ValueError: If there is no such file, or what it holds is not JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None


def binary_blocks(path: str | os.PathLike[str], block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Read a file in blocks; names that end in `.gz` or `.zst` are decompressed on the way.

    Raises:
        ValueError: If there is no such file, it is a folder, or its compression is damaged or cut off.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: a folder; name a file")
    if not path.exists():
        raise ValueError(f"{path}: no such file")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            blocks = iter(lambda: file.read(block_bytes), b"")
            yield from _decompress_zstd(file) if path.suffix == ".zst" else blocks
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: damaged or cut off ({error})") from None


def _decompress_zstd(file: BinaryIO) -> Iterator[bytes]:
    """The content of a file of one or more Zstandard frames; EOFError if the last one does not end."""
    import zstandard

    frame = None
    while data := file.read(1 << 16):
        while data:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            try:
                block = frame.decompress(data)
            except zstandard.ZstdError as error:
                raise EOFError(str(error)) from None
            if block:  # an empty one would read as the end
                yield block
            data = frame.unused_data
            if frame.eof:
                frame = None
    if frame is not None:  # the library itself takes a cut file for a whole one
        raise EOFError("the compressed data ends inside a frame")


def text_blocks(path: str | os.PathLike[str], block_bytes: int = BLOCK_BYTES) -> Iterator[str]:
    """Read a UTF-8 file in blocks of text, newlines as they stand.

    Raises:
        ValueError: If the file is missing, empty, cut off inside its compression, or not UTF-8; the message then names
            the offset of the first wrong byte (counted after decompression).
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    consumed = 0
    for block in itertools.chain(binary_blocks(path, block_bytes), [b""]):
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            offset = consumed - pending + error.start
            raise ValueError(f"{path}: not UTF-8 at byte {offset} ({error.reason})") from None
        consumed += len(block)
        if text:
            yield text
    if consumed == 0:
        raise ValueError(f"{path}: the file is empty")
