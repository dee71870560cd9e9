import random

import numpy as np
import pytest
from naive_bpe import naive_train

from core.tokenizer import Tokenizer, engines, train_bpe
from core.tokenizer.fast import compiled
from core.tokenizer.fast.decoding import Decoder
from core.tokenizer.fast.stream import padded

SPECIAL = "<|endoftext|>"
TRAINED = naive_train(" the then that aab aaaa don't  12 345\r\n漢字 é" * 9, 330)
RNG = random.Random(0)
WORDS = ["the", "then", " that", "aab", "\n\n", "  ", "don't", "12345", "漢字", "é", "👩‍👩‍👧", SPECIAL, "\u00a0", "x"]
TEXT = "".join(RNG.choice(WORDS) for _ in range(4000))


def tokenizer():
    return Tokenizer(*TRAINED, [SPECIAL])


@pytest.fixture
def nothing_compiled(monkeypatch):
    monkeypatch.setattr(compiled, "is_compiled", lambda work: False)


@pytest.fixture
def all_compiled(monkeypatch):
    monkeypatch.setattr(compiled, "is_compiled", lambda work: True)


@pytest.mark.parametrize(
    ("num_bytes", "work", "chosen"),
    [
        (1_000_000, "training", "reference"),
        (3_000_000, "training", "fast"),
        (3_000_000, "encoding", "reference"),
        (5_000_000, "encoding", "fast"),
    ],
)
def test_auto_loads_compiled_loops_where_that_is_quicker(all_compiled, num_bytes, work, chosen):
    assert engines.choose("auto", num_bytes, work) == chosen


@pytest.mark.parametrize(
    ("num_bytes", "work", "chosen"),
    [
        (30_000_000, "training", "reference"),
        (50_000_000, "training", "fast"),
        (50_000_000, "encoding", "reference"),
        (90_000_000, "encoding", "fast"),
    ],
)
def test_auto_compiles_only_for_what_takes_longer_without(nothing_compiled, num_bytes, work, chosen):
    assert engines.choose("auto", num_bytes, work) == chosen


def test_a_named_engine_is_taken_whatever_the_size():
    assert engines.choose("fast", 0, "training") == "fast"
    assert engines.choose("reference", 1 << 40, "encoding") == "reference"


def test_an_unknown_engine_is_named(tmp_path):
    path = tmp_path / "text"
    path.write_text("ab")
    with pytest.raises(ValueError, match="engine is 'rust': it must be one of auto, reference, fast"):
        train_bpe(path, 300, [], engine="rust")


def test_many_short_texts_load_the_fast_engine_as_one_long_text_does(monkeypatch):
    monkeypatch.setitem(engines._WORTH_LOADING, "encoding", 1000)
    monkeypatch.setitem(engines._WORTH_COMPILING, "encoding", 1000)
    one, reference = tokenizer(), tokenizer()
    for number in range(100):
        assert one._fast is None
        assert one.encode(TEXT[number : number + 10]) == reference.encode_reference(TEXT[number : number + 10])
    assert one._fast is not None
    two = tokenizer()
    assert two.encode_batch(["the hat"] * 200) == [reference.encode_reference("the hat")] * 200
    assert two._fast is not None


def test_a_vocabulary_that_the_fast_engine_cannot_hold_stays_with_the_reference(monkeypatch):
    monkeypatch.setitem(engines._WORTH_LOADING, "encoding", 10)
    monkeypatch.setitem(engines._WORTH_COMPILING, "encoding", 10)
    vocab, merges = TRAINED
    far = {token_id if token_id < 260 else token_id + (1 << 21): token for token_id, token in vocab.items()}
    wide = Tokenizer(far, merges)
    for text in (TEXT[:3000], TEXT[3000:3100]):
        assert wide.encode(text) == wide.encode_reference(text)
    assert wide._fast is None


def test_a_loaded_fast_engine_takes_long_texts_and_changes_no_id():
    reference, fast = tokenizer(), tokenizer()
    fast.fast_encoder()
    texts = [TEXT, "", "a", SPECIAL, TEXT[:3000], "漢字" * 900]
    expected = [reference.encode(text) for text in texts]
    assert [fast.encode(text) for text in texts] == expected
    assert fast.encode_batch(texts) == expected
    assert reference.encode_batch(texts) == expected
    assert fast.encode_batch([]) == []


@pytest.mark.parametrize("shape", [list, tuple, np.array, lambda ids: np.array(ids, np.uint16), iter])
def test_both_engines_decode_whatever_holds_ids(shape):
    reference, fast = tokenizer(), tokenizer()
    fast.fast_encoder()
    ids = reference.encode(TEXT)
    assert fast.decode(shape(ids)) == reference.decode(shape(ids)) == TEXT
    assert fast.decode_bytes(shape(ids[:5000])) == b"".join(reference.vocab[token_id] for token_id in ids[:5000])


@pytest.mark.parametrize("wrong", [330, -1, 70_000])
def test_an_unknown_id_is_named_by_both_engines(wrong):
    reference, fast = tokenizer(), tokenizer()
    fast.fast_encoder()
    ids = [1, 2] * 1000 + [wrong] + [3] * 1000
    for engine in (reference, fast):
        size = max(reference.vocab) + 1
        if wrong == 330:
            ids[2000] = size
        with pytest.raises(ValueError, match=rf"id {ids[2000]} is not in the vocabulary of {size}"):
            engine.decode(ids)


def test_ids_between_those_of_the_vocabulary_are_unknown():
    with pytest.raises(ValueError, match="id 4 is not in the vocabulary of 8"):
        Decoder({0: b"a", 7: b"b"}).decode([0, 7, 4])


def test_a_vocabulary_beyond_the_tables_is_refused_by_the_fast_engine_only():
    vocab, merges = TRAINED
    wide = Tokenizer({**vocab, 1 << 21: b"?!?"}, [*merges], [])
    assert wide.encode("the then") == Tokenizer(*TRAINED).encode("the then")
    far = {token_id if token_id < 260 else token_id + (1 << 21): token for token_id, token in vocab.items()}
    with pytest.raises(ValueError, match="the largest id is 2097433 of 26 merges: the fast engine holds"):
        Tokenizer(far, merges).fast_encoder()


def test_texts_that_the_loops_cannot_address_are_refused():
    with pytest.raises(ValueError, match="2147483648 bytes in one piece"):
        padded([], 1 << 31)


def test_threads_of_the_encoder_can_be_changed():
    one = tokenizer()
    first = one.fast_encoder(threads=1)
    assert one.fast_encoder() is first
    assert one.fast_encoder(threads=2).threads == 2
