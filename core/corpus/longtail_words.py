"""The words of generated text, each a function of its rank, and what stands between words.

A word's syllables are picked by a hash of its rank, so that millions of words need no memory.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np

WORD_BYTES, SEPARATOR_BYTES, SYLLABLE_BYTES = 16, 8, 4
"""At most; each is a row of so many bytes, filled up with zeros."""

_ONSETS = ["", *"tsrdlnmpckbfhvwg", "st", "th", "ch", "sh", "tr", "pr", "br", "pl", "cr", "gr", "j", "qu", "z", "y"]
_VOWELS = [*"eaiou", "ea", "ou", "ai", "y", "ie", "oo"]
_CODAS = ["", *"nrstldm", "ng", "c", "p", "st", "b", "f", "k", "ck"]
_ACCENTED = list("éáöüóíèäñçåøêãß")
_GREEK = list("τνσπκρλμδθφγχβξζψ"), list("αοιεηυωάίόέή")
_CYRILLIC = list("тнсрвлкмдпбгзжчшхц"), list("оаеиуяыюэё")
_NUM_IDEOGRAPHS = 2500

LATIN, ACCENTED, GREEK, CYRILLIC, CHINESE = range(5)
PROSE, CODE, UNSPACED = range(3)

DOCUMENT_KINDS: list[tuple[float, int, int]] = [
    (0.87, PROSE, LATIN),
    (0.06, CODE, LATIN),
    (0.04, PROSE, ACCENTED),
    (0.008, PROSE, GREEK),
    (0.016, PROSE, CYRILLIC),
    (0.006, UNSPACED, CHINESE),
]
"""Share of the documents, separators, script."""

SEPARATORS: list[list[tuple[float, str, bool]]] = [
    [
        *[(7800, " ", False), (520, ", ", False), (420, ". ", True), (70, ".\n", True), (60, ".\n\n", True)],
        *[(70, "'s ", False), (22, "'t ", False), (9, "'ll ", False), (9, "'re ", False), (9, "'ve ", False)],
        *[(6, "'m ", False), (6, "'d ", False), (18, "’s ", False), (5, "’t ", False)],
        *[(40, "-", False), (35, " (", False), (30, ") ", False), (8, "), ", False), (6, ").\n\n", True)],
        *[(35, ": ", False), (14, "; ", False), (24, "? ", True), (20, "! ", True), (12, "... ", False)],
        *[(32, ' "', True), (20, '" ', False), (16, '," ', False), (10, '."\n\n', True), (8, " “", True)],
        *[(8, "” ", False), (12, " - ", False), (12, " – ", False), (8, "—", False), (14, "/", False)],
        *[(12, "\n- ", True), (10, "\n* ", True), (8, "\n\n## ", True), (8, "\n", True), (6, ".\r\n", True)],
        *[(14, "  ", False), (4, "\t", False), (4, "\u00a0", False), (8, " & ", False), (6, " $", False)],
        *[(6, "% ", False), (4, " @", False), (4, " #", False), (4, "://", False), (4, " 🙂 ", False)],
        *[(3, "👍🏽", True), (2, "! ❤️", True), (2, " … ", False), (3, " = ", False), (2, " € ", False)],
    ],
    [
        *[(2500, " ", False), (800, "_", False), (700, ".", False), (650, "(", False), (420, ", ", False)],
        *[(600, " = ", False), (220, "):\n    ", False), (220, ")\n    ", False), (160, "\n\t\t", False)],
        *[(110, "\n       ", False), (120, "\n\n", False), (60, "\n\n\n", False), (90, ";\n\t", False)],
        *[(60, " {\n\t\t", False), (60, "}\n\n", False), (120, "[", False), (110, "] ", False), (90, " # ", True)],
        *[(80, " == ", False), (60, " -> ", False), (80, '"', False), (80, '", "', False), (60, "()\n", False)],
        *[(50, " + ", False), (40, " != ", False), (40, "::", False), (40, "<", False), (40, "/", False)],
        *[(50, "", True), (30, " && ", False), (30, "\r\n", False), (30, " // ", True), (20, "'", False)],
    ],
    [
        (120, "", False),
        (350, "，", False),
        (180, "。", False),
        (60, "、", False),
        (20, "。\n", False),
        (60, " ", False),
    ],
]
"""By kind of document: weight, text, whether a capital follows."""


def quantiles(weights: np.ndarray, bits: int) -> np.ndarray:
    """A table in which each choice has room in proportion to its weight: a random place is a weighted choice.

    >>> quantiles(np.array([2.0, 1.0, 1.0]), 3)
    array([0, 0, 0, 0, 1, 1, 2, 2])
    """
    ends = np.cumsum(weights)  # in order: other sums would round otherwise elsewhere
    middles = (np.arange(1 << bits) + 0.5) * (ends[-1] / (1 << bits))
    return np.searchsorted(ends, middles, side="right")


def text_rows(texts: Sequence[str], row_bytes: int, right: bool = False) -> np.ndarray:
    """Texts as rows of bytes, with zeros behind or, if `right`, in front."""
    rows = np.zeros((len(texts), row_bytes), np.uint8)
    for row, text in zip(rows, texts, strict=True):
        data = np.frombuffer(text.encode(), np.uint8)
        if data.size > row_bytes:
            raise ValueError(f"{text!r} has {data.size} bytes: {row_bytes} at most")
        row[row_bytes - data.size if right else 0 :][: data.size] = data
    return rows


def capitalise(rows: np.ndarray, capital: np.ndarray) -> np.ndarray:
    """Rows of bytes, the first letter of those marked a capital if it is a Latin one without an accent."""
    rows = rows.copy()
    rows[:, 0] -= ((rows[:, 0] >= ord("a")) & (rows[:, 0] <= ord("z")) & (capital > 0)) * np.uint8(32)
    return rows


def spell(ranks: np.ndarray, scripts: np.ndarray) -> np.ndarray:
    """The words of these ranks in these scripts, as rows of `WORD_BYTES` bytes.

    The more frequent, the shorter: one syllable for the first ranks, four for half of those in the millions. Of all
    words one in 40 is a number, of the rarer ones one in 25 a name, and of those in Latin script one in 60 an acronym.
    """
    bits = _hash(ranks.astype(np.uint64) + (scripts.astype(np.uint64) << np.uint64(40)))
    lot = (bits >> np.uint64(48)).view(np.int64)
    magnitude = np.frexp(ranks + 1.0)[1].astype(np.int64)
    length = 1 + np.maximum(magnitude + (lot & 7) - 5, 0) // 7
    rows = np.empty((ranks.size, WORD_BYTES // SYLLABLE_BYTES), np.uint32)
    for place in range(rows.shape[1]):
        picks = ((bits >> np.uint64(12 * place)) & np.uint64(4095)).view(np.int64)
        rows[:, place] = _syllables().take((scripts << 12) + picks) * (place < length)
    rows = rows.view(np.uint8)

    kind = (lot >> 3) / (1 << 13)
    rows = capitalise(rows, (kind > 0.96) & (ranks > 300))
    acronyms = np.flatnonzero((kind > 0.925) & (kind < 0.942) & (scripts == LATIN) & (ranks > 300))
    short = rows[acronyms, :SYLLABLE_BYTES]
    rows[acronyms] = 0
    rows[acronyms, :SYLLABLE_BYTES] = short - np.where(short > 0, np.uint8(32), np.uint8(0))
    numbers = np.flatnonzero(kind < 0.025)
    rows[numbers] = _digits(bits[numbers], 1 + (magnitude[numbers] + (lot[numbers] & 7)) // 4)
    return rows


def _digits(bits: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Numerals of so many digits, without zeros in front."""
    value = bits >> np.uint64(8)
    rows = np.zeros((bits.size, WORD_BYTES), np.uint8)
    for place in range(int(length.max(initial=0))):
        digit = value % np.uint64(10) if place else 1 + value % np.uint64(9)
        rows[:, place] = np.where(place < length, ord("0") + digit, 0)
        value = value // np.uint64(10)
    return rows


