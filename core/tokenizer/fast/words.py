"""A growing table of distinct pre-tokens: each gets a number, 0, 1, 2 ..., when it is first seen.

Counting tallies these numbers; encoding replaces each by the ids that the pre-token becomes, so that it is looked at as
text only once. The table is three: pre-tokens of up to 8 bytes are found by one 64-bit number, up to 16 bytes by two,
longer ones by a hash and a comparison. A block's rows are all asked for before the first is read, so that the memory's
delay is paid once and not for every pre-token.

The number of a short pre-token is the *complement* of its bytes, with zeros behind. Zeros behind the bytes themselves
would make "!" and "!" with a NUL one; the complement cannot, because 0xFF does not occur in UTF-8, and is never 0,
which marks an empty row.
"""

from typing import NamedTuple

import numpy as np

from core.tokenizer.fast.compiled import kernel

WORDS, SHORT, MEDIUM, LONG = 0, 1, 2, 3
"""Places in `used`: pre-tokens in all, and rows taken in each table."""

_U0, _U1 = np.uint64(0), np.uint64(1)
_MULTIPLIER, _SECOND_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


class WordTable(NamedTuple):
    """The arrays of a table; rows are at most half taken. A new one is made when an array must grow."""

    used: np.ndarray
    """int64 [4], see `WORDS`."""
    short: np.ndarray
    """Rows (key, value), by open addressing; a new pre-token's value is its number."""
    medium: np.ndarray
    """Rows (key, second key, value, unused)."""
    long: np.ndarray
    """Rows (hash, number, value, unused)."""
    text: np.ndarray
    """The pre-tokens' bytes one after another, padded by 16."""
    begin: np.ndarray
    """int64; word n is `text[begin[n] : begin[n + 1]]`."""
    places: np.ndarray
    """int64; where word n's value lies: row * 4 + table (`SHORT`, `MEDIUM`, `LONG`). True until the table grows."""


class InternScratch(NamedTuple):
    """Working memory of `intern`, for a block of as many bytes."""

    keys: np.ndarray
    rows: np.ndarray
    longer: np.ndarray

    @classmethod
    def of(cls, size: int) -> "InternScratch":
        """Room for a block of `size` bytes."""
        return cls(np.empty(size, np.uint64), np.empty(size, np.uint64), np.empty(size, np.int32))


def new_table(rows: int = 1 << 18) -> WordTable:
    """An empty table, with room for half as many short pre-tokens as it has rows."""
    return WordTable(
        used=np.zeros(4, np.int64),
        short=np.zeros((rows, 2), np.uint64),
        medium=np.zeros((rows, 4), np.uint64),
        long=np.zeros((rows // 4, 4), np.uint64),
        text=np.zeros(8 * rows + 16, np.uint8),
        begin=np.zeros(rows + 1, np.int64),
        places=np.zeros(rows, np.int64),
    )


def clear(table: WordTable) -> None:
    """Forget every word."""
    for array in (table.used, table.short, table.medium, table.long):
        array[:] = 0


@kernel
def most_new_words(num_bytes):
    """How many distinct pre-tokens so many bytes can hold: the 256 single bytes, else two bytes or more each."""
    return num_bytes // 2 + 257


def ensure_room(table: WordTable, num_bytes: int) -> WordTable:
    """A table with the same words and room for those of so many bytes more."""
    new = most_new_words(num_bytes)
    words, short, medium, long = (int(value) for value in table.used)
    changed = {}
    for name, taken, coming in (
        ("short", short, new),
        ("medium", medium, min(new, num_bytes // 9 + 1)),
        ("long", long, min(new, num_bytes // 17 + 1)),
    ):
        rows = getattr(table, name)
        size = len(rows)
        while 2 * (taken + coming) > size:
            size *= 2
        if size != len(rows):
            changed[name] = grown = np.zeros((size, rows.shape[1]), np.uint64)
            {"short": _move_short, "medium": _move_medium, "long": _move_long}[name](rows, grown)
    if words + new >= len(table.begin):
        changed["begin"] = _longer(table.begin, words + new + 1)
        changed["places"] = _longer(table.places, words + new)
    if table.begin[words] + num_bytes + 16 > len(table.text):
        changed["text"] = _longer(table.text, int(table.begin[words]) + num_bytes + 16)
    return table._replace(**changed) if changed else table


def _longer(array: np.ndarray, size: int) -> np.ndarray:
    grown = np.zeros(max(size, 2 * len(array)), array.dtype)
    grown[: len(array)] = array
    return grown


@kernel
def has_room(table, num_bytes):
    """Whether `intern` may be given so many bytes."""
    new = most_new_words(num_bytes)
    return (
        2 * (table.used[SHORT] + new) <= table.short.shape[0]
        and 2 * (table.used[MEDIUM] + min(new, num_bytes // 9 + 1)) <= table.medium.shape[0]
        and 2 * (table.used[LONG] + min(new, num_bytes // 17 + 1)) <= table.long.shape[0]
        and table.used[WORDS] + new < table.begin.shape[0]
        and table.begin[table.used[WORDS]] + num_bytes + 16 <= table.text.shape[0]
    )


@kernel
def mix(key):
    """A key's hash; its low bits choose the row."""
    mixed = key * _MULTIPLIER
    return mixed ^ (mixed >> np.uint64(32))


@kernel
def mix_two(key, second):
    """The hash of two keys."""
    return mix(key ^ (second * _SECOND_MULTIPLIER))


@kernel
def _move_short(rows, grown):
    mask = np.uint64(grown.shape[0] - 1)
    for i in range(rows.shape[0]):
        if rows[i, 0] != _U0:
            row = mix(rows[i, 0]) & mask
            while grown[row, 0] != _U0:
                row = (row + _U1) & mask
            grown[row, 0], grown[row, 1] = rows[i, 0], rows[i, 1]


@kernel
def _move_medium(rows, grown):
    mask = np.uint64(grown.shape[0] - 1)
    for i in range(rows.shape[0]):
        if rows[i, 0] != _U0:
            row = mix_two(rows[i, 0], rows[i, 1]) & mask
            while grown[row, 0] != _U0:
                row = (row + _U1) & mask
            grown[row, 0], grown[row, 1], grown[row, 2] = rows[i, 0], rows[i, 1], rows[i, 2]


@kernel
def _move_long(rows, grown):
    mask = np.uint64(grown.shape[0] - 1)
    for i in range(rows.shape[0]):
        if rows[i, 0] != _U0:
            row = rows[i, 0] & mask
            while grown[row, 0] != _U0:
                row = (row + _U1) & mask
            grown[row] = rows[i]
