"""Downloads: a public dataset fetched over a bad line, resumed where it broke off, verified before it gets its name."""

import hashlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.files import read_json, write_json

if TYPE_CHECKING:
    import httpx

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file to download, and what is known of its content beforehand; None: the server's own word is taken."""

    name: str
    url: str
    size_bytes: int | None
    sha256: str | None


def _hub_file(repo: str, name: str, size_bytes: int | None = None, sha256: str | None = None) -> RemoteFile:
    return RemoteFile(name, f"https://huggingface.co/datasets/{repo}/resolve/main/{name}", size_bytes, sha256)


DATASETS: dict[str, tuple[RemoteFile, ...]] = {
    "tinystories": (
        _hub_file(
            "roneneldan/TinyStories",
            "TinyStoriesV2-GPT4-train.txt",
            size_bytes=2_227_753_162,
            sha256="6418d412de72888f52b5142c761ac21a582f7d1166f0bfbdb5f03ccfdec90443",
        ),
        _hub_file(
            "roneneldan/TinyStories",
            "TinyStoriesV2-GPT4-valid.txt",
            size_bytes=22_502_601,
            sha256="6874bae9a4c1a4e7edcf0e53b86c17817e9cf881fc75ff2368da457b80c0585d",
        ),
    ),
    "owt": (
        _hub_file("stanford-cs336/owt-sample", "owt_train.txt.gz"),
        _hub_file("stanford-cs336/owt-sample", "owt_valid.txt.gz"),
    ),
}


