import gzip
import hashlib
import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import core.corpus.shards
from core.corpus.parts import check_division, split_inputs
from core.corpus.shards import check_folder, encode_shard, join_shards, shard_name
from core.corpus.tokens import encode_files, open_tokens, read_info, sidecar_path
from core.files import binary_blocks
from core.tokenizer import Tokenizer

END = "<|endoftext|>"
BYTES = {value: bytes([value]) for value in range(256)}
VOCAB = BYTES | {256: END.encode(), 257: b"<pad>", 258: b"th", 259: b"the"}
MERGES = [(b"t", b"h"), (b"th", b"e")]
TOKENIZER = Tokenizer(VOCAB, MERGES, [END, "<pad>"])


def corpus(folder, seed, *, sizes=(40, 3, 200), compressed=1):
    """Files of some documents each, one of them compressed, some with text behind the last marker."""
    source = random.Random(seed)
    paths = []
    for place, size in enumerate(sizes):
        words = ["the ", "thé ", "漢 ", "\n", "<pad>", "then", " 12 "]
        documents = ["".join(source.choices(words, k=source.randint(0, 30))) for _ in range(size)]
        text = END.join(documents) + source.choice([END, END + "\n", "", "the"]) or "x"
        path = folder / f"{place}.txt{'.gz' * (place == compressed)}"
        data = text.encode()
        path.write_bytes(gzip.compress(data) if place == compressed else data)
        paths.append(path)
    return paths


def stored(sources):
    return b"".join(Path(source.path).read_bytes()[source.begin : source.end] for source in sources)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(seed=st.integers(0, 10**6), of=st.integers(1, 9), compressed=st.integers(0, 3))
def test_the_parts_are_the_files_in_order(tmp_path_factory, seed, of, compressed):
    paths = corpus(tmp_path_factory.mktemp("texts"), seed, compressed=compressed)
    parts = [split_inputs(paths, number, of, [END, "<pad>"]) for number in range(of)]
    assert b"".join(map(stored, parts)) == b"".join(path.read_bytes() for path in paths)
    for part in parts:
        for source in part:
            size = source.path.stat().st_size
            if source.path.suffix == ".gz":
                assert (source.begin, source.end) == (0, size)
            for cut in {source.begin, source.end} - {0, size}:
                assert source.path.read_bytes()[:cut].endswith(END.encode())


