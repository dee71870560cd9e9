import gzip
import json
import os
import random
import re
import stat

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from core.files import atomic_path, binary_blocks, read_json, text_blocks, write_json, write_text

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


@pytest.mark.parametrize("content", [b"", gzip.compress(b"")])
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
