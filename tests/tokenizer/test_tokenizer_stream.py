import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_bpe import naive_train

from core.files import text_blocks
from core.tokenizer import Tokenizer
from core.tokenizer.pretokenize import independent_segments

FUZZ = settings(deadline=None, derandomize=True, max_examples=300)
REAL_TEXT = Path(__file__).parents[2].parent / "shared" / "data" / "text"

SPECIALS = ["<|a|>", "<|a|><|b|>", "<|b|>", "a b", " ", " a", "\n\n", "a", "b \n", "|><|", "漢 字", "<|endoftext|>"]
ATOMS = [
    *SPECIALS,
    "<|",
    "|>",
    "<|a",
    "b",
    "ab",
    "  ",
    "\t",
    "\r\n",
    "\u00a0",
    "\u3000",
    "\u0085",
    "\u0301",
    "'s",
    "12",
]
TRAINED = naive_train(" the then that aab aaaa <|a|><|b|>\r\n\r\n  x  \t\t" * 9, 330)

texts = st.one_of(st.lists(st.sampled_from(ATOMS), max_size=30).map("".join), st.text("ab \n<|>", max_size=60))
specials_lists = st.lists(st.sampled_from(SPECIALS), unique=True, max_size=5)


def cut(text, places):
    places = [0, *sorted(places), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(places)]


@FUZZ
@given(text=texts, specials=specials_lists, data=st.data())
def test_a_stream_encodes_as_the_whole_text_wherever_it_is_cut(text, specials, data):
    tokenizer = Tokenizer(*TRAINED, specials)
    blocks = cut(text, data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    assert list(tokenizer.encode_iterable(blocks)) == tokenizer.encode(text)


@FUZZ
@given(text=texts, specials=specials_lists)
def test_a_stream_of_single_characters_encodes_as_the_whole_text(text, specials):
    tokenizer = Tokenizer(*TRAINED, specials)
    assert list(tokenizer.encode_iterable(text)) == tokenizer.encode(text)


@FUZZ
@given(text=texts, specials=specials_lists, data=st.data())
def test_segments_are_the_text_itself_none_of_them_empty(text, specials, data):
    blocks = cut(text, data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    segments = list(independent_segments(blocks, specials))
    assert "".join(segments) == text
    assert all(segments)


def test_every_cut_of_overlapping_special_tokens():
    tokenizer = Tokenizer(*TRAINED, ["<|a|>", "<|a|><|b|>", "a b", "b <"])
    text = " x<|a|><|b|> a b <|a|><|b <|a|>a b<|a|> "
    expected = tokenizer.encode(text)
    for places in itertools.combinations(range(len(text)), 2):
        assert list(tokenizer.encode_iterable(cut(text, places))) == expected


def test_an_endless_stream_is_pulled_only_as_far_as_needed():
    tokenizer = Tokenizer(*TRAINED, ["<|endoftext|>"])
    block = "The cat sat on the mat. "
    pulled = itertools.count()
    stream = (block for _ in pulled)
    ids = list(itertools.islice(tokenizer.encode_iterable(stream), 1000))
    per_block = len(tokenizer.encode(block * 100)) / 100
    assert ids == tokenizer.encode(block * 1000)[:1000]
    # One block of look-ahead, and what a special token might still need.
    assert next(pulled) <= 1000 / per_block + 3


def test_nothing_is_pulled_before_the_first_id_is_wanted():
    pulled = []
    tokenizer = Tokenizer(*TRAINED)
    ids = tokenizer.encode_iterable(pulled.append(block) or block for block in ["ab ", "cd "])
    assert pulled == []
    assert next(ids) == tokenizer.encode("ab")[0]
    assert pulled == ["ab "]


@pytest.mark.parametrize("specials", [[], ["<|endoftext|>"], ["a b", " "]])
@pytest.mark.parametrize("text", ["some words and more, ", "a b", "<|endoftext|> ", "x<|endoftext|>\n\n"])
def test_memory_holds_little_more_than_a_block(text, specials):
    block = (text * 100)[:100]
    longest = max(map(len, independent_segments(itertools.repeat(block, 50), specials)))
    assert longest <= 2 * len(block)


@pytest.mark.skipif(not REAL_TEXT.is_dir(), reason="no shared/data/text")
@pytest.mark.parametrize("block_bytes", [61, 100_003])
def test_a_real_file_streams_as_the_whole_text(block_bytes):
    path = REAL_TEXT / "tinystories_sample.txt"
    text = path.read_text(encoding="utf-8")
    tokenizer = Tokenizer(*TRAINED, ["<|endoftext|>"])
    assert list(tokenizer.encode_iterable(text_blocks(path, block_bytes))) == tokenizer.encode(text)
