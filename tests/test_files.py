import gzip
import hashlib
import json
import os
import random
import re
import stat
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from core.files import (
    Source,
    atomic_path,
    binary_blocks,
    check_text,
    file_size,
    file_stamp,
    folder_names,
    join_path,
    read_json,
    text_blocks,
    text_size,
    write_json,
    write_text,
)
from core.outputs import check_output

ROOT = Path(__file__).parents[1]
FUZZ = settings(deadline=None, derandomize=True, max_examples=200)
# Hardly compressible, so that a file cut in half holds about half of the text.
TEXT = random.Random(3).randbytes(150_000).hex()


def zst(data):
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)  # as the command line does


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("files") / "scratch"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_success_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    for content in ("first", "second"):
        with atomic_path(path) as temporary:
            assert temporary.parent == path.parent
            temporary.write_text(content)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == content
        assert names(path.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_failure_keeps_the_old_file_and_leaves_nothing_else(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_failure_without_an_old_file_leaves_nothing(tmp_path):
    def write():
        with atomic_path(tmp_path / "file.txt") as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert names(tmp_path) == []


def test_a_name_that_cannot_be_replaced_leaves_nothing_else(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_text(tmp_path / "folder", "text")
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600), (0o000, 0o666)])
def test_the_umask_is_honoured_and_left_as_it_was(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "file.txt", "text")
    finally:
        after = os.umask(before)
    assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == mode
    assert after == umask


def test_text_is_written_as_it_stands(tmp_path):
    write_text(tmp_path / "file.txt", "é\r\n漢\n\r")
    assert (tmp_path / "file.txt").read_bytes() == "é\r\n漢\n\r".encode()


def test_json_survives(tmp_path):
    value = {"é": [1, 2.5, None, True, "漢\n"], "nested": {"a": []}}
    write_json(tmp_path / "file.json", value)
    assert read_json(tmp_path / "file.json") == value
    assert "漢" in (tmp_path / "file.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [b"", b"{", b"{'a': 1}", b'{"a": 1} x', b'"\xff"', b"\x80"])
def test_what_is_not_json_is_named(tmp_path, content):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{path}: not JSON (")) as raised:
        read_json(path)
    assert not isinstance(raised.value, json.JSONDecodeError | UnicodeDecodeError)


@pytest.mark.parametrize(
    "read", [read_json, lambda path: list(binary_blocks(path)), lambda path: list(text_blocks(path))]
)
def test_a_missing_file_is_named(tmp_path, read):
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'absent'}: no such file")):
        read(tmp_path / "absent")


def test_a_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}: a folder; name a file")):
        list(text_blocks(tmp_path))


@FUZZ
@given(text=st.text(min_size=1, max_size=40), block_bytes=st.integers(1, 9))
def test_blocks_are_the_text_newlines_and_all(scratch, text, block_bytes):
    scratch.write_bytes(text.encode())
    blocks = list(text_blocks(scratch, block_bytes))
    assert "".join(blocks) == text
    assert all(0 < len(block) <= block_bytes for block in blocks)


@FUZZ
@given(
    data=st.lists(
        st.sampled_from([b"a", b"\n", "é".encode(), "漢".encode(), "😀".encode(), b"\xff", b"\xe6", b"\xbc"])
    ),
    block_bytes=st.integers(1, 9),
)
def test_the_first_wrong_byte_is_named(scratch, data, block_bytes):
    data = b"x" + b"".join(data)
    scratch.write_bytes(data)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        with pytest.raises(ValueError, match=re.escape(f"not UTF-8 at byte {error.start} ({error.reason})")):
            list(text_blocks(scratch, block_bytes))
    else:
        assert "".join(text_blocks(scratch, block_bytes)) == text


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [
        (".txt", bytes),
        (".gz", gzip.compress),
        (".zst", zst),
        (".gz", lambda data: gzip.compress(data[:99]) + gzip.compress(data[99:])),
        (".zst", lambda data: zst(data[:99]) + zst(data[99:])),
    ],
    ids=["plain", "gz", "zst", "two gz members", "two zst frames"],
)
def test_the_name_says_how_to_decompress(tmp_path, suffix, compress):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(compress(TEXT.encode()))
    assert "".join(text_blocks(path)) == TEXT
    assert b"".join(binary_blocks(path)) == TEXT.encode()


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".zst", zst)])
@pytest.mark.parametrize("kept", [0.5, 0.999])
def test_a_file_cut_off_inside_its_compression_is_refused(tmp_path, suffix, compress, kept):
    path = tmp_path / f"file{suffix}"
    data = compress(TEXT.encode())
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(ValueError, match=re.escape(f"{path}: damaged or cut off")):
        list(text_blocks(path))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_file_that_is_not_compressed_as_its_name_says_is_refused(tmp_path, suffix):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(b"plain text")
    with pytest.raises(ValueError, match=re.escape(str(path))):
        list(text_blocks(path))


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".zst", zst)])
def test_damage_inside_the_compression_is_refused(tmp_path, suffix, compress):
    path = tmp_path / f"file{suffix}"
    data = bytearray(compress(TEXT.encode()))
    data[len(data) // 2 : len(data) // 2 + 50] = bytes(50)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        list(text_blocks(path))


@pytest.mark.parametrize("content", [b"", gzip.compress(b"", mtime=0)])
def test_an_empty_file_is_refused(tmp_path, content):
    path = tmp_path / ("file.gz" if content else "file.txt")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{path}: the file is empty")):
        list(text_blocks(path))


def test_blocks_are_read_only_as_they_are_wanted(tmp_path):
    (tmp_path / "file").write_bytes(b"abc" + b"\xff" * 6)
    blocks = text_blocks(tmp_path / "file", 3)
    assert next(blocks) == "abc"  # the bad bytes behind it are not yet looked at
    with pytest.raises(ValueError, match="not UTF-8 at byte 3"):
        next(blocks)


def test_zst_of_text_with_long_characters(tmp_path):
    """The decompressor may hand over nothing for a while; that is not the end of the text."""
    text = "".join(chr(code) for code in random.Random(7).choices(range(0x4E00, 0x9FFF), k=300_000))
    (tmp_path / "file.zst").write_bytes(zst(text.encode()))
    assert "".join(text_blocks(tmp_path / "file.zst")) == text


def test_a_source_reads_its_range_and_says_how_far_it_is(tmp_path):
    path = tmp_path / "file.txt"
    path.write_bytes(TEXT.encode())
    digest = hashlib.sha256()
    source = Source(path, 7, 100_007, digest)
    blocks = binary_blocks(source, 60_000)
    assert next(blocks) == TEXT[7:60_007].encode()
    assert source.num_read == 60_000
    assert b"".join(blocks) == TEXT[60_007:100_007].encode()
    assert source.num_read == file_size(source) == 100_000
    assert digest.hexdigest() == hashlib.sha256(TEXT[7:100_007].encode()).hexdigest()
    assert b"".join(binary_blocks(source)) == TEXT[7:100_007].encode()  # again from the beginning


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".zst", zst)])
def test_a_compressed_source_is_judged_by_its_stored_bytes(tmp_path, suffix, compress):
    path = tmp_path / f"file{suffix}"
    stored = compress(TEXT.encode())
    path.write_bytes(stored)
    digest = hashlib.sha256()
    source = Source(path, digest=digest)
    assert "".join(text_blocks(source)) == TEXT
    assert (source.num_read, file_size(source)) == (len(stored), len(stored))
    assert digest.hexdigest() == hashlib.sha256(stored).hexdigest()
    assert text_size([path, path, tmp_path / "absent"]) == 6 * len(stored)