def _hash(numbers: np.ndarray) -> np.ndarray:
    """64 bits that look random, by two rounds of multiplication."""
    bits = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    for multiplier in (0xD6E8FEB86659FD93, 0xCA9B0C7EBA1DA115):
        bits = (bits ^ (bits >> np.uint64(32))) * np.uint64(multiplier)
    return bits ^ (bits >> np.uint64(31))


@cache
def _syllables() -> np.ndarray:
    """4096 places for each script, each four bytes as one number; frequent syllables have many places."""
    latin = _combined(_ONSETS, _VOWELS, _CODAS)
    accented = _combined(_ONSETS, _ACCENTED, _CODAS)
    ideographs = [(1 / (20 + n), chr(0x4E00 + n * 7919 % 20_000)) for n in range(_NUM_IDEOGRAPHS)]
    tables = {
        LATIN: latin,
        ACCENTED: [(4 * weight, text) for weight, text in latin] + accented,
        GREEK: _combined(*_GREEK, [""]),
        CYRILLIC: _combined(*_CYRILLIC, [""]),
        CHINESE: ideographs,
    }
    return np.concatenate([_places(tables[script]) for script in sorted(tables)])


def _combined(onsets: Sequence[str], vowels: Sequence[str], codas: Sequence[str]) -> list[tuple[float, str]]:
    """Every syllable that fits, weighted by where its parts stand in their lists."""
    return [
        (1 / ((3 + o) * (1 + v) * (1 + c)), onset + vowel + coda)
        for o, onset in enumerate(onsets)
        for v, vowel in enumerate(vowels)
        for c, coda in enumerate(codas)
        if len((onset + vowel + coda).encode()) <= SYLLABLE_BYTES
    ]


def _places(syllables: list[tuple[float, str]]) -> np.ndarray:
    table = text_rows([text for _, text in syllables], SYLLABLE_BYTES).view(np.uint32).ravel()
    return table[quantiles(np.array([weight for weight, _ in syllables]), 12)]
