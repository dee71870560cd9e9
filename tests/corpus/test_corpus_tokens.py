import gzip
import hashlib
import itertools
import json
import re

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from core.corpus.parts import text_id
from core.corpus.tokens import (
    documents,
    encode_files,
    encoded_pieces,
    open_tokens,
    read_info,
    sidecar_path,
    token_dtype,
)
from core.tokenizer import Tokenizer

END = "<|endoftext|>"
BYTES = {value: bytes([value]) for value in range(256)}
TOKENIZER = Tokenizer(BYTES | {256: END.encode(), 257: b"th", 258: b"the"}, [(b"t", b"h"), (b"th", b"e")], [END])
TEXT = f"the café\r\n{END}then 漢字{END}\nthe end {END}"


def written(path, text):
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("vocab_size", "dtype"),
    [(257, "uint16"), (65_535, "uint16"), (65_536, "uint16"), (65_537, "uint32"), (200_000, "uint32")],
)
def test_the_type_is_the_smallest_that_holds_every_id(vocab_size, dtype):
    assert token_dtype(vocab_size) == dtype
    assert np.iinfo(dtype).max >= vocab_size - 1


def test_what_was_encoded_is_read_back(tmp_path):
    info = encode_files([written(tmp_path / "a.txt", TEXT)], TOKENIZER, tmp_path / "a.bin")
    file = open_tokens(tmp_path / "a.bin")
    assert file.tokens.tolist() == TOKENIZER.encode(TEXT)
    assert TOKENIZER.decode(file.tokens.tolist()) == TEXT
    assert file.info == info
    assert file.path == tmp_path / "a.bin"
    assert not file.tokens.flags.writeable
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.bin.json", "a.txt"]


def test_the_sidecar_says_what_the_file_is(tmp_path):
    info = encode_files([written(tmp_path / "a.txt", TEXT)], TOKENIZER, tmp_path / "a.bin")
    assert json.loads((tmp_path / "a.bin.json").read_bytes()) == {
        "dtype": "uint16",
        "num_tokens": len(TOKENIZER.encode(TEXT)),
        "num_bytes": len(TEXT.encode()),
        "num_documents": 3,
        "vocab_size": 259,
        "end_of_text_id": 256,
        "tokenizer_id": TOKENIZER.tokenizer_id,
        "sha256": hashlib.sha256((tmp_path / "a.bin").read_bytes()).hexdigest(),
        "text": text_id([tmp_path / "a.txt"]),
    }
    assert read_info(tmp_path / "a.bin") == info
    assert sidecar_path(tmp_path / "a.bin") == tmp_path / "a.bin.json"


def test_large_ids_take_four_bytes(tmp_path):
    tokenizer = Tokenizer(BYTES | {70_001: END.encode(), 66_000: b"ab"}, [(b"a", b"b")], [END])
    info = encode_files([written(tmp_path / "a.txt", f"ab{END}b")], tokenizer, tmp_path / "a.bin")
    assert (info.dtype, info.vocab_size, info.end_of_text_id) == ("uint32", 70_002, 70_001)
    assert (tmp_path / "a.bin").read_bytes() == b"".join(n.to_bytes(4, "little") for n in (66_000, 70_001, 98))
    assert open_tokens(tmp_path / "a.bin").tokens.tolist() == [66_000, 70_001, 98]