def test_offsets_in_a_source_are_those_of_the_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_bytes(b"ab\xff")
    with pytest.raises(ValueError, match=re.escape(f"{path}: not UTF-8 at byte 2 (invalid start byte)")):
        list(text_blocks(Source(path, 1, 3)))


@pytest.fixture(params=["memory", "s3"])
def folder_url(request):
    """A folder in an object store: fsspec's in memory, and a bucket of the local server."""
    name = re.sub(r"\W", "-", request.node.name)[-60:].strip("-").replace("_", "-")
    if request.param == "memory":
        return f"memory://{name}/folder"
    request.getfixturevalue("s3").mkdir(name)
    return f"s3://{name}/folder"


def test_object_stores_are_written_and_read_like_files(folder_url):
    for name, data in (("a.txt", TEXT.encode()), ("a.gz", gzip.compress(TEXT.encode())), ("a.zst", zst(TEXT.encode()))):
        url = join_path(folder_url, name)
        with atomic_path(url) as temporary:
            temporary.write_bytes(data)
            assert name not in folder_names(folder_url)
        assert file_size(url) == file_stamp(url)[0] == len(data)
        assert "".join(text_blocks(url)) == TEXT
    assert folder_names(folder_url) == ["a.gz", "a.txt", "a.zst"]
    url = join_path(folder_url, "a.txt")
    assert b"".join(binary_blocks(Source(url, 7, 50_007), 8_000)) == TEXT[7:50_007].encode()
    write_json(join_path(folder_url, "b.json"), {"é": [1]})
    assert read_json(join_path(folder_url, "b.json")) == {"é": [1]}
    stamp = file_stamp(url)
    assert file_stamp(url) == stamp
    write_text(url, "b" * len(TEXT))
    assert file_stamp(url)[0] == stamp[0]
    assert file_stamp(url)[1] != stamp[1]


def test_an_error_leaves_an_object_as_it_was(folder_url):
    url = join_path(folder_url, "a.txt")
    write_text(url, "old")

    def write():
        with atomic_path(url) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert "".join(text_blocks(url)) == "old"
    assert folder_names(folder_url) == ["a.txt"]


