"""Files: written whole or not at all, read through whatever compression their name says.

A path may be a URL, `s3://bucket/key` say, wherever the docstring says so; `core.remote` then does the work.
"""

import codecs
import contextlib
import gzip
import itertools
import json
import os
import secrets
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

BLOCK_BYTES = 1 << 20
COMPRESSED = (".gz", ".zst")
"""How names of compressed files end."""


class Digest(Protocol):
    """What `hashlib` makes."""

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""


@dataclass(slots=True, eq=False)
class Source:
    """A file, or a range of its bytes: stands where a path to read stands, and tells how far it has been read."""

    path: str | os.PathLike[str]
    """URL or local."""
    begin: int = 0
    end: int | None = None
    """Range of the bytes as they are stored; of a compressed file the whole."""
    digest: Digest | None = None
    """Updated with the stored bytes as they are read."""
    num_read: int = 0
    """Stored bytes read so far."""

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return os.fspath(self.path)

    def read(self, file: BinaryIO, size: int) -> bytes:
        """The next bytes of the range, at most `size`; none at its end."""
        if self.end is not None:
            size = min(size, self.end - self.begin - self.num_read)
        data = file.read(size)
        self.num_read += len(data)
        if self.digest is not None:
            self.digest.update(data)
        return data


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path names something elsewhere, such as `s3://bucket/key`."""
    return "://" in os.fspath(path)


def temporary_name(path: Path) -> Path:
    """A name beside a path that nobody else has."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


def is_compressed(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name says that it is compressed."""
    return os.fspath(path).endswith(COMPRESSED)


def file_stamp(path: str | os.PathLike[str]) -> tuple[int, str]:
    """The stored bytes of a file (also a URL), and what changes when its content does: its time, or a store's tag.

    Raises:
        ValueError: If there is no such file, or it is a folder.
    """
    if is_url(path):
        from core.remote import stamp

        return stamp(os.fspath(path))
    local = Path(os.fspath(path))
    if local.is_dir():
        raise ValueError(f"{path}: a folder; name a file")
    if not local.exists():
        raise ValueError(f"{path}: no such file")
    status = local.stat()
    return status.st_size, str(status.st_mtime_ns)


def file_size(path: str | os.PathLike[str]) -> int:
    """The stored bytes of a file (also a URL), or of a `Source`'s range; ValueError if there is no such file."""
    begin, end = (path.begin, path.end) if isinstance(path, Source) else (0, None)
    return (file_stamp(path)[0] if end is None else end) - begin


def check_text(path: str | os.PathLike[str]) -> None:
    """Raise ValueError where a text (also at a URL) is missing, a folder or empty, or does not begin as UTF-8."""
    with contextlib.closing(text_blocks(path)) as blocks:
        next(blocks)


def text_size(paths: Iterable[str | os.PathLike[str]]) -> int:
    """About how much text some files (also URLs) hold: compressed ones three times their size, missing ones nothing."""
    total = 0
    for path in paths:
        with contextlib.suppress(ValueError):
            total += file_size(path) * (3 if is_compressed(path) else 1)
    return total


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on failure.

    Readers see the old file or the whole new one, never a part, also after a crash. What goes to a URL is first written
    to the folder for temporary files and uploaded as the last step; object stores show a key only when it is whole.

    Raises:
        OSError: Where the folder cannot be made or written.
    """
    if is_url(path):
        from core.remote import uploaded

        with uploaded(os.fspath(path)) as temporary:
            yield temporary
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def join_path(folder: str | os.PathLike[str], name: str) -> str:
    """A file's path in a folder, which may be a URL."""
    return f"{os.fspath(folder).rstrip('/')}/{name}" if is_url(folder) else os.path.join(folder, name)  # noqa: PTH118


def folder_names(folder: str | os.PathLike[str]) -> list[str]:
    """The names in a folder (also a URL), sorted; none if there is no such folder."""
    if is_url(folder):
        from core.remote import names

        return sorted(names(os.fspath(folder)))
    return sorted(path.name for path in Path(folder).iterdir()) if Path(folder).is_dir() else []


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode())


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write indented JSON atomically."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read JSON, also from a URL.

    Raises:
        ValueError: If there is no such file, or what it holds is not JSON.
    """
    try:
        with open_stored(path) as file:
            return json.loads(file.read())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None


def read_sidecar(path: str | os.PathLike[str], kind: str) -> Any:
    """Read `FILE.json`, the JSON beside a file that says what the file is.

    Args:
        path: The file itself, also a URL.
        kind: What it should be, for the message: "token file".

    Raises:
        ValueError: If the file is missing or a folder, it has no such JSON beside it, or that is none.
    """
    file_stamp(path)
    sidecar = f"{os.fspath(path)}.json"
    try:
        file_stamp(sidecar)
    except ValueError:
        name = sidecar.rpartition("/")[2]
        raise ValueError(f"{path}: not a {kind}: it has no {name} beside it") from None
    return read_json(sidecar)


def open_stored(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file, also a URL, to read its bytes as they are stored.

    Raises:
        ValueError: If there is no such file, or it is a folder.
    """
    if is_url(path):
        from core.remote import open_remote

        return open_remote(os.fspath(path))
    file_stamp(path)
    return Path(os.fspath(path)).open("rb")


def stored_blocks(path: str | os.PathLike[str], block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Read a file, a URL or a `Source` in blocks as it is stored."""
    source = path if isinstance(path, Source) else Source(path)
    source.num_read = 0
    with open_stored(source) as file:
        if source.begin:
            file.seek(source.begin)
        yield from iter(lambda: source.read(file, block_bytes), b"")


def binary_blocks(path: str | os.PathLike[str], block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Read a file in blocks; names that end in `.gz` or `.zst` are decompressed on the way.

    Args:
        path: A file, a URL or a `Source`.
        block_bytes: Size of the blocks, the last one and those of `.zst` excepted.

    Raises:
        ValueError: If there is no such file, it is a folder, or its compression is damaged or cut off.
    """
    name = os.fspath(path)
    if not name.endswith(COMPRESSED):
        yield from stored_blocks(path, block_bytes)
        return
    try:
        with contextlib.closing(stored_blocks(path, 1 << 16)) as stored:
            if name.endswith(".zst"):
                yield from _decompress_zstd(stored)
            else:
                yield from _decompress_gzip(stored, block_bytes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: damaged or cut off ({error})") from None


class _Reader:
    """Blocks as a file to read from."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = b""

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`; none at the end."""
        data = self._rest or next(self._blocks, b"")
        self._rest = data[size:]
        return data[:size]


def _decompress_gzip(stored: Iterator[bytes], block_bytes: int) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=_Reader(stored)) as file:
        yield from iter(lambda: file.read(block_bytes), b"")


def _decompress_zstd(stored: Iterator[bytes]) -> Iterator[bytes]:
    """The content of a file of one or more Zstandard frames; EOFError if the last one does not end."""
    import zstandard

    frame = None
    for data in stored:
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
    """Read a UTF-8 file, a URL or a `Source` in blocks of text, newlines as they stand.

    Raises:
        ValueError: If the file is missing, empty, cut off inside its compression, or not UTF-8; the message then names
            the offset of the first wrong byte (counted after decompression).
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    consumed = begin = path.begin if isinstance(path, Source) else 0
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
    if consumed == begin:
        raise ValueError(f"{path}: the file is empty")
