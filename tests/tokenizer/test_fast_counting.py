import itertools
import random
from collections import Counter as Tally

import numpy as np
import pytest
from fast_cases import PIECES, awkward, cases, counted, random_characters, segments_of

from core.tokenizer.fast.boundaries import PADDING
from core.tokenizer.fast.counting import Counter
from core.tokenizer.fast.words import new_table
from core.tokenizer.pretokenize import PATTERNS, pre_token_pattern

both_patterns = pytest.mark.parametrize("pattern", PATTERNS)


def reference(texts, pattern):
    """Pre-tokens (bytes) and how often they occur, asked of `regex`."""
    find = pre_token_pattern(pattern).findall
    tally = Tally()
    for text in texts:
        tally.update(find(text))
    return {word.encode(): count for word, count in tally.items()}


def fast(texts, pattern, counter=None):
    counter = Counter(pattern) if counter is None else counter
    assert counter.count(*segments_of([text.encode() for text in texts])) == -1
    return counted(counter)


def difference(one, other):
    """What two tallies disagree on, little of it."""
    return {
        word: (one.get(word), other.get(word)) for word in one.keys() | other.keys() if one.get(word) != other.get(word)
    }


def assert_counts(texts, pattern):
    got, expected = fast(texts, pattern), reference(texts, pattern)
    if got != expected:
        wrong = difference(got, expected)
        raise AssertionError(f"{len(wrong)} pre-tokens, (fast, reference): {dict(sorted(wrong.items())[:5])}")


@both_patterns
def test_awkward_texts_are_counted_as_the_reference_counts_them(pattern):
    assert_counts(awkward(50_000, 11), pattern)


@pytest.mark.slow
@both_patterns
@pytest.mark.parametrize("seed", range(1100, 1102))
def test_many_more_awkward_texts(pattern, seed):
    assert_counts(awkward(250_000, seed), pattern)


def test_pre_tokens_that_differ_only_in_nul_bytes_behind_are_different():
    # The number of a short pre-token is made of its bytes: all rows of three of these, up to 20 long.
    words = ["".join(word) for size in range(1, 9) for word in itertools.product("!\0\x7f", repeat=size)]
    words = words[:: round(len(words) / cases(len(words)))]
    words += [lead + "\0" * size for lead in ("!", "!?", "\0", "漢"[:0] + "~\0~") for size in range(36)]
    assert fast(words, "gpt2") == {word.encode(): count for word, count in Tally(words).items()}


@both_patterns
def test_words_of_every_length_that_differ_in_one_byte(pattern):
    words = ["a" * place + "b" + "a" * (size - place - 1) for size in range(1, 45) for place in range(size)]
    words += ["é" * place + "ж" + "é" * (size - place - 1) for size in range(1, 15) for place in range(size)]
    assert fast(words * 3, pattern) == dict.fromkeys([word.encode() for word in words], 3)


def new_words(count):
    source = random.Random(12)
    lengths = [5, 6, 7, 8, 9, 12, 16, 17, 18, 30]
    return " ".join(sorted({"".join(source.choices("abcdefghij", k=source.choice(lengths))) for _ in range(count)}))


@both_patterns
def test_small_tables_grow_and_keep_what_they_hold(pattern):
    counter = Counter(pattern)
    counter._table = new_table(1 << 8)
    counter._counts = counter._counts[: len(counter._table.begin)].copy()
    text = new_words(cases(30_000))
    texts = [text[: len(text) // 3], text, *awkward(3000, 16)]
    assert fast(texts, pattern, counter) == reference(texts, pattern)
    assert all(len(array) > 1 << 9 for array in counter._table[1:])


@pytest.mark.slow
@both_patterns
def test_a_million_new_words_make_every_table_grow(pattern):
    text = new_words(1_000_000)
    assert_counts([text, text[: len(text) // 3]], pattern)


@both_patterns
def test_texts_longer_than_many_blocks(pattern):
    for seed in range(cases(6)):
        text = "".join(awkward(12_000, 1200 + seed))
        assert_counts(["x" * seed + text], pattern)


NO_CUT = {
    "digits": "12345678901",
    "spaces": "    \n \t  ",
    "signs": "!?.-_$€«",
    "marks and spaces": " \u0301\u0308 \u20dd",
    "digits and signs": "1!22?333...\n",
    "one word of ASCII": "abcdefghijk",
    "one word of Cyrillic": "абвгдежзийк",
    "one word of CJK": "漢字仮名交文",
    "letters beyond the BMP": "𝒳𝒴𝒵𝔄",
    "emoji": "👍🏽👩\u200d👩\u200d👧🇩🇪",
    "apostrophes": "'",
    "unassigned": "\u0378\U000e0fff\U0010ffff",
}


@both_patterns
@pytest.mark.parametrize("kind", NO_CUT)
def test_a_long_text_without_a_safe_cut(pattern, kind):
    text = NO_CUT[kind] * (100_000 // len(NO_CUT[kind].encode()))
    assert_counts([text, "a" + text, text + " end's"], pattern)


@both_patterns
@pytest.mark.parametrize(
    ("alphabet", "marks"),
    [("абвгдежзийклмнопрстуфхцчшщ", " .,\n"), ("漢字仮名交文日本語中国人大小", "。、\u3000"), ("אבגדה", " ,׳")],
)
def test_a_million_bytes_of_one_script(pattern, alphabet, marks):
    source = random.Random(13)
    words = [
        "".join(source.choices(alphabet, k=source.randrange(1, 9))) + source.choice(marks) for _ in range(cases(60_000))
    ]
    assert_counts(["".join(words)], pattern)


@both_patterns
def test_every_way_for_a_block_to_end(pattern):
    # The end of the first block, about byte 16,384, comes to lie on each byte of what stands there.
    source = random.Random(14)
    more = [*PIECES, *random_characters(60, source), "a's ", "é'll", "x  \n", "漢。", "ж1"]
    for _ in range(cases(120)):
        text = "1" * source.randrange(16_340, 16_390) + "".join(source.choices(more, k=30)) + "ab " * 1500
        assert_counts([text], pattern)


def test_counts_of_several_counters_add_up():
    texts = awkward(6000, 15)
    total, parts = Counter(), [texts[place::3] for place in range(3)]
    for part in parts:
        counter = Counter()
        fast(part, "gpt2", counter)
        total.add(*counter.words())
    assert counted(total) == reference(texts, "gpt2")
    assert len(total) == len(counted(total))


def test_large_counts_add_up_and_a_cleared_counter_starts_anew():
    text, begin = np.frombuffer(b"ab\0!" + bytes(16), np.uint8).copy(), np.array([0, 1, 2, 4])
    counter = Counter()
    for _ in range(3):
        counter.add(text, begin, np.array([1 << 40, 1, (1 << 33) + 1]))
    assert counted(counter) == {b"a": 3 << 40, b"b": 3, b"\0!": (3 << 33) + 3}
    counter.clear()
    assert (len(counter), counted(counter)) == (0, {})
    assert fast(["b b"], "gpt2", counter) == {b"b": 1, b" b": 1}


def test_the_place_of_the_first_wrong_byte_is_given_whatever_block_it_is_in():
    for good in (0, 1, 100, 16_383, 16_384, 40_000):
        texts = [b"first", b"a " * (good // 2) + b"a" * (good % 2) + b"\xe6\xbc" + b" good \xff"]
        assert Counter().count(*segments_of(texts)) == PADDING + 5 + good


def test_nothing_is_counted_of_nothing():
    counter = Counter()
    assert counter.count(*segments_of([b"", b""])) == -1
    assert counted(counter) == {}
