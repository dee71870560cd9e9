"""The pairs that training follows: found by their symbols, and in a heap by how often they occur."""

from typing import NamedTuple

import numpy as np

from core.tokenizer.fast.compiled import kernel

PAIRS, INDEXED, HEAPED = 0, 1, 2
"""Places in `used`."""

EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_U1, _U32 = np.uint64(1), np.uint64(32)


class Pairs(NamedTuple):
    """The pairs that are followed, by number."""

    used: np.ndarray
    """int64: pairs, entries of `index`, entries of the heap."""
    rows: np.ndarray
    """uint64 (pair, number), open addressing."""
    keys: np.ndarray
    """uint64: left symbol << 32 | right symbol."""
    counts: np.ndarray
    """int64: exact."""
    begin: np.ndarray
    """int64: where its list of words begins in `index`."""
    size: np.ndarray
    """int64: and how long it is."""
    index: np.ndarray
    """int32: places in `words`; a word may have lost the pair since."""
    heap_counts: np.ndarray
    """int64: the pair's count when it was put there."""
    heap: np.ndarray
    """int32: numbers."""


@kernel
def pair_key(left, right):
    """A pair of symbols as one number."""
    return (np.uint64(left) << _U32) | np.uint64(right)


@kernel
def home_row(rows, key):
    """The row where the search for a pair begins."""
    mixed = key * _MULTIPLIER
    return (mixed ^ (mixed >> _U32)) & np.uint64(rows.shape[0] - 1)


@kernel
def pair_row(rows, key):
    """The row of a pair, or the empty one where it would go."""
    mask = np.uint64(rows.shape[0] - 1)
    row = home_row(rows, key)
    while rows[row, 0] != key and rows[row, 0] != EMPTY:
        row = (row + _U1) & mask
    return row


@kernel
def empty_rows(size):
    """Rows without pairs."""
    rows = np.empty((size, 2), np.uint64)
    for i in range(size):
        rows[i, 0] = EMPTY
    return rows


@kernel
def larger_rows(rows):
    """The same pairs in twice as many rows."""
    grown = empty_rows(2 * rows.shape[0])
    for i in range(rows.shape[0]):
        if rows[i, 0] != EMPTY:
            row = pair_row(grown, rows[i, 0])
            grown[row, 0], grown[row, 1] = rows[i, 0], rows[i, 1]
    return grown


@kernel
def _compare(first, second, text, begin):
    """The sign of the comparison of two symbols' bytes."""
    if first == second:
        return 0
    i, j = begin[first], begin[second]
    while i < begin[first + 1] and j < begin[second + 1]:
        if text[i] != text[j]:
            return -1 if text[i] < text[j] else 1
        i, j = i + 1, j + 1
    return (begin[first + 1] - i) - (begin[second + 1] - j)


@kernel
def _comes_before(count, key, other_count, other_key, text, begin):
    """Whether a pair is merged before another: the higher count, then the greater left bytes, then the right ones."""
    if count != other_count:
        return count > other_count
    sign = _compare(np.int64(key >> _U32), np.int64(other_key >> _U32), text, begin)
    if sign == 0:
        sign = _compare(np.int64(key & np.uint64(0xFFFFFFFF)), np.int64(other_key & np.uint64(0xFFFFFFFF)), text, begin)
    return sign > 0


@kernel
def push(heap_counts, heap, entries, keys, count, pair, text, begin):
    """Put a pair into a heap that has room."""
    place = entries
    while place > 0:
        parent = (place - 1) >> 1
        if not _comes_before(count, keys[pair], heap_counts[parent], keys[heap[parent]], text, begin):
            break
        heap_counts[place], heap[place] = heap_counts[parent], heap[parent]
        place = parent
    heap_counts[place], heap[place] = count, pair


@kernel
def replace_top(heap_counts, heap, entries, keys, count, pair, text, begin):
    """Put another entry in the place of the first and let it sink."""
    place = 0
    while 2 * place + 1 < entries:
        child = 2 * place + 1
        if child + 1 < entries and _comes_before(
            heap_counts[child + 1], keys[heap[child + 1]], heap_counts[child], keys[heap[child]], text, begin
        ):
            child += 1
        if _comes_before(count, keys[pair], heap_counts[child], keys[heap[child]], text, begin):
            break
        heap_counts[place], heap[place] = heap_counts[child], heap[child]
        place = child
    heap_counts[place], heap[place] = count, pair
