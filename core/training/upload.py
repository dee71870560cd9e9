"""A run's rows, and if wanted its model, in an object store.

What lies under the URL is laid out as it is here: `URL/results/runs/<run_id>.parquet` can be read with all the others
there, and a copy of `URL/data` is a data folder to generate text from.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from fsspec.callbacks import Callback

from core.files import BLOCK_BYTES, is_url, join_path, stored_blocks
from core.remote import filesystem, one_line
from core.results import RUN_TABLES, table_path
from core.training.folder import RunFolder


def check_upload(url: str) -> None:
    """Raise unless something can be written under a URL; better now than after a week of training.

    Raises:
        ValueError: If it is no URL, or of a protocol that is unknown or not installed.
        OSError: If the store cannot be asked, or refuses.
    """
    if not is_url(url):
        raise ValueError(f"upload is {url!r}: name a folder of an object store, such as s3://bucket/prefix")
    with one_line(url):
        filesystem(url)  # a protocol that nobody speaks is named with the address as it was given
        store, path = filesystem(join_path(url, ".writable"))
        store.pipe_file(path, b"")
        with contextlib.suppress(Exception):  # a store may let one write and not remove
            store.rm_file(path)


def upload_run(
    url: str,
    run_id: str,
    results_dir: str | os.PathLike[str],
    folder: RunFolder | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[str]:
    """Put a run where a URL says; what stands there with the same content is skipped.

    Whether the content is the same is read from the store wherever the size is: no time or tag decides. Every object is
    there whole or not at all, and the row of table `runs` comes last: where it stands, the rest does.

    Args:
        url: A folder, `s3://bucket/prefix` say; the bucket must be there.
        run_id: The run.
        results_dir: Where its rows are.
        folder: If its latest checkpoint and its tokenizer (and what else it takes to generate and to resume) are to go
            along, where they are.
        progress: Called with bytes done and bytes in all.

    Returns:
        The URLs that were written, in order.

    Raises:
        ValueError: If the run has no row or no checkpoint, or the URL is none.
        OSError: If the store cannot be reached, or refuses.
    """
    if not is_url(url):
        raise ValueError(f"upload is {url!r}: name a folder of an object store, such as s3://bucket/prefix")
    files = _files(run_id, Path(results_dir), folder)
    total, done, written = sum(path.stat().st_size for path in files.values()), 0, []
    for name, path in files.items():
        target = join_path(url, name)
        with one_line(target):
            if not _stands(target, path):
                store, key = filesystem(target)
                store.put_file(str(path), key, callback=_Progress(progress, done, total))
                written.append(target)
        done += path.stat().st_size
        progress(done, total)
    return written


def _files(run_id: str, results_dir: Path, folder: RunFolder | None) -> dict[str, Path]:
    """What a run consists of, by its name under the URL, the row of table `runs` last."""
    files = {}
    if folder is not None:
        checkpoint = folder.latest_checkpoint()
        if checkpoint is None:
            raise ValueError(f"{folder.path}: this run has no checkpoint to upload")
        # The JSON of a checkpoint holds the digests of its tensors: without it there is none yet.
        tensors_first = sorted(checkpoint.iterdir(), key=lambda path: (path.suffix == ".json", path.name))
        rest = [*sorted(folder.tokenizer.iterdir()), folder.records, folder.path / "run.json"]
        files = {f"data/runs/{run_id}/{path.relative_to(folder.path)}": path for path in tensors_first + rest}
    rows = {
        f"results/{table}/{run_id}.parquet": table_path(results_dir, table, run_id)
        for table in sorted(RUN_TABLES, key=lambda table: table == "runs")
    }
    row = list(rows.values())[-1]
    if not row.exists():
        raise ValueError(f"{row}: no such file; a run can be uploaded once it has its row there")
    return files | {name: path for name, path in rows.items() if path.exists()}


def _stands(url: str, path: Path) -> bool:
    """Whether a store holds exactly a file's content."""
    store, key = filesystem(url)
    store.invalidate_cache()  # others write there too
    try:
        size = store.size(key)
    except FileNotFoundError:
        return False
    return size == path.stat().st_size and _digest(url) == _digest(path)


def _digest(path: str | Path) -> str:
    digest = hashlib.sha256()
    for block in stored_blocks(path, BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


class _Progress(Callback):
    """Tells how far one file among several has got."""

    def __init__(self, progress: Callable[[int, int], None], before: int, total: int) -> None:
        super().__init__()
        self._progress, self._before, self._total = progress, before, total

    def call(self, hook_name: str | None = None, **kwargs: object) -> None:
        """Called by fsspec whenever its count of bytes changes."""
        self._progress(self._before + self.value, self._total)
