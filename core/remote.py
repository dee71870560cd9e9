"""Files that a URL names, `s3://bucket/key` for one: reading, listing and uploading through fsspec."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

READ_AHEAD = 1 << 23
"""Bytes that are asked for at a time."""
_PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "az": "adlfs",
    "http": "aiohttp",
    "https": "aiohttp",
}
"""What speaks a protocol, where that is a package of its own."""


def filesystem(url: str) -> tuple["AbstractFileSystem", str]:
    """What speaks a URL's protocol, and the path there.

    Raises:
        ValueError: If the protocol is unknown, or the package that speaks it is not installed.
    """
    import fsspec

    # A store has no folders, or makes them by itself; a disk must be told to.
    makes_folders = {"auto_mkdir": True} if url.startswith(("file://", "local://")) else {}
    try:
        return fsspec.url_to_fs(url, **makes_folders)
    except ImportError as error:
        protocol = url.partition("://")[0]
        name = _PACKAGES.get(protocol)
        install = "-e '.[s3]'" if name == "s3fs" else name  # an extra of this project
        hint = f"{protocol}:// needs the package {name} (pip install {install})" if name else str(error)
        raise ValueError(f"{url}: {hint}") from None
    except ValueError as error:
        raise ValueError(f"{url}: {error}") from None


@contextlib.contextmanager
def one_line(url: str) -> Iterator[None]:
    """What a store's client raises (no credentials, no such host or bucket) becomes an OSError that names the URL."""
    try:
        yield
    except (ValueError, MemoryError):
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise OSError(text if text.startswith(url) else f"{url}: {text}") from None


def open_remote(url: str) -> BinaryIO:
    """Open for reading.

    Raises:
        ValueError: If nothing of that name is there, or it is a folder.
        OSError: If the store cannot be asked.
    """
    stamp(url)  # of a folder a store may open as an empty file
    store, path = filesystem(url)
    with one_line(url):
        return store.open(path, "rb", block_size=READ_AHEAD)


def stamp(url: str) -> tuple[int, str]:
    """Size in bytes, and what changes with the content: the store's tag, else the time of the last change."""
    store, path = filesystem(url)
    with one_line(url):
        try:
            info = store.info(path)
        except FileNotFoundError:
            raise ValueError(f"{url}: no such file") from None
        if info.get("type") == "directory":
            raise ValueError(f"{url}: a folder; name a file")
        names = ("ETag", "LastModified", "last_modified", "updated", "mtime", "created")
        return info["size"], next((str(info[name]) for name in names if info.get(name)), "")


def names(url: str) -> list[str]:
    """The names in a folder, none if there is no such folder."""
    store, path = filesystem(url)
    with one_line(url):
        try:
            return [entry.rstrip("/").rpartition("/")[2] for entry in store.ls(path, detail=False, refresh=True)]
        except FileNotFoundError:
            return []


def check_reachable(url: str) -> None:
    """Raise unless the store that a URL names can be asked; better now than after the work.

    Raises:
        ValueError: If the protocol is unknown, read only, or the package that speaks it is not installed.
        OSError: If the store cannot be asked.
    """
    store, path = filesystem(url)
    if url.partition("://")[0] in ("http", "https"):
        raise ValueError(f"{url}: can be read, not written; name a file or an object store's s3://bucket/key")
    with one_line(url):
        store.exists(path)


@contextlib.contextmanager
def uploaded(url: str) -> Iterator[Path]:
    """Yield a local path to write; what stands there in the end is uploaded, unless there was an error."""
    check_reachable(url)
    store, path = filesystem(url)
    with tempfile.TemporaryDirectory(prefix="workbook-") as folder:
        temporary = Path(folder) / "upload"
        temporary.touch()
        yield temporary
        with one_line(url):
            store.put_file(str(temporary), path)
