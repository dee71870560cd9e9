import itertools
import random

import pytest
from fast_cases import assert_encodes_alike, awkward, cases, trained
from naive_bpe import naive_split

from core.tokenizer.fast.boundaries import PADDING
from core.tokenizer.fast.specials import Specials
from core.tokenizer.fast.stream import padded
from core.tokenizer.pretokenize import PATTERNS

LISTS = [
    [],
    ["<|endoftext|>"],
    ["aa"],
    ["a", "aa", "aaa"],
    ["aba"],
    ["aba", "bab", "ab"],
    ["<|a|>", "<|a|><|b|>", "<|b|>", "|><|"],
    ["a b", " ", "  ", " a", "b \n"],
    ["s", "ll", "'", "'s", "re"],
    ["\n\n", "\r\n", "\u00a0", "漢 字", "字"],
    ["é", "\u0301", "e\u0301", "👍"],
    ["\0", "\0\0", "a\0"],
    ["abcdefgh", "abcdefghi", "hijklmno", "a" * 40],
]
every_list = pytest.mark.parametrize("specials", LISTS, ids=lambda specials: repr(specials[:3]))


def split(finder, text, specials):
    """The text cut by the fast engine, in the form of `naive_split`."""
    data, pieces = text.encode(), []
    buffer = padded([b"aaa<|a|>", data, b"aaa|>"], len(data) + 13)  # what stands around a text is no part of it
    first, last = PADDING + 8, PADDING + 8 + len(data)
    rows = finder.segments(buffer, first, last).tolist()
    for row, (begin, end, number) in enumerate(rows):
        if end > begin:
            pieces.append((False, buffer[begin:end].tobytes().decode()))
        following = rows[row + 1][0] if row + 1 < len(rows) else last
        assert (number >= 0) == (row + 1 < len(rows))
        if number >= 0:
            assert buffer[end:following].tobytes().decode() == specials[number]
            pieces.append((True, specials[number]))
    assert rows[0][0] == first
    return pieces


@every_list
def test_the_longest_special_token_is_cut_out_from_left_to_right(specials):
    source, finder = random.Random(50), Specials(specials, range(len(specials)))
    atoms = [*specials, *(special[:-1] for special in specials), *(special[1:] for special in specials), "a", " ", "x"]
    texts = ("".join(source.choices(atoms, k=source.randrange(14))) for _ in range(cases(3000)))
    for text in itertools.chain(texts, awkward(300, 51), ["", *specials]):
        pieces = split(finder, text, specials)
        assert (text, pieces) == (text, naive_split(text, specials))


@pytest.mark.parametrize("alphabet", ["ab", "a "])
def test_every_short_text_with_every_two_short_special_tokens(alphabet):
    words = ["".join(word) for size in (1, 2, 3) for word in itertools.product(alphabet, repeat=size)]
    texts = ["".join(word) for word in itertools.product(alphabet, repeat=7)]
    for specials in map(list, itertools.combinations(words, 2)):
        finder = Specials(specials, [0, 1])
        for text in texts[:: round(16 / cases(1))]:
            assert (specials, split(finder, text, specials)) == (specials, naive_split(text, specials))


@pytest.mark.parametrize("size", [0, 1, 6, 7, 8, 9, 15, 16, 17, 5000])
def test_a_special_token_is_found_at_every_place(size):
    for token in ("<|x|>", "<", "<" * 9, "<|endoftext|>" * 3):
        finder = Specials([token], [7])
        for before in range(20):
            text = "a" * before + token + "b" * size
            assert finder.find(padded([text.encode()], len(text)), PADDING, PADDING + len(text)).tolist() == [
                [PADDING + before, PADDING + before + len(token), 7]
            ]
        assert (
            finder.find(padded([text.encode()], len(text)), PADDING, PADDING + before + len(token) - 1).tolist() == []
        )


def test_more_special_tokens_than_there_is_room_for_at_first():
    text = b"<|x|>" * 20_000
    rows = Specials(["<|x|>"], [3]).find(padded([text], len(text)), PADDING, PADDING + len(text))
    assert rows.tolist() == [[PADDING + 5 * i, PADDING + 5 * i + 5, 3] for i in range(20_000)]


@pytest.mark.parametrize("pattern", PATTERNS)
@every_list
def test_texts_with_special_tokens_get_the_ids_of_the_reference(specials, pattern):
    tokenizer = trained("".join(awkward(300, 52)), 200, specials, pattern)
    parts = [special[: len(special) // 2] for special in specials]
    assert_encodes_alike(tokenizer, awkward(1500, 53, more=[*specials, *parts, "'", "a", "漢"]))
