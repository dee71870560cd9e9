"""Whether what a command is to write can be written: asked before the work, not after it."""

import itertools
import os
from collections.abc import Iterable
from pathlib import Path

from core.files import is_url, temporary_name


def check_output(
    out: str | os.PathLike[str],
    inputs: Iterable[str | os.PathLike[str]] = (),
    *,
    folder: bool = False,
    sidecar: bool = False,
) -> None:
    """Raise ValueError unless `out` can be written and is nothing that is read: to be asked before the work.

    Nothing is left behind: where the folder of `out` is still to be made, the nearest one that stands is tried.

    Args:
        out: File to write, also a URL.
        inputs: Files that are read; `out` must be none of them, by whatever path or link.
        folder: Whether `out` is a folder to write files to.
        sidecar: Whether `OUT.json` is written too, and must be none of the inputs either.

    Raises:
        ValueError: If it cannot be, with the reason.
    """
    inputs = [os.fspath(path) for path in inputs]
    written = [] if folder else [os.fspath(out), f"{os.fspath(out)}.json"][: 1 + sidecar]
    for path, name in itertools.product(inputs, written):
        if _same_file(path, name):
            raise ValueError(f"{name}: to be read and to be written; name another file to write")
    if is_url(out):
        from core.remote import check_reachable

        check_reachable(os.fspath(out))
        return
    path = Path(out)
    try:
        if folder and path.exists() and not path.is_dir():
            raise ValueError(f"{out}: a file; name the folder to write to")
        if not folder and path.is_dir():
            raise ValueError(f"{out}: a folder; name the file to write")
        if not folder and path.exists() and not path.is_file():  # the new file would take the place of /dev/null
            raise ValueError(f"{out}: a device or a pipe; name the file to write")
        parents = [path, *path.parents] if folder else path.parents
        nearest = next(parent for parent in parents if parent.exists())
        if not nearest.is_dir():
            raise ValueError(f"{out}: {nearest} is a file, not a folder")
        probe = temporary_name(nearest / (path.name or "out"))
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise ValueError(f"{out}: cannot be written ({error.strerror or error})") from None


def _same_file(path: str, other: str) -> bool:
    """Whether two paths lead to one file, also through links; URLs must be equal."""
    if is_url(path) or is_url(other):
        return path == other
    try:
        return os.path.samefile(path, other)  # noqa: PTH121
    except OSError:
        return os.path.realpath(path) == os.path.realpath(other)
