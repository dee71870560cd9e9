import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.tokenizer import pitfalls

FUZZ = settings(deadline=None, derandomize=True, max_examples=100)


@FUZZ
@given(st.binary(max_size=20), st.lists(st.integers(0, 20), max_size=6))
def test_three_ways_to_decode(content, cuts):
    edges = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    tokens = [content[start:end] for start, end in pairwise(edges)]
    texts = pitfalls.decodings(tokens)
    assert texts["whole"] == content.decode(errors="replace")
    assert "".join(texts["held"]) == texts["whole"]  # whatever the cuts: what is held back is not lost
    assert texts["alone"] == [token.decode(errors="replace") for token in tokens]


def test_a_character_in_two_tokens_is_lost_alone_and_held_back_in_a_stream():
    assert pitfalls.decodings([b"na", b"\xc3", b"\xaf", b"ve\xe6\xbc"]) == {
        "alone": ["na", "\ufffd", "\ufffd", "ve\ufffd"],
        "whole": "naïve\ufffd",
        "held": ["na", "", "ï", "ve", "\ufffd"],
    }


@FUZZ
@given(st.text())
def test_well_formed_text_stays(text):
    assert pitfalls.well_formed(text) == text


@pytest.mark.parametrize(
    ("text", "expected"), [("a\ud83db", "a\ufffdb"), ("\udc00", "\ufffd"), ("\ud83d\ude42", "🙂")], ids=ascii
)
def test_half_surrogates_become_what_utf8_can_hold(text, expected):
    assert pitfalls.well_formed(text) == expected


def test_the_eye_counts_otherwise_than_unicode():
    text = "ée\u0301👩‍👩‍👧🇫🇷éक्षि"
    assert pitfalls.visible_characters(text) == ["é", "e\u0301", "👩‍👩‍👧", "🇫🇷", "क्षि"]
    assert pitfalls.code_points("e\u0301\t") == (
        "U+0065 latin small letter e, U+0301 combining acute accent, U+0009 tab"
    )
    assert pitfalls.code_points("\U0001f467\ue000") == "U+1F467 girl, U+E000 without a name"


def test_who_calls_it_white_space():
    told = {row["sign"]: (row["pattern"], row["python"]) for row in pitfalls.space_rows()}
    assert {sign for sign, (pattern, python) in told.items() if pattern and python} == set(
        " \t\n\u00a0\u2009\u3000\x85"
    )
    assert told["\x1c"] == (False, True)  # the one on which the two disagree
    assert told["\u200b"] == told["\ufeff"] == (False, False)
    assert unicodedata.category("\u3000") == "Zs"


def test_spaces_before_letters():
    tokens = [b"The", b" girl", b" ", b"q", b" ", b"1", b" ", b" \xc3\xa9t", b" ", b"\xc3", b" 2", b"\n", b" "]
    assert pitfalls.spaces_before_letters(tokens) == (2, 1)
    assert pitfalls.spaces_before_letters([]) == (0, 0)
