"""One process per run: a lock of the system on the run's folder, gone when its holder is, however it dies."""

import contextlib
import os
import socket
from collections.abc import Iterator

from filelock import FileLock, Timeout

from core.files import read_json, write_json
from core.provenance import utc_now
from core.training.folder import RunFolder


@contextlib.contextmanager
def run_lock(folder: RunFolder) -> Iterator[None]:
    """Hold a run's folder, which is made if need be.

    The lock is `flock` (`msvcrt` on Windows) on the file `lock`, never a file whose existence counts, so what a killed
    process leaves locks nobody out. Who holds it stands in `lock.json`, for the message alone.

    Args:
        folder: The run's.

    Raises:
        ValueError: If another process trains in it; the message names the folder and the process.
        OSError: If the folder cannot be written, or its file system has no locks.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.lock, blocking=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"{folder.path}: {_holder(folder)} trains in this folder; stop it first, or give this run another --run-id"
        ) from None
    try:
        write_json(folder.lock_holder, {"pid": os.getpid(), "host": socket.gethostname(), "since_utc": utc_now()})
        yield
    finally:
        folder.lock_holder.unlink(missing_ok=True)
        lock.release()


def _holder(folder: RunFolder) -> str:
    try:
        holder = read_json(folder.lock_holder)
        return f"process {holder['pid']} on {holder['host']}, since {holder['since_utc']},"
    except (ValueError, KeyError, TypeError):  # it has only just begun
        return "another process"
