"""What the tests of the fast engine share: awkward text by the hundred thousand, and each engine called by name."""

import os
import random
from itertools import accumulate

import numpy as np

from core.tokenizer import Tokenizer
from core.tokenizer.fast.boundaries import PADDING, PATTERN_NUMBERS, StartScratch, find_starts
from core.tokenizer.fast.classes import character_classes
from core.tokenizer.fast.stream import padded
from core.tokenizer.pretokenize import pre_token_pattern
from core.tokenizer.train import count_pre_tokens, learn_merges

SHARE = float(os.environ.get("FAST_TEST_SHARE", "0.4"))
"""Of the cases, how many to try: 1 when the engine changes, few where bounds are checked, which is slow."""

WHITE_SPACE = (
    "\t\n\v\f\r \x85\u00a0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
)
"""All 25; `str.isspace` knows four more, which are none to `regex`."""

EDGES = [0, 0x1C, 0x1F, 0x7F, 0x80, 0x84, 0x86, 0xA1, 0x7FF, 0x800, 0xFFF, 0x1000, 0xD7FF, 0xE000, 0xFDD0, 0xFEFF]
EDGES += [0xFFFD, 0xFFFE, 0xFFFF, 0x10000, 0x1FFFE, 0x2FFFF, 0x3FFFF, 0x40000, 0xE0001, 0xFFFFF, 0x100000, 0x10FFFF]
EDGES += [0x378, 0x530, 0x0A7E, 0x200B, 0x200D, 0x180E, 0x2E2F, 0x017F, 0x212A, 0x0130, 0x0131, 0xFB06]

PIECES = [
    *("a", "s", "S", "x", "the", " the", "Don", "é", "ß", "ſ", "ǅ", "ʰ"),
    *("漢", "字", "ж", "α", "ا", "न", "ि", "ไ", "한", "𝒳"),
    *("'s", "'S", "'ſ", "'d", "'M", "'t", "'ll", "'LL", "'lL", "'re", "'rE", "'ve", "'VE", "'l", "'r", "'v", "'", "''"),
    *("1", "12", "123", "1234", "٣", "Ⅷ", "½", "²", "𝟘", "१"),
    *("!", "?!", ".", "_", "-", "$", "€", "«", "\u0301", "\u0308\u0301", "\u20dd"),
    *("\u200d", "\ufe0f", "👍🏽", "🇩🇪", "👩\u200d👧"),
    *("  ", "   ", " \n", "\n\n", "\r\n", "\r\n\r\n", "\n ", " \r", "\t\t"),
    *("\u00a0 ", " \u3000", "\u3000\n", "\x85\u2028"),
    *WHITE_SPACE,
    *"    \n\n",
    *map(chr, EDGES),
]


def cases(count):
    """So many, or the share of them that is to be tried."""
    return max(1, int(count * SHARE))


def random_characters(count, source):
    """Characters from anywhere in Unicode, assigned or not, half of them of the first planes."""
    points = (source.randrange(source.choice([0x3000, 0x10000, 0x20000, 0x110000])) for _ in range(count))
    return [chr(point) for point in points if not 0xD800 <= point < 0xE000]


def awkward(count, seed, longest=16, more=()):
    """Random rows of awkward pieces, of `more` of them, and of random characters."""
    source = random.Random(seed)
    pieces = [*PIECES, *list(more) * 8, *random_characters(50, source)]
    return ["".join(source.choices(pieces, k=source.randrange(longest + 1))) for _ in range(cases(count))]


def expected_starts(text, pattern):
    """Where pre-tokens begin, as offsets in UTF-8, and the end: asked of `regex`."""
    return [0, *accumulate(len(piece.encode()) for piece in pre_token_pattern(pattern).findall(text))]


def starts_of(texts, pattern):
    """The same of the fast engine, for each text (bytes), which lie side by side; or -1 - k if byte k is not UTF-8."""
    buffer = padded(texts, sum(map(len, texts)))
    scratch, classes = StartScratch.of(max(map(len, texts))), character_classes()
    begin = PADDING
    for text in texts:
        found = 0
        if text:
            found = find_starts(buffer, begin, len(text), PATTERN_NUMBERS[pattern], classes, scratch)
        yield found if found < 0 else (scratch.positions[: found + 1] - begin).tolist() if text else [0]
        begin += len(text)


def segments_of(texts):
    """A buffer of texts (bytes) side by side, and where those that are not empty begin and end, as int64 rows."""
    ends = PADDING + np.cumsum([len(text) for text in texts], dtype=np.int64)
    rows = np.stack([np.concatenate([[PADDING], ends[:-1]]), ends], axis=1)
    return padded(texts, int(ends[-1]) - PADDING), rows[rows[:, 0] < rows[:, 1]]


def counted(counter):
    """What a fast counter holds, as a dictionary."""
    text, begin, counts = counter.words()
    joined, places = text.tobytes(), begin.tolist()
    return {joined[places[i] : places[i + 1]]: count for i, count in enumerate(counts.tolist())}


class ReferenceTokenizer(Tokenizer):
    """The reference engine whatever the input's size."""

    def encode(self, text):
        return self.encode_reference(text)

    def fast(self, threads=None):
        """The fast engine with the same vocabulary."""
        return Tokenizer(self.vocab, self.merges, self.special_tokens, pattern=self.pattern).fast_encoder(threads)


def trained(text, num_merges, specials=(), pattern="gpt2"):
    """A tokenizer of the reference's engine, trained by it."""
    merges = learn_merges(count_pre_tokens([text], specials, pattern), num_merges)
    tokens = [bytes([value]) for value in range(256)] + [special.encode() for special in specials]
    tokens += [left + right for left, right in merges]
    return ReferenceTokenizer(dict(enumerate(tokens)), merges, specials, pattern=pattern)


def assert_encodes_alike(tokenizer, texts, threads=None):
    """Both engines give every text the same ids."""
    fast = tokenizer.fast(threads)
    for text, ids in zip(texts, fast.encode_batch(texts), strict=True):
        expected = tokenizer.encode(text)
        if ids != expected:
            raise AssertionError(f"{text!r} is {expected}, the fast engine says {ids}")
        if (alone := fast.encode(text)) != expected:
            raise AssertionError(f"{text!r} is {expected}, the fast engine says {alone} when given it alone")
