import contextlib
import hashlib
import json
import random
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from core.corpus import download as module
from core.corpus.download import DATASETS, RemoteFile, download

CONTENT = random.Random(7).randbytes(300_007)
OTHER = random.Random(11).randbytes(300_007)
HALF = 150_001


@dataclass
class Remote:
    """What the server does, and the log of what it was asked."""

    content: bytes = CONTENT
    etag: str | None = '"v1"'
    accepts_ranges: bool = True
    honours_if_range: bool = True
    announces_length: bool = True
    statuses: list[int] = field(default_factory=list)  # sent first, one per request
    drops: list[int] = field(default_factory=list)  # body bytes after which the connection is closed, one per request
    range_shift: int = 0  # a partial answer that starts elsewhere than asked
    linked_etag: str | None = None
    encodings: set[str] = field(default_factory=set)
    log: list[tuple[str | None, str | None]] = field(default_factory=list)
    url: str = ""

    def file(self, size_bytes=None, sha256=None, path="/corpus.txt"):
        return RemoteFile("corpus.txt", self.url + path, size_bytes, sha256)

    def answer(self, handler):
        asked, condition = handler.headers["Range"], handler.headers["If-Range"]
        if handler.path.startswith("/resolve/"):
            handler.send_response(302)
            handler.send_header("Location", "/corpus.txt")
            handler.send_header("X-Linked-ETag", f'"{self.linked_etag}"')
            handler.send_header("X-Linked-Size", str(len(self.content)))
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        self.log.append((asked, condition))
        self.encodings.add(handler.headers["Accept-Encoding"])
        if self.statuses:
            handler.send_error(self.statuses.pop(0))
            return
        start, total = 0, len(self.content)
        fresh = condition in (None, self.etag) or not self.honours_if_range
        if asked and self.accepts_ranges and fresh:
            start = int(asked.removeprefix("bytes=").removesuffix("-")) + self.range_shift
            if start >= total:
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{total}")
                handler.end_headers()
                return
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            handler.send_response(200)
        if self.etag:
            handler.send_header("ETag", self.etag)
        if self.announces_length:
            handler.send_header("Content-Length", str(total - start))
        handler.end_headers()
        stop = start + self.drops.pop(0) if self.drops else total
        with contextlib.suppress(ConnectionError):
            handler.wfile.write(self.content[start:stop])