def test_small_ids_take_two_bytes_the_lower_first(tmp_path):
    encode_files([written(tmp_path / "a.txt", f"a{END}the")], TOKENIZER, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == bytes([97, 0, 0, 1, 2, 1])


def test_several_files_in_order_whatever_their_compression(tmp_path):
    first = written(tmp_path / "1.txt", f"the one{END}t")
    second, third = tmp_path / "2.gz", tmp_path / "3.zst"
    second.write_bytes(gzip.compress(f"he two{END}".encode()))
    third.write_bytes(zstandard.ZstdCompressor().compress(b"three"))
    info = encode_files([first, second, third], TOKENIZER, tmp_path / "a.bin")
    parts = [f"the one{END}t", f"he two{END}", "three"]
    # No token reaches from one file into the next: t + he stay apart.
    assert open_tokens(tmp_path / "a.bin").tokens.tolist() == [i for part in parts for i in TOKENIZER.encode(part)]
    assert info.num_bytes == sum(len(part) for part in parts)
    assert info.num_documents == 4


@pytest.mark.parametrize(
    ("texts", "num_documents"),
    [
        (["a"], 1),
        ([END], 1),
        ([f"a{END}"], 1),
        ([f"a{END}b"], 2),
        ([f"a{END}{END}b{END}"], 3),
        (["a", "b"], 2),
        ([f"a{END}", f"b{END}c"], 3),
    ],
)
def test_documents_are_counted_by_their_end_markers(tmp_path, texts, num_documents):
    paths = [written(tmp_path / f"{place}.txt", text) for place, text in enumerate(texts)]
    assert encode_files(paths, TOKENIZER, tmp_path / "a.bin").num_documents == num_documents


def test_a_line_end_after_the_last_marker_is_no_document(tmp_path):
    """As `core.corpus.dataset.read_documents` reads it: what follows the last marker is one if not blank."""
    path = written(tmp_path / "a.txt", f"a{END}\nb{END}\n")
    assert encode_files([path], TOKENIZER, tmp_path / "a.bin").num_documents == 2


def test_without_a_marker_each_file_is_a_document(tmp_path):
    paths = [written(tmp_path / "1.txt", f"a{END}b"), written(tmp_path / "2.txt", "c")]
    info = encode_files(paths, Tokenizer(BYTES, []), tmp_path / "a.bin")
    assert info.end_of_text_id is None
    assert info.num_documents == 2
    assert info.num_tokens == info.num_bytes == len(f"a{END}bc")


def test_a_file_of_many_blocks_encodes_as_the_whole_text(tmp_path):
    text = "".join(f"the {number}th word{END * (number % 50 == 0)} 漢\n" for number in range(55_000))
    assert len(text.encode()) > 1 << 20
    info = encode_files([written(tmp_path / "a.txt", text)], TOKENIZER, tmp_path / "a.bin")
    assert open_tokens(tmp_path / "a.bin").tokens.tolist() == TOKENIZER.encode(text)
    assert (info.num_bytes, info.num_documents) == (len(text.encode()), 1101)


def test_progress_ends_at_all_bytes(tmp_path):
    calls = []
    paths = [written(tmp_path / "1.txt", "the é"), written(tmp_path / "2.txt", "b")]
    encode_files(paths, TOKENIZER, tmp_path / "a.bin", calls.append)
    assert calls == [6, 7]


PIECES = ["the", "then ", "thé", " ", "\n", "\u3000", "\x1c", "漢", END, END, "<|endof", "<pad>", f"<{END}>"]


@settings(deadline=None, derandomize=True, max_examples=25)
@given(
    texts=st.lists(st.lists(st.sampled_from(PIECES), min_size=1).map("".join), min_size=1, max_size=3),
    large_ids=st.booleans(),
)
@pytest.mark.parametrize("special_tokens", [[], ["<pad>"], [END], [END, "<pad>", f"<{END}>"]])
def test_both_engines_write_the_same_bytes_and_the_same_sidecar(tmp_path_factory, special_tokens, texts, large_ids):
    folder = tmp_path_factory.mktemp("engines")
    vocab = BYTES | {256: END.encode(), (70_000 if large_ids else 257): b"th", 258: b"the"}
    paths = [written(folder / f"{place}.txt", text) for place, text in enumerate(texts)]
    for engine in ("reference", "fast"):
        tokenizer = Tokenizer(vocab, [(b"t", b"h"), (b"th", b"e")], special_tokens)
        encode_files(paths, tokenizer, folder / engine, engine=engine, threads=2)
    assert (folder / "fast").read_bytes() == (folder / "reference").read_bytes()
    assert sidecar_path(folder / "fast").read_bytes() == sidecar_path(folder / "reference").read_bytes()


def test_pieces_are_the_text_in_order(tmp_path):
    text = f"{'the then words ' * 20_000}漢{END}\u3000{END} " * 15  # 4.5 MB: blocks of 1 MB, chunks of 4
    path = written(tmp_path / "a.txt", text)
    ids = []
    for engine in ("reference", "fast"):
        tokenizer = Tokenizer(TOKENIZER.vocab, TOKENIZER.merges, [END])
        pieces = list(encoded_pieces(path, tokenizer, engine, 2))
        assert len(pieces) > 1
        ids.append(np.concatenate([piece.ids for piece in pieces]))
        ends = np.cumsum([0, *(piece.num_bytes for piece in pieces)]).tolist()
        assert ends[-1] == len(text.encode())
        parts = [text.encode()[begin:end].decode() for begin, end in itertools.pairwise(ends)]
        assert [piece.tail() for piece in pieces] == [part.rpartition(END)[2] for part in parts]
    assert np.array_equal(*ids)


def test_an_engine_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="engine is 'rust': it must be one of auto, reference, fast"):
        encode_files([written(tmp_path / "a.txt", "a")], TOKENIZER, tmp_path / "a.bin", engine="rust")