def test_parts_of_a_large_file_are_alike(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(f"{'x' * 87}{END}" * 100)
    parts = [split_inputs([path], number, 7, [END]) for number in range(7)]
    assert [part[0].end - part[0].begin for part in parts] == [1500, 1400, 1400, 1500, 1400, 1400, 1400]
    # A place right behind a marker is one to cut at; one inside a marker is not.
    assert [split_inputs([path], 0, of, [END])[0].end for of in (100, 10, 99)] == [100, 1000, 200]


def test_files_much_smaller_than_a_part_stay_whole(tmp_path):
    paths = [tmp_path / f"{place}.txt" for place in range(40)]
    for path in paths:
        path.write_text(f"a{END}" * 3)
    names = [[source.path.name for source in split_inputs(paths, number, 3, [END])] for number in range(3)]
    assert [len(part) for part in names] == [13, 14, 13]
    assert [name for part in names for name in part] == [path.name for path in paths]


@pytest.mark.parametrize("special_tokens", [[], ["<pad>"], [END, END + END], [END, ">x"], [END, "x<|"]])
def test_without_a_marker_that_stands_alone_no_file_is_cut(tmp_path, special_tokens):
    path = tmp_path / "a.txt"
    path.write_text(f"a{END}" * 100)
    sources = [split_inputs([path], number, 3, special_tokens) for number in range(3)]
    assert [(source.begin, source.end) for part in sources for source in part] == [(0, 1400)]


def test_no_such_part_and_no_such_file_are_named(tmp_path):
    (tmp_path / "empty").touch()
    for number, of in ((3, 3), (-1, 3), (0, 0)):
        with pytest.raises(ValueError, match=re.escape(f"shard {number}/{of}: ")):
            split_inputs([__file__], number, of, [END])
    with pytest.raises(ValueError, match="absent: no such file"):
        split_inputs([tmp_path / "absent"], 0, 1, [END])
    with pytest.raises(ValueError, match="empty: the file is empty"):
        split_inputs([tmp_path / "empty"], 0, 1, [END])
    with pytest.raises(ValueError, match="no files were given"):
        split_inputs([], 0, 1, [END])


@pytest.mark.parametrize("engine", ["reference", "fast"])
@pytest.mark.parametrize("of", [1, 4, 17])
def test_the_shards_joined_are_the_whole(tmp_path, engine, of):
    paths = corpus(tmp_path, of)
    tokenizer = Tokenizer(VOCAB, MERGES, [END, "<pad>"])
    whole = encode_files(paths, tokenizer, tmp_path / "whole.bin", engine="reference")
    for number in random.Random(of).sample(range(of), of):
        info, made = encode_shard(paths, tokenizer, tmp_path / "shards", number, of, engine=engine, threads=2)
        assert made
        assert info == read_info(tmp_path / "shards" / shard_name(number, of))
    calls = []
    joined = join_shards(tmp_path / "shards", tmp_path / "joined.bin", lambda *call: calls.append(call))
    assert joined == whole
    assert (tmp_path / "joined.bin").read_bytes() == (tmp_path / "whole.bin").read_bytes()
    assert sidecar_path(tmp_path / "joined.bin").read_bytes() == sidecar_path(tmp_path / "whole.bin").read_bytes()
    assert calls[-1] == (2 * whole.num_tokens, 2 * whole.num_tokens)


def test_an_empty_shard_is_a_token_file(tmp_path):
    (tmp_path / "a.txt").write_text("the")
    info, _ = encode_shard([tmp_path / "a.txt"], TOKENIZER, tmp_path, 1, 2)
    assert (info.num_tokens, info.num_documents) == (0, 0)
    assert open_tokens(tmp_path / shard_name(1, 2)).tokens.tolist() == []
    encode_shard([tmp_path / "a.txt"], TOKENIZER, tmp_path, 0, 2)
    assert join_shards(tmp_path, tmp_path / "all.bin").num_tokens == 1


def forbid_encoding(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("encoded")

    monkeypatch.setattr("core.corpus.shards.write_tokens", refuse)


def test_a_shard_that_stands_is_not_made_again(tmp_path, monkeypatch):
    paths = corpus(tmp_path, 1)
    made, _ = encode_shard(paths, TOKENIZER, tmp_path / "shards", 1, 3)
    forbid_encoding(monkeypatch)
    read = []
    stored_blocks = core.corpus.shards.stored_blocks
    monkeypatch.setattr("core.corpus.shards.stored_blocks", lambda path: read.append(path.path) or stored_blocks(path))
    assert encode_shard(paths, TOKENIZER, tmp_path / "shards", 1, 3) == (made, False)
    assert read == [str(tmp_path / "shards" / shard_name(1, 3))]  # the tokens, not the text


def test_a_copy_of_the_text_is_recognised_by_its_content(tmp_path, monkeypatch):
    paths = corpus(tmp_path, 1)
    made, _ = encode_shard(paths, TOKENIZER, tmp_path / "shards", 1, 3)
    forbid_encoding(monkeypatch)
    (tmp_path / "elsewhere").mkdir()
    copies = [tmp_path / "elsewhere" / path.name for path in paths]
    for path, copy in zip(paths, copies, strict=True):
        copy.write_bytes(path.read_bytes())
    assert encode_shard(copies, TOKENIZER, tmp_path / "shards", 1, 3) == (made, False)


@pytest.mark.parametrize("change", ["text", "tokenizer"])
def test_a_foreign_shard_is_refused_or_replaced(tmp_path, change):
    paths, tokenizer = corpus(tmp_path, 1), TOKENIZER
    old, _ = encode_shard(paths, tokenizer, tmp_path / "shards", 1, 2)
    if change == "text":
        data = bytearray(paths[2].read_bytes())
        data[-40:] = b"y" * 40
        paths[2].write_bytes(data)
    else:
        tokenizer = Tokenizer(VOCAB, MERGES[:1], [END, "<pad>"])
    with pytest.raises(ValueError, match=r"shard-00001-of-00002\.bin: stands there, of other text or another tokeni"):
        encode_shard(paths, tokenizer, tmp_path / "shards", 1, 2)
    new, made = encode_shard(paths, tokenizer, tmp_path / "shards", 1, 2, fresh=True)
    assert made
    assert new.shard["key"] != old.shard["key"]
    assert encode_shard(paths, tokenizer, tmp_path / "shards", 1, 2) == (new, False)


@pytest.mark.parametrize("lost", ["", ".json", "a byte", "a bit"])
def test_half_a_shard_is_made_again(tmp_path, lost):
    paths = corpus(tmp_path, 1)
    made, _ = encode_shard(paths, TOKENIZER, tmp_path, 0, 2)
    path = tmp_path / shard_name(0, 2)
    before = path.read_bytes()
    if lost == "a byte":
        path.write_bytes(before[:-1])
    elif lost == "a bit":
        path.write_bytes(bytes([before[0] ^ 1]) + before[1:])
    else:
        Path(f"{path}{lost}").unlink()
    assert encode_shard(paths, TOKENIZER, tmp_path, 0, 2) == (made, True)
    assert path.read_bytes() == before


@pytest.fixture
def finished(tmp_path):
    paths = corpus(tmp_path, 2)
    for number in range(3):
        encode_shard(paths, TOKENIZER, tmp_path / "shards", number, 3)
    return paths, tmp_path / "shards"


def refused(folder, message):
    out = folder.parent / "out.bin"
    with pytest.raises(ValueError, match=re.escape(message)):
        join_shards(folder, out)
    assert not out.exists()


def test_missing_shards_are_named(finished):
    _, folder = finished
    (folder / shard_name(1, 3)).unlink()
    refused(folder, "not finished: shard 1/3")
    (folder / (shard_name(2, 3) + ".json")).unlink()
    refused(folder, "not finished: shard 1/3, 2/3")
    refused(folder.parent / "nowhere", "nowhere: no shards there")


def test_shards_of_two_divisions_are_refused(finished):
    paths, folder = finished
    encode_shard(paths, TOKENIZER, folder, 0, 4)
    refused(folder, "shards of 3 and of 4 lie there")


def test_a_damaged_shard_is_named(finished):
    _, folder = finished
    path = folder / shard_name(2, 3)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    refused(folder, f"{path}: damaged, its bytes are not those that its sidecar names; the command that encoded it ")
    refused(folder, "makes it again with --shard 2/3 --fresh")


def test_a_shard_is_not_joined_to_itself(finished):
    _, folder = finished
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for out in (folder / shard_name(1, 3), folder / ".." / "shards" / shard_name(1, 3)):
        with pytest.raises(ValueError, match=re.escape(f"{out}: to be read and to be written")):
            join_shards(folder, out)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_of_other_shards_is_refused_before_the_first(finished):
    paths, folder = finished
    check_folder(folder, paths, TOKENIZER, 3)
    check_folder(folder.parent / "new", paths, TOKENIZER, 5)
    for fresh in (False, True):
        with pytest.raises(ValueError, match=r"shard-00000-of-00003.bin lies there, and 4 shards are wanted"):
            check_folder(folder, paths, TOKENIZER, 4, fresh=fresh)
    other = Tokenizer(VOCAB, MERGES[:1], [END, "<pad>"])
    for inputs, tokenizer in ((paths[:2], TOKENIZER), (paths, other)):
        with pytest.raises(ValueError, match=r"shard-00000-of-00003.bin is of other text or another tok"):
            check_folder(folder, inputs, tokenizer, 3)
        check_folder(folder, inputs, tokenizer, 3, fresh=True)
    assert not (folder.parent / "new").exists()


@pytest.mark.parametrize(("size", "most"), [(1, 16), (17 * 65536 - 1, 16), (17 * 65536, 17), (10**12, 99_999)])
def test_more_shards_than_make_sense_are_refused(tmp_path, size, most):
    with (tmp_path / "a").open("wb") as file:
        file.truncate(size)  # no bytes are written
    check_division([tmp_path / "a"], most)
    message = f"{most + 1:,} shards of {size:,} bytes: at most {most:,} make sense here"
    with pytest.raises(ValueError, match=re.escape(message)):
        check_division([tmp_path / "a"], most + 1)


def test_shards_of_another_tokenizer_or_text_are_named(finished):
    paths, folder = finished
    encode_shard(paths, Tokenizer(VOCAB, MERGES[:1], [END, "<pad>"]), folder, 1, 3, fresh=True)
    refused(folder, f"{folder / shard_name(1, 3)}: of another tokenizer than {folder / shard_name(0, 3)}")
    encode_shard(paths[2:], TOKENIZER, folder, 1, 3, fresh=True)
    refused(folder, f"{folder / shard_name(1, 3)}: of other text than {folder / shard_name(0, 3)}")
    encode_files(paths, TOKENIZER, folder / shard_name(1, 3))
    refused(folder, "its sidecar is not that of shard 1/3")


def test_shards_between_which_the_text_changed_are_refused(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(f"{'x' * 10}{END}" * 100)
    for number in (0, 2, 3):
        encode_shard([path], TOKENIZER, tmp_path / "shards", number, 4)
    path.write_text(f"{'x' * 33}{END}" * 50)
    encode_shard([path], TOKENIZER, tmp_path / "shards", 1, 4)
    refused(tmp_path / "shards", "shard-00001-of-00004.bin: does not begin where")


def test_the_sidecar_names_what_the_shard_is_made_of(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(f"the{END}" * 10)
    encode_shard([path], TOKENIZER, tmp_path, 1, 2)
    shard = json.loads((tmp_path / (shard_name(1, 2) + ".json")).read_bytes())["shard"]
    (part,) = shard["parts"]
    assert (shard["number"], shard["of"]) == (1, 2)
    assert (part["name"], part["bytes"], part["begin"], part["end"]) == ("a.txt", 160, 80, 160)
    assert part["sha256"] == hashlib.sha256(path.read_bytes()[80:]).hexdigest()


def test_a_range_is_read_and_its_offsets_are_the_files(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(f"the{END}the {END}".encode() + b"th\xff")
    first, second = (split_inputs([path], number, 2, [END])[0] for number in range(2))
    assert b"".join(binary_blocks(first)) + b"".join(binary_blocks(second)) == path.read_bytes()
    assert (first.num_read, second.num_read) == (33, 3)
    with pytest.raises(ValueError, match=re.escape(f"{path}: not UTF-8 at byte 35 (invalid start byte)")):
        encode_files([second], TOKENIZER, tmp_path / "a.bin", engine="reference")