def test_what_is_wrong_with_a_url_is_said_in_a_line(folder_url, monkeypatch):
    write_text(join_path(folder_url, "a.txt"), "text")
    absent = join_path(folder_url, "absent")
    assert folder_names(absent) == []
    for read in (file_size, lambda path: list(binary_blocks(path)), read_json):
        with pytest.raises(ValueError, match=re.escape(f"{absent}: no such file")):
            read(absent)
        with pytest.raises(ValueError, match=re.escape(f"{folder_url}: a folder; name a file")):
            read(folder_url)


def test_a_protocol_that_is_not_spoken_is_named(monkeypatch):
    with pytest.raises(ValueError, match=r"nosuch://a/b: Protocol not known: nosuch"):
        list(binary_blocks("nosuch://a/b"))
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ValueError, match=re.escape("gs://a/b: gs:// needs the package gcsfs (pip install gcsfs)")):
        list(binary_blocks("gs://a/b"))


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("s3://a/b", "s3:// needs the package s3fs (pip install -e '.[s3]')"),
        ("http://a/b", "http:// needs the package aiohttp (pip install aiohttp)"),
        ("https://a/b", "https:// needs the package aiohttp (pip install aiohttp)"),
    ],
)
def test_the_command_that_installs_what_is_missing_is_named(monkeypatch, url, hint):
    def fail(url):
        raise ImportError("some package is missing")

    monkeypatch.setattr(fsspec, "url_to_fs", fail)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{url}: {hint}')}$"):
        list(binary_blocks(url))


def test_a_store_that_cannot_be_reached_is_said_in_a_line(monkeypatch):
    def fail(url):
        raise type("NoCredentialsError", (Exception,), {})("Unable to locate credentials")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "info", lambda self, path, *rest, **more: fail(path))
    with pytest.raises(OSError, match="memory://a/b: Unable to locate credentials"):
        list(binary_blocks("memory://a/b"))


def test_local_paths_do_not_load_fsspec():
    code = "import sys, core.files as f; list(f.binary_blocks('pyproject.toml')); print('fsspec' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.fixture
def place(tmp_path):
    """A text, links to it, and folders."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "soft").symlink_to(tmp_path / "a.txt")
    (tmp_path / "hard").hardlink_to(tmp_path / "a.txt")
    return tmp_path


@pytest.mark.parametrize("out", ["a.txt", "./a.txt", "folder/../a.txt", "soft", "hard", "a"])
def test_what_is_read_is_not_written(place, monkeypatch, out):
    monkeypatch.chdir(place)
    with pytest.raises(ValueError, match="to be read and to be written; name another file to write"):
        check_output(out, [place / "folder" / "b.txt", place / "a.txt", Source(place / "a.json")], sidecar=True)
    check_output("b.txt", [place / "a.txt"], sidecar=True)
    check_output("a", [place / "a.json"])


def test_what_cannot_be_written_is_said_before_the_work(place):
    before = names(place)
    for out, folder, message in (
        ("folder", False, "folder: a folder; name the file to write"),
        ("a.txt", True, "a.txt: a file; name the folder to write to"),
        ("a.txt/x/y", False, f"a.txt/x/y: {place / 'a.txt'} is a file, not a folder"),
        ("a.txt/x", True, f"a.txt/x: {place / 'a.txt'} is a file, not a folder"),
        ("x" * 300, False, "cannot be written (File name too long)"),
        ("/proc/nosuch/x", False, "/proc/nosuch/x: cannot be written ("),
        ("/dev/null", False, "/dev/null: a device or a pipe; name the file to write"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            check_output(place / out, folder=folder)
    check_output(place / "new" / "folder" / "x", [place / "a.txt"])
    check_output(place / "new", folder=True)
    check_output(place / "folder", folder=True)
    assert names(place) == before
    assert names(place / "folder") == []


def test_a_url_that_is_read_or_cannot_be_written_is_refused():
    write_text("memory://outputs/a.txt", "text")
    with pytest.raises(ValueError, match=r"memory://outputs/a\.txt: to be read and to be written"):
        check_output("memory://outputs/a.txt", ["memory://outputs/a.txt"])
    check_output("memory://outputs/b.txt", ["memory://outputs/a.txt"])
    with pytest.raises(ValueError, match="nosuch://a/b: Protocol not known"):
        check_output("nosuch://a/b")


def test_a_text_is_looked_at_before_the_work(place):
    check_text(place / "a.txt")
    (place / "empty").touch()
    (place / "binary").write_bytes(b"\xff")
    for name, message in (("empty", "the file is empty"), ("binary", "not UTF-8 at byte 0"), ("x", "no such file")):
        with pytest.raises(ValueError, match=re.escape(f"{place / name}: {message}")):
            check_text(place / name)