@pytest.mark.parametrize("engine", ["reference", "fast"])
@pytest.mark.parametrize(("content", "message"), [(b"", "the file is empty"), (b"a \xff", "not UTF-8 at byte 2")])
def test_a_bad_input_leaves_what_was_there(tmp_path, content, message, engine):
    good, bad = written(tmp_path / "good.txt", "the"), tmp_path / "bad.txt"
    bad.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{bad}: {message}")):
        encode_files([good, bad], TOKENIZER, tmp_path / "a.bin", engine=engine)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.txt", "good.txt"]
    encode_files([good], TOKENIZER, tmp_path / "a.bin", engine=engine)
    with pytest.raises(ValueError, match=message):
        encode_files([bad], TOKENIZER, tmp_path / "a.bin", engine=engine)
    assert open_tokens(tmp_path / "a.bin").tokens.tolist() == [258]


@pytest.mark.parametrize(("change", "found"), [(lambda data: data[:-3], 7), (lambda data: data + b"\0\0", 12)])
def test_a_file_of_the_wrong_size_is_refused_with_both_sizes(tmp_path, change, found):
    path = tmp_path / "a.bin"
    encode_files([written(tmp_path / "a.txt", "abcde")], TOKENIZER, path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=re.escape(f"{path}: {found} bytes, but its sidecar says 5 tokens, 10 bytes")):
        open_tokens(path)


def test_a_missing_token_file_or_sidecar_is_named(tmp_path):
    path = tmp_path / "a.bin"
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: no such file"):
        open_tokens(path)
    text = written(tmp_path / "a.txt", "abc")
    with pytest.raises(ValueError, match=re.escape(f"{text}: not a token file: it has no a.txt.json beside it")):
        open_tokens(text)
    encode_files([written(tmp_path / "a.txt", "abc")], TOKENIZER, path)
    path.unlink()
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: no such file"):
        open_tokens(path)


def test_tokens_of_other_text_are_replaced_only_if_that_is_wanted(tmp_path):
    text, other, out = written(tmp_path / "a.txt", "abc"), written(tmp_path / "b.txt", "abcd"), tmp_path / "a.bin"
    first = encode_files([text], TOKENIZER, out, replace=False)
    assert encode_files([text], TOKENIZER, out, replace=False) == first
    without = Tokenizer(TOKENIZER.vocab, [], TOKENIZER.special_tokens)
    for inputs, tokenizer in (([other], TOKENIZER), ([text], without)):
        with pytest.raises(ValueError, match=re.escape(f"{out}: tokens of other text or another tok")):
            encode_files(inputs, tokenizer, out, replace=False)
    assert read_info(out) == first
    assert encode_files([other], TOKENIZER, out).num_bytes == 4


@pytest.mark.parametrize("content", ["{}", '{"dtype": "uint16", "more": 1}', "[1]", "3"])
def test_what_is_no_sidecar_is_named(tmp_path, content):
    (tmp_path / "a.bin").touch()
    (tmp_path / "a.bin.json").write_text(content)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'a.bin.json'}: not the sidecar")):
        read_info(tmp_path / "a.bin")


def test_documents_are_what_lies_between_the_markers():
    tokens = np.array([1, 2, 9, 9, 3, 9, 4, 5])
    assert [document.tolist() for document in documents(tokens, 9)] == [[1, 2], [], [3]]
    assert list(documents(np.array([1, 2]), 9)) == []
