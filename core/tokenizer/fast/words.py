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

from core.tokenizer.fast.compiled import kernel, load64, prefetch

MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)
"""The low `size` bytes of a number."""

WORDS, SHORT, MEDIUM, LONG = 0, 1, 2, 3
"""Places in `used`: pre-tokens in all, and rows taken in each table."""

_U0, _U1, _U8 = np.uint64(0), np.uint64(1), np.uint64(8)
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
def _mix(key):
    mixed = key * _MULTIPLIER
    return mixed ^ (mixed >> np.uint64(32))


@kernel
def _mix_two(key, second):
    return _mix(key ^ (second * _SECOND_MULTIPLIER))


@kernel
def _hash(buffer, begin, end):
    """A hash of any bytes, never 0."""
    value, k = _SECOND_MULTIPLIER ^ np.uint64(end - begin), begin
    while k + 8 <= end:
        value = (value ^ load64(buffer, np.uint64(k))) * _MULTIPLIER
        value ^= value >> np.uint64(29)
        k += 8
    while k < end:
        value = (value ^ np.uint64(buffer[k])) * _MULTIPLIER
        k += 1
    value ^= value >> np.uint64(32)
    return value if value != _U0 else _U1


@kernel
def _move_short(rows, grown):
    mask = np.uint64(grown.shape[0] - 1)
    for i in range(rows.shape[0]):
        if rows[i, 0] != _U0:
            row = _mix(rows[i, 0]) & mask
            while grown[row, 0] != _U0:
                row = (row + _U1) & mask
            grown[row, 0], grown[row, 1] = rows[i, 0], rows[i, 1]


@kernel
def _move_medium(rows, grown):
    mask = np.uint64(grown.shape[0] - 1)
    for i in range(rows.shape[0]):
        if rows[i, 0] != _U0:
            row = _mix_two(rows[i, 0], rows[i, 1]) & mask
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


@kernel
def _new_word(used, text, word_begin, places, buffer, begin, end, kind, row):
    """Note a pre-token's text and where its value lies; returns its number."""
    number = used[WORDS]
    place = word_begin[number]
    for k in range(end - begin):
        text[place + k] = buffer[begin + k]
    word_begin[number + 1] = place + end - begin
    places[number] = np.int64(row) * 4 + kind
    used[WORDS] = number + 1
    used[kind] += 1
    return np.uint64(number)


@kernel
def _intern_long(used, long, text, word_begin, places, buffer, begin, end):
    """The value of a pre-token of more than 16 bytes."""
    value, mask = _hash(buffer, begin, end), np.uint64(long.shape[0] - 1)
    row = value & mask
    while long[row, 0] != _U0:
        if long[row, 0] == value:
            number = np.int64(long[row, 1])
            place = word_begin[number]
            if word_begin[number + 1] - place == end - begin:
                k = 0
                while k < end - begin and text[place + k] == buffer[begin + k]:
                    k += 1
                if k == end - begin:
                    return long[row, 2]
        row = (row + _U1) & mask
    long[row, 0] = value
    long[row, 1] = long[row, 2] = _new_word(used, text, word_begin, places, buffer, begin, end, LONG, row)
    return long[row, 2]


