import itertools

import numpy as np
import pytest
import regex
from fast_cases import PIECES, WHITE_SPACE, awkward, cases, expected_starts, starts_of

from core.tokenizer.fast.classes import LETTER, NUMBER, OTHER, SPACE, character_classes
from core.tokenizer.pretokenize import PATTERNS, pre_token_pattern

both_patterns = pytest.mark.parametrize("pattern", PATTERNS)

LEADS = [0x00, 0x27, 0x41, 0x7F, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xED, 0xEF, 0xF0, 0xF1, 0xF4, 0xF5, 0xF8, 0xFF]
TRAILS = [0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF]


def assert_starts(texts, pattern):
    for text, starts in zip(texts, starts_of([text.encode() for text in texts], pattern), strict=True):
        expected = expected_starts(text, pattern)
        if starts != expected:
            raise AssertionError(f"{text!r} begins pre-tokens at {expected}, the fast engine says {starts}")


def assert_starts_of_long(text, pattern):
    """One long text: the places of `regex` are counted in bytes all at once."""
    found = np.array([match.start() for match in pre_token_pattern(pattern).finditer(text)])
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    sizes = 1 + (points > 0x7F) + (points > 0x7FF) + (points > 0xFFFF)
    places = np.concatenate([[0], np.cumsum(sizes)])
    (starts,) = starts_of([text.encode()], pattern)
    expected = places[[*found, len(text)]]
    if starts != expected.tolist():
        first = next(k for k, pair in enumerate(zip(starts, expected, strict=False)) if pair[0] != pair[1])
        near = int(np.searchsorted(places, expected[max(first - 1, 0)]))
        raise AssertionError(f"from byte {expected[first]} on they differ: ... {text[near : near + 12]!r}")


@both_patterns
def test_pre_tokens_begin_where_the_regular_expression_says(pattern):
    assert_starts(awkward(100_000, 1), pattern)


@pytest.mark.slow
@both_patterns
@pytest.mark.parametrize("seed", range(100, 102))
def test_pre_tokens_of_many_more_texts(pattern, seed):
    assert_starts(awkward(250_000, seed, longest=8), pattern)


@both_patterns
def test_every_text_of_few_characters(pattern):
    texts = ["".join(text) for size in range(5) for text in itertools.product("as' \n\u00a01!\u0301", repeat=size)]
    assert_starts(texts[:: round(len(texts) / cases(len(texts)))], pattern)


@pytest.mark.slow
@both_patterns
def test_every_text_of_six_characters(pattern):
    assert_starts(["".join(text) for text in itertools.product("as' \r\u30001!", repeat=6)], pattern)


@both_patterns
def test_every_pair_of_awkward_pieces(pattern):
    assert_starts(["".join(pair) for pair in itertools.product(PIECES, repeat=2)], pattern)


@both_patterns
def test_white_space_of_every_kind(pattern):
    before, after = ["", "a", "1", "!", "'"], ["", "a", "1", "!", "'s"]
    runs = ["".join(run) for size in (1, 2) for run in itertools.product(WHITE_SPACE, repeat=size)]
    assert_starts(["".join(text) for text in itertools.product(before, runs, after)], pattern)


@both_patterns
def test_every_contraction_and_what_is_almost_one(pattern):
    letters = "sdmtlverSDMTLVERſKx\u0301"
    words = [*letters, *map("".join, itertools.product(letters, repeat=2))]
    texts = itertools.product(["", " ", "a", "'", "\n", "1"], ["'", "’"], words, ["", "a", " ", "'s", "1"])
    assert_starts(["".join(text) for text in texts], pattern)


def characters(step):
    """Every code point of the planes that hold characters; of the others, which hold none, one of so many."""
    points = [
        *range(0x34000),
        *range(0x34000, 0xE0000, step),
        *range(0xE0000, 0xE1000),
        *range(0xE1000, 0x110000, step),
    ]
    return [chr(point) for point in points if not 0xD800 <= point < 0xE000]


@both_patterns
def test_every_character_between_others(pattern):
    assert_starts_of_long("".join(f"a{c} {c}1{c}!'{c}\n" for c in characters(997)[:: round(1 / cases(1))]), pattern)


@pytest.mark.slow
@both_patterns
@pytest.mark.parametrize("context", ["a{}a", " {} ", "1{}1", "!{}!", "'{}'", "  {}\r\n", "{0}{0}"])
def test_every_code_point_there_is_between_others(pattern, context):
    assert_starts_of_long("".join(map(context.format, characters(1))), pattern)


@both_patterns
def test_characters_alone(pattern):
    some = characters(99_991)
    assert_starts(some[:: round(len(some) / cases(30_000))], pattern)


@pytest.mark.slow
@both_patterns
def test_every_code_point_alone(pattern):
    assert_starts(characters(1), pattern)


def test_the_classes_of_all_code_points_are_those_of_the_regular_expressions():
    classes = character_classes()
    for number, pattern in ((LETTER, r"\p{L}"), (NUMBER, r"\p{N}"), (SPACE, r"\s"), (OTHER, r"[^\s\p{L}\p{N}]")):
        for point in [*range(0, 0x110000, 89), 0x17F, 0x0E33, 0x10FFFF]:
            if not 0xD800 <= point < 0xE000:
                assert (classes[point] == number) == bool(regex.fullmatch(pattern, chr(point))), hex(point)
    assert "".join(map(chr, np.flatnonzero(classes == SPACE))) == WHITE_SPACE


def assert_decodes(texts, pattern):
    for text, starts in zip(texts, starts_of(texts, pattern), strict=True):
        try:
            expected = expected_starts(text.decode(), pattern)
        except UnicodeDecodeError as error:
            expected = -1 - error.start
        if starts != expected:
            raise AssertionError(f"{text!r} gives {expected}, the fast engine says {starts}")


@both_patterns
def test_the_first_byte_that_is_not_utf8_is_found(pattern):
    few = [bytes(text) for size in (1, 2, 3) for text in itertools.product(LEADS + TRAILS, repeat=size)]
    four = [bytes(text) for text in itertools.product([0xE0, 0xED, 0xF0, 0xF4, 0xF5], TRAILS, TRAILS, [*TRAILS, 0x41])]
    texts = few + four
    assert_decodes(texts[:: round(len(texts) / cases(len(texts)))], pattern)


@both_patterns
def test_damaged_text_is_found_at_the_damage(pattern):
    source = np.random.default_rng(5)
    texts = []
    for text in awkward(20_000, 6):
        damaged = bytearray(text.encode())
        for place in source.integers(0, len(damaged) + 1, source.integers(1, 3)).tolist():
            if source.random() < 0.5:
                damaged[place : place + 1] = b""
            else:
                damaged[place : place + 1] = bytes([source.choice(LEADS + TRAILS)])
        texts.append(bytes(damaged))
    assert_decodes(texts, pattern)


@both_patterns
def test_what_stands_behind_a_text_completes_no_character_of_it(pattern):
    text = "漢".encode()
    assert list(starts_of([text[:2], text[2:], b"a"], pattern)) == [-1, -1, [0, 1]]
    texts = ["a'", "s", "'l", "l", " ", "a", "  ", "\u00a0", "1", "1", "!", "\n", " ", "!"]
    assert_starts(texts, pattern)
