"""Looking pre-tokens up in a `WordTable`, a block at a time, and adding those that are new."""

import numpy as np

from core.tokenizer.fast.compiled import kernel, load64, prefetch
from core.tokenizer.fast.words import LONG, MEDIUM, SHORT, WORDS, mix, mix_two

MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)
"""The low `size` bytes of a number."""

_U0, _U1, _U8 = np.uint64(0), np.uint64(1), np.uint64(8)
_MULTIPLIER, _SEED = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


@kernel
def _hash(buffer, begin, end):
    """A hash of any bytes, never 0."""
    value, k = _SEED ^ np.uint64(end - begin), begin
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
        row = mix(key) & short_mask
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
        rows[t] = mix_two(keys[t], ~load64(buffer, begin + _U8) & MASKS[min(size - _U8, _U8)]) & medium_mask
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
            row = mix(key) & short_mask
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
            row = mix_two(key, second) & medium_mask
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