@kernel
def intern(table, scratch, buffer, positions, count, values):
    """The value of every pre-token of a block, new ones added; the table must have room (`has_room`).

    Args:
        table: A `WordTable`.
        scratch: An `InternScratch` as large as the block.
        buffer: The text, padded.
        positions: Where in it the pre-tokens begin, and the last one's end.
        count: How many there are.
        values: uint64; gets the values, a new pre-token's number.
    """
    used, short, medium, long, text, word_begin, places = table
    keys, rows, all_longer = scratch
    short_mask, medium_mask = np.uint64(short.shape[0] - 1), np.uint64(medium.shape[0] - 1)
    longer = 0
    for t in range(count):
        begin = np.uint64(np.int64(positions[t]))
        size = np.uint64(np.int64(positions[t + 1])) - begin
        key = ~load64(buffer, begin) & MASKS[min(size, _U8)]
        row = _mix(key) & short_mask
        keys[t], rows[t] = key, row
        prefetch(short, row)
        all_longer[longer] = t
        longer += np.int64(size > _U8)
    all_longer[longer] = count
    following, t = 0, 0
    while True:
        stop = all_longer[following]
        while t < stop:
            key, row = keys[t], rows[t]
            while short[row, 0] != key:
                if short[row, 0] == _U0:
                    short[row, 0] = key
                    short[row, 1] = _new_word(
                        used,
                        text,
                        word_begin,
                        places,
                        buffer,
                        np.int64(positions[t]),
                        np.int64(positions[t + 1]),
                        SHORT,
                        row,
                    )
                    break
                row = (row + _U1) & short_mask
            values[t] = short[row, 1]
            t += 1
        if stop == count:
            break
        begin = np.uint64(np.int64(positions[t]))
        size = np.uint64(np.int64(positions[t + 1])) - begin
        rows[t] = _mix_two(keys[t], ~load64(buffer, begin + _U8) & MASKS[min(size - _U8, _U8)]) & medium_mask
        prefetch(medium, rows[t])
        following += 1
        t += 1
    for i in range(longer):
        t = all_longer[i]
        begin, end = np.int64(positions[t]), np.int64(positions[t + 1])
        if end - begin > 16:
            values[t] = _intern_long(used, long, text, word_begin, places, buffer, begin, end)
            continue
        key, row = keys[t], rows[t]
        second = ~load64(buffer, np.uint64(begin + 8)) & MASKS[end - begin - 8]
        while medium[row, 0] != key or medium[row, 1] != second:
            if medium[row, 0] == _U0:
                medium[row, 0], medium[row, 1] = key, second
                medium[row, 2] = _new_word(used, text, word_begin, places, buffer, begin, end, MEDIUM, row)
                break
            row = (row + _U1) & medium_mask
        values[t] = medium[row, 2]


@kernel
def add_words(table, tallies, text, begin, counts, first, last):
    """Intern the words `first` to `last` of a list and add their counts to the tallies by number; room must be there.

    Args:
        table: A `WordTable`.
        tallies: int64, by number.
        text: The words' bytes one after another, padded by 16.
        begin: Where each begins, and the last ends.
        counts: Of each word.
        first: Number in the list.
        last: One after the last.
    """
    used, short, medium, long, words_text, word_begin, places = table
    short_mask, medium_mask = np.uint64(short.shape[0] - 1), np.uint64(medium.shape[0] - 1)
    for i in range(first, last):
        start, size = np.uint64(begin[i]), np.uint64(begin[i + 1] - begin[i])
        key = ~load64(text, start) & MASKS[min(size, _U8)]
        if size <= _U8:
            row = _mix(key) & short_mask
            while short[row, 0] != key and short[row, 0] != _U0:
                row = (row + _U1) & short_mask
            if short[row, 0] == _U0:
                short[row, 0] = key
                short[row, 1] = _new_word(
                    used, words_text, word_begin, places, text, begin[i], begin[i + 1], SHORT, row
                )
            number = short[row, 1]
        elif size <= np.uint64(16):
            second = ~load64(text, start + _U8) & MASKS[size - _U8]
            row = _mix_two(key, second) & medium_mask
            while medium[row, 0] != _U0 and (medium[row, 0] != key or medium[row, 1] != second):
                row = (row + _U1) & medium_mask
            if medium[row, 0] == _U0:
                medium[row, 0], medium[row, 1] = key, second
                medium[row, 2] = _new_word(
                    used, words_text, word_begin, places, text, begin[i], begin[i + 1], MEDIUM, row
                )
            number = medium[row, 2]
        else:
            number = _intern_long(used, long, words_text, word_begin, places, text, begin[i], begin[i + 1])
        tallies[number] += counts[i]