@dataclass(frozen=True, slots=True)
class _Announced:
    """What the server says of the whole file; remembered beside the partial file that was begun with it."""

    url: str
    validator: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None

    def contradicts(self, other: "_Announced") -> bool:
        """Whether some value is stated by both, and differs."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return any(None not in pair and pair[0] != pair[1] for pair in pairs)


class _TryAgainError(Exception):
    """The request failed in a way that another may not."""


def download(
    file: RemoteFile,
    folder: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
    attempts: int = 8,
    backoff_s: float = 1.0,
    timeout_s: float = 30.0,
) -> Path:
    """Download one file, resuming what an earlier call or a dropped connection left in `<name>.partial`.

    A file of that name and the right size is taken as it stands. Where only the server knows the size it is asked, and
    where it cannot be reached the file is trusted: only a verified file ever gets that name.

    Args:
        file: What to fetch.
        folder: Where to put it; made if missing.
        progress: Called with the bytes done and the total (None: unknown), first with what was there already.
            The bytes done fall back where the file must start over.
        attempts: Requests in a row that may fail; one that brought new bytes is the first of a new row. Where the very
            first finds no server there is no second.
        backoff_s: Wait before the second try; doubles with each further one, up to a minute.
        timeout_s: Longest silence on the connection.

    Returns:
        The path of the complete, verified file.

    Raises:
        ValueError: If the server cannot be reached, refuses, keeps failing, or offers other content than expected.
        OSError: If the folder cannot be written.
    """
    import httpx

    target = Path(folder) / file.name
    if file.size_bytes is not None and _size(target) == file.size_bytes:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{file.name}.partial")
    report = progress or (lambda done_bytes, total_bytes: None)
    unreachable = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
    furthest, failures, reached = _size(partial) or 0, 0, False
    with httpx.Client(follow_redirects=True, timeout=timeout_s, headers={"Accept-Encoding": "identity"}) as client:
        while True:
            try:
                fetched = _fetch(client, file, target, partial, report)
                return _finish(file, partial, target) if fetched else target
            except (httpx.RequestError, _TryAgainError) as error:
                reason = str(error) or type(error).__name__
                if isinstance(error, unreachable):
                    reason = f"{error.request.url.host} cannot be reached ({reason})"
                else:
                    reached = True
            if not reached and file.size_bytes is None and target.is_file():
                return target
            size = _size(partial) or 0
            failures = 1 if size > furthest else failures + 1
            furthest = max(furthest, size)
            if failures >= attempts or not reached:
                raise ValueError(f"{file.url}: {reason}" + (f"; call again to resume at byte {size}" if size else ""))
            time.sleep(min(backoff_s * 2 ** (failures - 1), 60.0))


def _fetch(client: "httpx.Client", file: RemoteFile, target: Path, partial: Path, report: Progress) -> bool:
    """Bring the partial file to its full length with one request; False: the target that stands already is right."""
    offset, remembered = _resume_point(file, partial)
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    if offset and remembered.validator:
        headers["If-Range"] = remembered.validator
    with client.stream("GET", file.url, headers=headers) as response:
        status = response.status_code
        if status in (408, 429) or status >= 500:
            raise _TryAgainError(f"HTTP {status} {response.reason_phrase}")
        if status not in (200, 206, 416):
            raise ValueError(f"{file.url}: HTTP {status} {response.reason_phrase}")
        announced = _announced(file.url, response)
        if wrong := _mismatch(file, announced.size_bytes, announced.sha256):
            raise ValueError(f"{file.url}: {wrong} on the server")
        total = file.size_bytes or announced.size_bytes
        if total is not None and _size(target) == total:
            return False
        # If-Range alone is not enough: some content networks ignore it and send the rest of another file.
        same = not announced.contradicts(remembered)
        if status == 416 and same and offset == (total or remembered.size_bytes):
            return True
        if status != 200 and not (same and _first_byte(response) == offset):
            _discard(partial)
            raise _TryAgainError(f"the server does not continue the file at byte {offset}")
        done = offset if status == 206 else 0
        with partial.open("ab" if done else "wb") as out:
            if not done:
                write_json(_sidecar(partial), asdict(announced))
            report(done, total)
            for block in response.iter_raw():
                out.write(block)
                done += len(block)
                report(done, total)
    if total is not None and done < total:
        raise _TryAgainError(f"the server stopped at byte {done} of {total}")
    return True


def _resume_point(file: RemoteFile, partial: Path) -> tuple[int, _Announced]:
    """Byte to continue at and what was announced then; 0 if nothing would tell another version of the file apart."""
    try:
        remembered = _Announced(**read_json(_sidecar(partial)))
    except (ValueError, TypeError):
        remembered = _Announced("")
    if remembered.url == file.url and (remembered.validator or remembered.sha256 or file.sha256):
        return _size(partial) or 0, remembered
    return 0, _Announced(file.url)


def _announced(url: str, response: "httpx.Response") -> _Announced:
    """Read validator, size and digest of the whole file off a response and the redirects that led to it.

    The digest is `X-Linked-ETag` alone: the plain ETag of Hugging Face's content network has 64 hex digits too, but is
    a storage key, not the sha256 of the content.
    """
    etag = response.headers.get("ETag", "")
    strong = etag if etag.startswith('"') else None  # If-Range takes no weak tags
    linked = {key: value for hop in (*response.history, response) for key, value in hop.headers.items()}
    digest = linked.get("x-linked-etag", "").strip('"').lower()
    length = response.headers.get("Content-Length") if response.status_code == 200 else None
    of_range = re.search(r"/(\d+)$", response.headers.get("Content-Range", ""))
    size = of_range[1] if of_range else length or linked.get("x-linked-size")
    return _Announced(
        url=url,
        validator=strong or response.headers.get("Last-Modified"),
        size_bytes=int(size) if size else None,
        sha256=digest if re.fullmatch("[0-9a-f]{64}", digest) else None,
    )


def _first_byte(response: "httpx.Response") -> int | None:
    """Offset of a partial response."""
    start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(start[1]) if start else None


def _mismatch(file: RemoteFile | _Announced, size_bytes: int | None, sha256: str | None) -> str:
    """Name the first value that is known on both sides and differs; empty if none does."""
    for unit, expected, found in (("bytes", file.size_bytes, size_bytes), ("sha256", file.sha256, sha256)):
        if None not in (expected, found) and expected != found:
            return f"{unit} expected {expected}, found {found}"
    return ""


def _finish(file: RemoteFile, partial: Path, target: Path) -> Path:
    """Verify the bytes on disk and give them their name, whole or not at all, also after a crash."""
    _, remembered = _resume_point(file, partial)
    with partial.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
        os.fsync(content.fileno())
    if wrong := _mismatch(file, _size(partial), digest) or _mismatch(remembered, _size(partial), digest):
        _discard(partial)
        raise ValueError(f"{file.url}: {wrong}; the download was removed")
    partial.replace(target)
    _discard(partial)
    return target


def _discard(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _sidecar(partial).unlink(missing_ok=True)


def _sidecar(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
