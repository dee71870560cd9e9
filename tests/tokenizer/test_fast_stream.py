import functools
import gzip
import random
import re

import numpy as np
import pytest
from fast_cases import ReferenceTokenizer, awkward, cases, counted, trained

from core.files import binary_blocks, text_blocks
from core.tokenizer.fast import stream
from core.tokenizer.fast.boundaries import PADDING
from core.tokenizer.fast.engine import count_files
from core.tokenizer.fast.specials import Specials
from core.tokenizer.fast.words import new_table
from core.tokenizer.pretokenize import PATTERNS
from core.tokenizer.train import count_pre_tokens

both_patterns = pytest.mark.parametrize("pattern", PATTERNS)
SPECIALS = ["<|endoftext|>", "<|endoftext|><|b|>", "a b", "  ", "\n\n", "aa", "'", "漢 字", "e\u0301"]


@pytest.fixture(autouse=True)
def small_tables(monkeypatch):
    """Tables begin small: quick to make, and they grow."""
    for module in ("counting", "encoder"):
        monkeypatch.setattr(f"core.tokenizer.fast.{module}.new_table", functools.partial(new_table, 1 << 9))


@pytest.fixture
def small_reads(monkeypatch):
    """Files are read so many bytes at a time, and cut into chunks as small."""

    def change(read_bytes, chunk_bytes=None):
        monkeypatch.setattr(stream, "binary_blocks", functools.partial(binary_blocks, block_bytes=read_bytes))
        chunks = functools.partial(stream.file_chunks, chunk_bytes=chunk_bytes or read_bytes)
        monkeypatch.setattr("core.tokenizer.fast.engine.file_chunks", chunks)

    return change