@pytest.fixture
def remote(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    remote = Remote()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            remote.answer(self)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
    thread.start()
    remote.url = f"http://127.0.0.1:{server.server_port}"
    yield remote
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def fetch(tmp_path):
    def fetch(file, **options):
        return download(file, tmp_path, **{"backoff_s": 0.001, "attempts": 3, "timeout_s": 10.0} | options)

    return fetch


def digest(content):
    return hashlib.sha256(content).hexdigest()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_whole_file_arrives_bit_equal_and_alone(remote, fetch, tmp_path):
    calls = []
    path = fetch(remote.file(len(CONTENT), digest(CONTENT)), progress=lambda done, total: calls.append((done, total)))
    assert path == tmp_path / "corpus.txt"
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == ["corpus.txt"]
    assert (remote.log, remote.encodings) == ([(None, None)], {"identity"})
    assert calls[0] == (0, len(CONTENT))
    assert calls[-1] == (len(CONTENT), len(CONTENT))


def test_a_dropped_connection_is_resumed_where_it_broke_off(remote, fetch):
    remote.drops = [HALF]
    calls = []
    path = fetch(remote.file(), progress=lambda done, total: calls.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert remote.log == [(None, None), (f"bytes={HALF}-", '"v1"')]
    assert calls.count((HALF, len(CONTENT))) == 2  # once reached, once resumed from
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_drops_that_bring_new_bytes_do_not_use_up_the_attempts(remote, fetch):
    remote.drops = [10, 100, 1_000, 10_000, 0, 100_000]
    assert fetch(remote.file(), attempts=3).read_bytes() == CONTENT
    starts = [10, 110, 1_110, 11_110, 11_110, 111_110]
    assert remote.log == [(None, None), *((f"bytes={start}-", '"v1"') for start in starts)]


@pytest.mark.parametrize(("accepts_ranges", "drops"), [(True, [HALF, 0, 0]), (False, [HALF, HALF, HALF])])
def test_it_gives_up_after_so_many_attempts_and_keeps_the_bytes(remote, fetch, tmp_path, accepts_ranges, drops):
    remote.accepts_ranges, remote.drops = accepts_ranges, drops
    with pytest.raises(ValueError, match=f"corpus.txt: .*; call again to resume at byte {HALF}$") as error:
        fetch(remote.file(), attempts=3)
    assert "\n" not in str(error.value)
    assert len(remote.log) == 3
    assert (tmp_path / "corpus.txt.partial").read_bytes() == CONTENT[:HALF]
    assert fetch(remote.file()).read_bytes() == CONTENT
    assert remote.log[3:] == [(f"bytes={HALF}-", '"v1"')]


def test_a_server_that_ignores_ranges_is_read_from_the_start(remote, fetch):
    remote.accepts_ranges, remote.drops = False, [HALF]
    calls = []
    assert fetch(remote.file(), progress=lambda done, _: calls.append(done)).read_bytes() == CONTENT
    assert remote.log == [(None, None), (f"bytes={HALF}-", '"v1"')]
    assert calls.count(0) == 2


@pytest.mark.parametrize(("honours_if_range", "requests"), [(True, 2), (False, 3)])
def test_a_file_that_changed_between_two_attempts_starts_over(remote, fetch, honours_if_range, requests):
    remote.honours_if_range, remote.drops = honours_if_range, [HALF]

    def change(done, total):
        if done == HALF:
            remote.content, remote.etag = OTHER, '"v2"'

    assert fetch(remote.file(), progress=change).read_bytes() == OTHER
    assert len(remote.log) == requests
    assert remote.log[1] == (f"bytes={HALF}-", '"v1"')


@pytest.mark.parametrize(("sha256", "asked"), [(None, None), (hashlib.sha256(CONTENT).hexdigest(), f"bytes={HALF}-")])
def test_without_a_validator_only_a_known_digest_allows_to_resume(remote, fetch, sha256, asked):
    remote.etag, remote.drops = None, [HALF]
    assert fetch(remote.file(sha256=sha256)).read_bytes() == CONTENT
    assert remote.log == [(None, None), (asked, None)]


def test_wrong_content_is_named_and_removed(remote, fetch, tmp_path):
    with pytest.raises(ValueError, match=f"sha256 expected {digest(OTHER)}, found {digest(CONTENT)}"):
        fetch(remote.file(len(CONTENT), digest(OTHER)))
    assert names(tmp_path) == []


def test_a_partial_file_with_a_wrong_byte_is_found_out(remote, fetch, tmp_path):
    remote.drops = [HALF]
    with pytest.raises(ValueError, match="call again"):
        fetch(remote.file(), attempts=1)
    with (tmp_path / "corpus.txt.partial").open("r+b") as partial:
        partial.write(bytes([CONTENT[0] ^ 1]))
    with pytest.raises(ValueError, match=f"sha256 expected {digest(CONTENT)}, found"):
        fetch(remote.file(sha256=digest(CONTENT)))
    assert names(tmp_path) == []


def test_a_wrong_size_is_refused_before_the_first_byte_and_leaves_the_partial_file(remote, fetch, tmp_path):
    remote.drops = [HALF]
    file = remote.file(len(CONTENT), digest(CONTENT))

    def truncate(done, total):
        if done == HALF:
            remote.content, remote.etag = CONTENT[:1_009], '"v2"'

    with pytest.raises(ValueError, match="bytes expected 300007, found 1009 on the server"):
        fetch(file, progress=truncate)
    assert (tmp_path / "corpus.txt.partial").read_bytes() == CONTENT[:HALF]
    remote.content, remote.etag = CONTENT, '"v1"'
    assert fetch(file).read_bytes() == CONTENT
    assert remote.log[-1] == (f"bytes={HALF}-", '"v1"')


def test_a_stream_of_unannounced_length_is_held_against_the_known_size(remote, fetch):
    remote.announces_length, remote.drops = False, [HALF]
    assert fetch(remote.file(len(CONTENT))).read_bytes() == CONTENT
    assert remote.log == [(None, None), (f"bytes={HALF}-", '"v1"')]


def test_a_stream_that_is_too_long_is_removed(remote, fetch, tmp_path):
    remote.announces_length = False
    with pytest.raises(ValueError, match="bytes expected 300000, found 300007; the download was removed"):
        fetch(remote.file(300_000))
    assert names(tmp_path) == []


def test_a_partial_answer_that_starts_elsewhere_is_not_appended(remote, fetch):
    remote.drops, remote.range_shift = [HALF], -1
    assert fetch(remote.file()).read_bytes() == CONTENT
    assert [asked for asked, _ in remote.log] == [None, f"bytes={HALF}-", None]


def test_a_partial_file_that_is_too_long_starts_over(remote, fetch, tmp_path):
    remote.drops = [HALF]
    with pytest.raises(ValueError, match="call again"):
        fetch(remote.file(), attempts=1)
    (tmp_path / "corpus.txt.partial").write_bytes(CONTENT + b"more")
    assert fetch(remote.file()).read_bytes() == CONTENT
    assert [asked for asked, _ in remote.log] == [None, "bytes=300011-", None]


@pytest.mark.parametrize("stop", [HALF, len(CONTENT)])  # at the end: the server answers the next call with 416
def test_keyboard_interrupt_keeps_the_bytes(remote, fetch, tmp_path, stop):
    reached = []

    def interrupt(done, total):
        reached.append(done)
        if done >= stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(remote.file(), progress=interrupt)
    assert (tmp_path / "corpus.txt.partial").read_bytes() == CONTENT[: reached[-1]]
    assert fetch(remote.file()).read_bytes() == CONTENT
    assert remote.log == [(None, None), (f"bytes={reached[-1]}-", '"v1"')]
    assert names(tmp_path) == ["corpus.txt"]


def test_a_killed_process_is_resumed_by_the_next(remote, fetch, tmp_path):
    script = f"""if True:
        import os, signal
        from core.corpus.download import RemoteFile, download
        def kill(done, total):
            if done >= {HALF}:
                os.kill(os.getpid(), signal.SIGKILL)
        download(RemoteFile("corpus.txt", {remote.url + "/corpus.txt"!r}, None, None), {str(tmp_path)!r}, progress=kill)
    """
    ended = subprocess.run([sys.executable, "-c", script], cwd=module.__file__.removesuffix("core/corpus/download.py"))
    assert ended.returncode == -signal.SIGKILL
    kept = (tmp_path / "corpus.txt.partial").stat().st_size
    assert 0 < kept < len(CONTENT)
    assert fetch(remote.file()).read_bytes() == CONTENT
    assert remote.log == [(None, None), (f"bytes={kept}-", '"v1"')]


def test_the_partial_file_of_another_url_is_not_continued(remote, fetch, tmp_path):
    remote.drops = [HALF]
    with pytest.raises(ValueError, match="call again"):
        fetch(remote.file(), attempts=1)
    assert fetch(remote.file(path="/another.txt")).read_bytes() == CONTENT
    assert remote.log == [(None, None), (None, None)]


def test_busy_and_broken_servers_are_asked_again(remote, fetch):
    remote.statuses = [503, 429]
    assert fetch(remote.file()).read_bytes() == CONTENT
    assert len(remote.log) == 3


@pytest.mark.parametrize(("status", "requests"), [("404 Not Found", 1), ("502 Bad Gateway", 3)])
def test_a_refusal_is_named_with_its_status(remote, fetch, status, requests):
    remote.statuses = [int(status[:3])] * 9
    with pytest.raises(ValueError, match=f"^{remote.url}/corpus.txt: HTTP {status}$"):
        fetch(remote.file(), attempts=3)
    assert len(remote.log) == requests


def test_no_connection_names_what_cannot_be_reached(remote, fetch, tmp_path):
    file = RemoteFile("corpus.txt", "http://127.0.0.1:1/corpus.txt", None, None)
    with pytest.raises(
        ValueError, match=r"^http://127.0.0.1:1/corpus.txt: 127.0.0.1 cannot be reached \(.*\)$"
    ) as error:
        fetch(file, backoff_s=60.0)
    assert "\n" not in str(error.value)
    (tmp_path / "corpus.txt").write_bytes(CONTENT)
    assert fetch(file).read_bytes() == CONTENT


def test_a_standing_file_of_the_right_size_is_not_fetched_again(remote, fetch, tmp_path):
    (tmp_path / "corpus.txt").write_bytes(CONTENT)
    assert fetch(remote.file(len(CONTENT))) == tmp_path / "corpus.txt"
    assert remote.log == []
    calls = []
    assert fetch(remote.file(), progress=lambda *call: calls.append(call)) == tmp_path / "corpus.txt"
    assert (len(remote.log), calls) == (1, [])  # the size was asked for, no content was read


@pytest.mark.parametrize("size_bytes", [None, len(CONTENT)])
def test_a_standing_file_of_another_size_is_replaced(remote, fetch, tmp_path, size_bytes):
    (tmp_path / "corpus.txt").write_bytes(CONTENT[:HALF])
    assert fetch(remote.file(size_bytes)).read_bytes() == CONTENT
    assert remote.log == [(None, None)]


def test_the_linked_digest_of_a_redirect_is_held_against_the_content(remote, fetch, tmp_path):
    remote.linked_etag = digest(OTHER)
    with pytest.raises(ValueError, match=f"sha256 expected {digest(OTHER)}, found {digest(CONTENT)}"):
        fetch(remote.file(path="/resolve/corpus.txt"))
    assert names(tmp_path) == []
    remote.linked_etag, remote.drops = digest(CONTENT), [HALF]
    remote.announces_length = False  # only the linked size tells that half is missing
    assert fetch(remote.file(path="/resolve/corpus.txt")).read_bytes() == CONTENT
    assert remote.log[1:] == [(None, None), (f"bytes={HALF}-", '"v1"')]


def test_a_linked_digest_other_than_the_known_one_is_refused_before_the_first_byte(remote, fetch):
    remote.linked_etag = digest(OTHER)
    calls = []
    with pytest.raises(ValueError, match=f"sha256 expected {digest(CONTENT)}, found {digest(OTHER)} on the server"):
        fetch(
            remote.file(sha256=digest(CONTENT), path="/resolve/corpus.txt"), progress=lambda *call: calls.append(call)
        )
    assert calls == []


def test_a_plain_etag_of_64_hex_digits_is_no_digest(remote, fetch):
    """Hugging Face's content network sends its storage key so."""
    remote.etag = f'"{digest(OTHER)}"'
    assert fetch(remote.file()).read_bytes() == CONTENT


def test_a_damaged_note_beside_the_partial_file_starts_over(remote, fetch, tmp_path):
    (tmp_path / "corpus.txt.partial").write_bytes(OTHER[:HALF])
    for note in ("{", "[]", json.dumps({"url": remote.url, "other": 1})):
        (tmp_path / "corpus.txt.partial.json").write_text(note)
        assert fetch(remote.file()).read_bytes() == CONTENT
        (tmp_path / "corpus.txt").rename(tmp_path / "corpus.txt.partial")
    assert remote.log == [(None, None)] * 3


def test_a_folder_that_cannot_be_made_is_an_os_error(remote, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(FileExistsError):
        download(remote.file(), tmp_path / "taken")
    assert remote.log == []


def test_the_table_names_every_file_once_at_its_source():
    assert {name: [file.name for file in files] for name, files in DATASETS.items()} == {
        "tinystories": ["TinyStoriesV2-GPT4-train.txt", "TinyStoriesV2-GPT4-valid.txt"],
        "owt": ["owt_train.txt.gz", "owt_valid.txt.gz"],
    }
    assert DATASETS["owt"][0].url == (
        "https://huggingface.co/datasets/stanford-cs336/owt-sample/resolve/main/owt_train.txt.gz"
    )
