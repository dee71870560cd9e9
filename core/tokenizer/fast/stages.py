"""A stage of training: every pair of all words is counted anew, and those that reach a threshold are followed."""

import numpy as np

from core.tokenizer.fast.compiled import kernel, prefetch
from core.tokenizer.fast.pairs import (
    EMPTY,
    HEAPED,
    INDEXED,
    PAIRS,
    Pairs,
    empty_rows,
    home_row,
    pair_key,
    pair_row,
    push,
)

HEADER = 4
"""Numbers of a word before its symbols."""
WAITING = 32
"""Pairs whose rows are on their way from memory."""

_U1 = np.uint64(1)


def lay_out(text: np.ndarray, begin: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The words of at least two bytes that occur, as `words`."""
    sizes = np.diff(begin)
    kept = np.flatnonzero((sizes > 1) & (counts > 0))
    total = int(sizes[kept].sum()) + HEADER * len(kept)
    if total >= 1 << 31:
        raise ValueError(f"{len(kept):,} distinct pre-tokens: more than training holds (8 GB of them)")
    words = np.empty(total, np.int32)
    _fill_words(words, text, begin, counts, kept)
    return words


@kernel
def _fill_words(words, text, begin, counts, kept):
    place = 0
    for word in kept:
        size = begin[word + 1] - begin[word]
        words[place] = size
        words[place + 1] = size
        words[place + 2] = np.int32(np.uint32(np.uint64(counts[word]) & np.uint64(0xFFFFFFFF)))
        words[place + 3] = np.int32(counts[word] >> 32)
        for k in range(size):
            words[place + HEADER + k] = text[begin[word] + k]
        place += HEADER + size


@kernel
def word_count(words, place):
    """How often a word occurs."""
    return (np.int64(words[place + 3]) << 32) | np.int64(np.uint32(words[place + 2]))


@kernel
def _tally(rows, key, count, place):
    """Add a word's pair to the rows of `_count_pairs`; returns whether it is new."""
    row = pair_row(rows, key)
    new = rows[row, 0] == EMPTY
    if new:
        rows[row, 0], rows[row, 1], rows[row, 2], rows[row, 3] = key, np.uint64(0), np.uint64(0), EMPTY
    rows[row, 1] += count
    rows[row, 2] += np.uint64(rows[row, 3] != place)
    rows[row, 3] = place
    return new


@kernel
def _larger_tally(rows):
    grown = np.empty((4 * rows.shape[0], 4), np.uint64)
    grown[:, 0] = EMPTY
    for old in range(rows.shape[0]):
        if rows[old, 0] != EMPTY:
            grown[pair_row(grown, rows[old, 0])] = rows[old]
    return grown


@kernel
def _count_pairs(words):
    """Every pair: rows (pair, count, words that hold it, the last of them).

    Pairs wait in a ring of `WAITING` until their rows, asked for when they came, have arrived from memory.
    """
    rows, found, place, seen = np.empty((1 << 14, 4), np.uint64), 0, 0, np.uint64(0)
    rows[:, 0] = EMPTY
    ring = np.empty((WAITING, 3), np.uint64)
    while place < words.shape[0]:
        count, first = np.uint64(word_count(words, place)), place + HEADER
        for i in range(first, first + words[place] - 1):
            key, slot = pair_key(words[i], words[i + 1]), seen % np.uint64(WAITING)
            if seen >= np.uint64(WAITING):
                found += np.int64(_tally(rows, ring[slot, 0], ring[slot, 1], ring[slot, 2]))
                if 2 * (found + WAITING) > rows.shape[0]:
                    rows = _larger_tally(rows)
            ring[slot, 0], ring[slot, 1], ring[slot, 2] = key, count, np.uint64(place)
            prefetch(rows, home_row(rows, key))
            seen += _U1
        place = first + words[place + 1]
    for i in range(min(seen, np.uint64(WAITING))):
        slot = (seen - min(seen, np.uint64(WAITING)) + i) % np.uint64(WAITING)
        _tally(rows, ring[slot, 0], ring[slot, 1], ring[slot, 2])
    return rows


@kernel
def start_stage(words, text, begin, threshold, shrink):
    """Count every pair and follow those that reach the next threshold, which is returned too."""
    counted = _count_pairs(words)
    most = np.uint64(0)
    for row in range(counted.shape[0]):
        if counted[row, 0] != EMPTY and counted[row, 1] > most:
            most = counted[row, 1]
    threshold = max(min(threshold if threshold > 0 else np.int64(most), np.int64(most)) // shrink, 1)
    followed = entries = 0
    for row in range(counted.shape[0]):
        if counted[row, 0] != EMPTY and np.int64(counted[row, 1]) >= threshold:
            followed += 1
            entries += np.int64(counted[row, 2])
    used = np.zeros(3, np.int64)
    room = 1 << 12
    while room < 4 * followed:
        room *= 2
    rows = empty_rows(room)
    keys, counts = np.empty(room, np.uint64), np.zeros(room, np.int64)
    starts, sizes = np.zeros(room, np.int64), np.zeros(room, np.int64)
    index = np.empty(2 * entries + (1 << 14), np.int32)
    heap_counts, heap = np.empty(2 * room, np.int64), np.empty(2 * room, np.int32)
    for old in range(counted.shape[0]):
        if counted[old, 0] != EMPTY and np.int64(counted[old, 1]) >= threshold:
            pair = used[PAIRS]
            row = pair_row(rows, counted[old, 0])
            rows[row, 0], rows[row, 1] = counted[old, 0], np.uint64(pair)
            keys[pair], counts[pair], starts[pair] = counted[old, 0], np.int64(counted[old, 1]), used[INDEXED]
            push(heap_counts, heap, pair, keys, counts[pair], pair, text, begin)
            used[PAIRS] += 1
            used[INDEXED] += np.int64(counted[old, 2])
    used[HEAPED] = used[PAIRS]
    place = 0
    while place < words.shape[0]:
        first = place + HEADER
        following = first + words[place + 1]
        if following < words.shape[0]:
            for i in range(following + HEADER, following + HEADER + words[following] - 1):
                prefetch(rows, home_row(rows, pair_key(words[i], words[i + 1])))
        for i in range(first, first + words[place] - 1):
            row = pair_row(rows, pair_key(words[i], words[i + 1]))
            if rows[row, 0] != EMPTY:
                pair = np.int64(rows[row, 1])
                entry = starts[pair] + sizes[pair]
                if sizes[pair] == 0 or index[entry - 1] != place:
                    index[entry] = place
                    sizes[pair] += 1
        place = following
    return Pairs(used, rows, keys, counts, starts, sizes, index, heap_counts, heap), threshold