def written(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def file_ids(encoder, path):
    return [token_id for ids, _ in encoder.encode_file(path) for token_id in ids.tolist()]


def reference_counts(paths, specials, pattern):
    expected = {}
    for path in paths:
        for word, count in count_pre_tokens(text_blocks(path), specials, pattern).items():
            expected[word.encode()] = expected.get(word.encode(), 0) + count
    return expected


@pytest.mark.parametrize("specials", [[], SPECIALS, ["<|endoftext|>"]], ids=["none", "many", "one"])
@both_patterns
def test_chunks_of_every_size_count_and_encode_as_the_whole_file(tmp_path, small_reads, specials, pattern):
    tokenizer = trained("".join(awkward(400, 60)), 300, specials, pattern)
    encoder, source = tokenizer.fast(2), random.Random(61)
    for seed in range(cases(50)):
        text = "".join(awkward(30, 6200 + seed, more=[*specials, "word", " a", "<|endoftext|>"])) + "."
        path = written(tmp_path / "text.txt", text)
        small_reads(source.choice([1, 2, 3, 7, 16, 33, 64, 200]), source.choice([1, 7, 13, 64, 500]))
        assert (text, file_ids(encoder, path)) == (text, tokenizer.encode(text))
        assert counted(count_files([path], specials, pattern, threads=1)) == reference_counts([path], specials, pattern)


@pytest.mark.parametrize("specials", [[], SPECIALS])
def test_chunks_are_the_file_in_order_and_no_larger_than_they_must_be(tmp_path, small_reads, specials):
    text = "".join(awkward(3000, 63, more=specials)).encode()
    path = written(tmp_path / "text.txt", text)
    small_reads(64)
    offset, largest = 0, 0
    for chunk in stream.file_chunks(path, Specials(specials, range(len(specials))), 64):
        assert (chunk.offset, chunk.path) == (offset, str(path))
        assert not chunk.buffer[:PADDING].any()
        assert not chunk.buffer[-PADDING:].any()
        assert chunk.buffer[PADDING:-PADDING].tobytes() == text[offset : offset + chunk.num_bytes]
        assert chunk.segments[0, 0] == PADDING
        offset += chunk.num_bytes
        largest = max(largest, chunk.num_bytes)
    assert offset == len(text)
    assert largest < 64 * 20


@both_patterns
def test_the_number_of_threads_and_the_size_of_chunks_change_nothing(tmp_path, small_reads, pattern):
    specials = SPECIALS[:3]
    text = "".join(awkward(20_000, 64, more=specials))
    paths = [written(tmp_path / "1.txt", text), written(tmp_path / "2.txt", text[: len(text) // 2])]
    tokenizer = trained(text[:20_000], 400, specials, pattern)
    ids, counts = tokenizer.encode(text), reference_counts(paths, specials, pattern)
    for threads, size in ((1, 1 << 20), (1, 5000), (2, 30_000), (3, 1000)):
        small_reads(size)
        assert file_ids(tokenizer.fast(threads), paths[0]) == ids
        assert counted(count_files(paths, specials, pattern, threads=threads)) == counts


def test_threads_hand_over_what_they_counted_before_it_is_much(tmp_path, small_reads, monkeypatch):
    monkeypatch.setattr("core.tokenizer.fast.engine.MOST_COUNTED", 500)
    path = written(tmp_path / "text.txt", "".join(awkward(9000, 65)))
    small_reads(4000)
    done = []
    counter = count_files([path, path], [], threads=3, progress=done.append)
    assert counted(counter) == reference_counts([path, path], [], "gpt2")
    assert done == sorted(set(done))
    assert done[-1] == 2 * path.stat().st_size


@pytest.mark.parametrize(
    "text", ["1234 !? 99\n" * 9000, "1" * 90_000, " " * 90_000, "a" * 90_000, "漢" * 30_000, "'s" * 40_000]
)
def test_a_file_without_a_place_to_cut(tmp_path, small_reads, text):
    small_reads(1000)
    path = written(tmp_path / "text.txt", text)
    assert counted(count_files([path], ["<|x|>"], threads=2)) == reference_counts([path], ["<|x|>"], "gpt2")
    tokenizer = trained(text[:500], 30)
    assert file_ids(tokenizer.fast(2), path) == tokenizer.encode(text)


def test_no_pre_token_crosses_from_one_file_into_the_next(tmp_path):
    paths = [written(tmp_path / "1.txt", "abc <|x"), written(tmp_path / "2.txt", "|>abc")]
    assert counted(count_files(paths, ["<|x|>"], threads=2)) == {b"abc": 2, b" <|": 1, b"x": 1, b"|>": 1}


BAD = {
    "a stray continuation": b"\x80",
    "overlong, 2": b"\xc0\xaf",
    "overlong, 3": b"\xe0\x80\xaf",
    "overlong, 4": b"\xf0\x80\x80\xaf",
    "a surrogate": b"\xed\xa0\x80",
    "above U+10FFFF": b"\xf4\x90\x80\x80",
    "no lead byte": b"\xf5\x80\x80\x80",
    "0xff": b"\xff",
    "cut off after 1 of 2": b"\xc3",
    "cut off after 1 of 3": b"\xe6",
    "cut off after 2 of 3": b"\xe6\xbc",
    "cut off after 1 of 4": b"\xf0",
    "cut off after 3 of 4": b"\xf0\x9f\x91",
}


def message_of(function):
    with pytest.raises(ValueError, match=":") as error:
        function()
    return str(error.value)


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("read_bytes", [3, 8, 1 << 20])
def test_bytes_that_are_not_utf8_are_named_in_the_words_of_the_reference(tmp_path, small_reads, kind, read_bytes):
    small_reads(read_bytes)
    tokenizer = ReferenceTokenizer({value: bytes([value]) for value in range(256)}, [], ["<|x|>"])
    encoder, good = tokenizer.fast(2), written(tmp_path / "good.txt", "good é")
    for before in ("", "a", "漢", "ab cd " * 9, "x<|x|>", "1" * 70, "word " * 20_000 if read_bytes > 8 else " "):
        for after in (b"", b"a", b" ", b"<|x|>", "é".encode(), b"\xff"):
            path = written(tmp_path / "bad.txt", before.encode() + BAD[kind] + after)
            expected = message_of(lambda path=path: list(text_blocks(path)))
            assert f"{path}: not UTF-8 at byte {len(before.encode())} " in expected
            assert message_of(lambda path=path: file_ids(encoder, path)) == expected
            assert message_of(lambda path=path: count_files([good, path], ["<|x|>"], threads=2)) == expected


@pytest.mark.parametrize("threads", [1, 3])
def test_of_several_errors_the_first_is_named(tmp_path, small_reads, threads):
    small_reads(50)
    path = written(tmp_path / "bad.txt", b"word " * 1000 + b"\xff" + b" word" * 1000 + b"\xc3\x28")
    with pytest.raises(ValueError, match=r"not UTF-8 at byte 5000 \(invalid start byte\)"):
        count_files([path], [], threads=threads)


@pytest.mark.parametrize("name", ["text.txt", "text.txt.gz"])
def test_missing_empty_and_damaged_files_are_named(tmp_path, name):
    path, encoder = tmp_path / name, ReferenceTokenizer({value: bytes([value]) for value in range(256)}, []).fast()
    contents = [None, gzip.compress(b"") if name.endswith("gz") else b""]
    contents += [gzip.compress(random.Random(66).randbytes(9000).hex().encode())[:-2000]] if name.endswith("gz") else []
    for content in contents:
        if content is not None:
            path.write_bytes(content)
        expected = message_of(lambda: list(text_blocks(path)))
        assert re.match(f"{re.escape(str(path))}: (no such file|the file is empty|damaged or cut off)", expected)
        assert message_of(lambda: file_ids(encoder, path)) == expected
        assert message_of(lambda: count_files([path], [])) == expected


def test_a_compressed_file_gives_the_ids_of_its_text(tmp_path):
    text = "".join(awkward(2000, 67))
    tokenizer = trained(text, 200)
    path = written(tmp_path / "text.txt.gz", gzip.compress(text.encode()))
    assert file_ids(tokenizer.fast(2), path) == tokenizer.encode(text)


def test_real_text_is_encoded_alike(shared_text):
    path = shared_text / "tinyshakespeare.txt"
    text = path.read_bytes().decode()
    tokenizer = trained(text[:100_000], 500)
    assert np.array_equal(file_ids(tokenizer.fast(2), path), tokenizer.encode(text))
