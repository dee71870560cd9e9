"""Learning merges from counted pre-tokens: the reference's rule, on arrays.

Two facts keep the work small. After the merge that creates a pair its count only falls, so what lies in the heap is an
upper bound that is put right when it surfaces; and for the same reason a pair below a threshold when it is created need
not be followed until the threshold falls, when everything is counted once anew (a *stage*, four or five in all).

A word is one run of int32: `[symbols, room, count low, count high, symbol, symbol ...]`, so that a visit is one place
in memory, asked for a few visits ahead.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from core.tokenizer.fast.compiled import announced, kernel, prefetch

SHRINK = 16
"""The threshold falls by this factor from stage to stage."""
HEADER = 4
"""Numbers of a word before its symbols."""
WAITING = 32
"""Pairs whose rows are on their way from memory."""
AHEAD = 12
"""Visits between asking for a word and reading it."""

PAIRS, INDEXED, HEAPED = 0, 1, 2
"""Places in `used`."""
LEFT_COUNT, LEFT_RECORDS, RIGHT_COUNT, RIGHT_RECORDS = 0, 1, 2, 3
"""Columns of `neighbours`; the records' one holds the new pair's number once it has one, -1 if it gets none."""
BOTH = -1
"""The neighbour code of a merged symbol beside another."""

_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
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


class Symbols(NamedTuple):
    """What has been learnt."""

    text: np.ndarray
    """uint8: the symbols' bytes, one after another."""
    begin: np.ndarray
    """int64."""
    merges: np.ndarray
    """int32 (left, right), by merge; symbol 256 + i is merge i."""


def learn_merges(
    text: np.ndarray,
    begin: np.ndarray,
    counts: np.ndarray,
    num_merges: int,
    on_merge: Callable[[int, int], None] | None = None,
) -> list[tuple[bytes, bytes]]:
    """The merges that byte-pair encoding makes on counted pre-tokens, in order.

    Args:
        text: The pre-tokens' bytes, one after another.
        begin: int64, where each begins, and the last ends.
        counts: int64, how often each occurs.
        num_merges: At most so many.
        on_merge: Called with (merges made, merges wanted), now and then.
    """
    with announced("learning"):
        return _learn(text, begin, counts, num_merges, on_merge)


def _learn(text, begin, counts, num_merges, on_merge):
    words = _lay_out(text, begin, counts)
    symbols = Symbols(
        text=np.arange(256, dtype=np.uint8),
        begin=np.zeros(257 + num_merges, np.int64),
        merges=np.zeros((num_merges, 2), np.int32),
    )
    symbols.begin[:257] = np.arange(257)
    neighbours = np.zeros((256 + num_merges, 4), np.int64)
    touched = np.zeros(2 * (256 + num_merges) + 1, np.int32)
    made, threshold = 0, 0
    while made < num_merges and threshold != 1:
        pairs, threshold = _start_stage(words, symbols.text, symbols.begin, threshold, SHRINK)
        if pairs.used[PAIRS] == 0:
            break
        while made < num_merges and pairs.used[HEAPED] > 0:
            stop = min(made + 512, num_merges)
            pairs, symbols_text, made = _merge_on(words, pairs, *symbols, neighbours, touched, made, stop, threshold)
            symbols = symbols._replace(text=symbols_text)
            if on_merge is not None:
                on_merge(made, num_merges)
    joined, places = symbols.text.tobytes(), symbols.begin.tolist()
    tokens = [joined[places[i] : places[i + 1]] for i in range(256 + made)]
    return [(tokens[left], tokens[right]) for left, right in symbols.merges[:made].tolist()]


def _lay_out(text: np.ndarray, begin: np.ndarray, counts: np.ndarray) -> np.ndarray:
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
def _word_count(words, place):
    return (np.int64(words[place + 3]) << 32) | np.int64(np.uint32(words[place + 2]))


@kernel
def _grown(array, size):
    grown = np.zeros(max(size, 2 * array.shape[0]), array.dtype)
    grown[: array.shape[0]] = array
    return grown


@kernel
def _key(left, right):
    return (np.uint64(left) << _U32) | np.uint64(right)


@kernel
def _home(rows, key):
    """The row where the search for a pair begins."""
    mixed = key * _MULTIPLIER
    return (mixed ^ (mixed >> _U32)) & np.uint64(rows.shape[0] - 1)


@kernel
def _row(rows, key):
    """The row of a pair, or the empty one where it would go."""
    mask = np.uint64(rows.shape[0] - 1)
    row = _home(rows, key)
    while rows[row, 0] != key and rows[row, 0] != _EMPTY:
        row = (row + _U1) & mask
    return row


@kernel
def _empty_rows(size):
    rows = np.empty((size, 2), np.uint64)
    for i in range(size):
        rows[i, 0] = _EMPTY
    return rows


@kernel
def _larger_rows(rows):
    grown = _empty_rows(2 * rows.shape[0])
    for i in range(rows.shape[0]):
        if rows[i, 0] != _EMPTY:
            row = _row(grown, rows[i, 0])
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
def _push(heap_counts, heap, entries, keys, count, pair, text, begin):
    place = entries
    while place > 0:
        parent = (place - 1) >> 1
        if not _comes_before(count, keys[pair], heap_counts[parent], keys[heap[parent]], text, begin):
            break
        heap_counts[place], heap[place] = heap_counts[parent], heap[parent]
        place = parent
    heap_counts[place], heap[place] = count, pair


@kernel
def _replace_top(heap_counts, heap, entries, keys, count, pair, text, begin):
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


@kernel
def _tally(rows, key, count, place):
    """Add a word's pair to the rows of `_count_pairs`; returns whether it is new."""
    row = _row(rows, key)
    new = rows[row, 0] == _EMPTY
    if new:
        rows[row, 0], rows[row, 1], rows[row, 2], rows[row, 3] = key, np.uint64(0), np.uint64(0), _EMPTY
    rows[row, 1] += count
    rows[row, 2] += np.uint64(rows[row, 3] != place)
    rows[row, 3] = place
    return new


@kernel
def _larger_tally(rows):
    grown = np.empty((4 * rows.shape[0], 4), np.uint64)
    grown[:, 0] = _EMPTY
    for old in range(rows.shape[0]):
        if rows[old, 0] != _EMPTY:
            grown[_row(grown, rows[old, 0])] = rows[old]
    return grown


@kernel
def _count_pairs(words):
    """Every pair: rows (pair, count, words that hold it, the last of them).

    Pairs wait in a ring of `WAITING` until their rows, asked for when they came, have arrived from memory.
    """
    rows, found, place, seen = np.empty((1 << 14, 4), np.uint64), 0, 0, np.uint64(0)
    rows[:, 0] = _EMPTY
    ring = np.empty((WAITING, 3), np.uint64)
    while place < words.shape[0]:
        count, first = np.uint64(_word_count(words, place)), place + HEADER
        for i in range(first, first + words[place] - 1):
            key, slot = _key(words[i], words[i + 1]), seen % np.uint64(WAITING)
            if seen >= np.uint64(WAITING):
                found += np.int64(_tally(rows, ring[slot, 0], ring[slot, 1], ring[slot, 2]))
                if 2 * (found + WAITING) > rows.shape[0]:
                    rows = _larger_tally(rows)
            ring[slot, 0], ring[slot, 1], ring[slot, 2] = key, count, np.uint64(place)
            prefetch(rows, _home(rows, key))
            seen += _U1
        place = first + words[place + 1]
    for i in range(min(seen, np.uint64(WAITING))):
        slot = (seen - min(seen, np.uint64(WAITING)) + i) % np.uint64(WAITING)
        _tally(rows, ring[slot, 0], ring[slot, 1], ring[slot, 2])
    return rows


@kernel
def _start_stage(words, text, begin, threshold, shrink):
    """Count every pair and follow those that reach the next threshold, which is returned too."""
    counted = _count_pairs(words)
    most = np.uint64(0)
    for row in range(counted.shape[0]):
        if counted[row, 0] != _EMPTY and counted[row, 1] > most:
            most = counted[row, 1]
    threshold = max(min(threshold if threshold > 0 else np.int64(most), np.int64(most)) // shrink, 1)
    followed = entries = 0
    for row in range(counted.shape[0]):
        if counted[row, 0] != _EMPTY and np.int64(counted[row, 1]) >= threshold:
            followed += 1
            entries += np.int64(counted[row, 2])
    used = np.zeros(3, np.int64)
    room = 1 << 12
    while room < 4 * followed:
        room *= 2
    rows = _empty_rows(room)
    keys, counts = np.empty(room, np.uint64), np.zeros(room, np.int64)
    starts, sizes = np.zeros(room, np.int64), np.zeros(room, np.int64)
    index = np.empty(2 * entries + (1 << 14), np.int32)
    heap_counts, heap = np.empty(2 * room, np.int64), np.empty(2 * room, np.int32)
    for old in range(counted.shape[0]):
        if counted[old, 0] != _EMPTY and np.int64(counted[old, 1]) >= threshold:
            pair = used[PAIRS]
            row = _row(rows, counted[old, 0])
            rows[row, 0], rows[row, 1] = counted[old, 0], np.uint64(pair)
            keys[pair], counts[pair], starts[pair] = counted[old, 0], np.int64(counted[old, 1]), used[INDEXED]
            _push(heap_counts, heap, pair, keys, counts[pair], pair, text, begin)
            used[PAIRS] += 1
            used[INDEXED] += np.int64(counted[old, 2])
    used[HEAPED] = used[PAIRS]
    place = 0
    while place < words.shape[0]:
        first = place + HEADER
        following = first + words[place + 1]
        if following < words.shape[0]:
            for i in range(following + HEADER, following + HEADER + words[following] - 1):
                prefetch(rows, _home(rows, _key(words[i], words[i + 1])))
        for i in range(first, first + words[place] - 1):
            row = _row(rows, _key(words[i], words[i + 1]))
            if rows[row, 0] != _EMPTY:
                pair = np.int64(rows[row, 1])
                entry = starts[pair] + sizes[pair]
                if sizes[pair] == 0 or index[entry - 1] != place:
                    index[entry] = place
                    sizes[pair] += 1
        place = following
    return Pairs(used, rows, keys, counts, starts, sizes, index, heap_counts, heap), threshold


@kernel
def _merge_in_words(words, index, first, last, left, right, merged, neighbours, touched, records):
    """Make one merge in the words of a list.

    Adds up by neighbour, in `neighbours`, what the new pairs will count, and lists in `records` which words hold which.

    Returns:
        How many neighbours it touched, how many records it made, the records (maybe a larger array), how often the
        merged symbol now stands beside another.
    """
    num_touched = num_records = 0
    both = np.int64(0)
    for entry in range(first, min(first + AHEAD, last)):
        prefetch(words, np.uint64(index[entry]))
    for entry in range(first, last):
        if entry + AHEAD < last:
            prefetch(words, np.uint64(index[entry + AHEAD]))
        place = np.int64(index[entry])
        begin = place + HEADER
        end = begin + words[place]
        read = begin
        while read < end - 1 and (words[read] != left or words[read + 1] != right):
            read += 1
        if read >= end - 1:
            continue
        count = _word_count(words, place)
        if num_records + 2 * (end - begin) > records.shape[0]:
            records = _grown_rows(records, num_records + 2 * (end - begin))
        write, after_merged = read, False
        while read < end:
            if read + 1 < end and words[read] == left and words[read + 1] == right:
                if after_merged:
                    both += count
                    records[num_records, 0], records[num_records, 1] = BOTH, place
                    num_records += 1
                elif write > begin:
                    neighbour = words[write - 1]
                    if neighbours[neighbour, LEFT_RECORDS] == 0:
                        touched[num_touched] = 2 * neighbour
                        num_touched += 1
                    neighbours[neighbour, LEFT_COUNT] += count
                    neighbours[neighbour, LEFT_RECORDS] += 1
                    records[num_records, 0], records[num_records, 1] = 2 * neighbour, place
                    num_records += 1
                words[write] = merged
                write += 1
                read += 2
                after_merged = True
                if read < end and not (read + 1 < end and words[read] == left and words[read + 1] == right):
                    neighbour = words[read]
                    if neighbours[neighbour, RIGHT_RECORDS] == 0:
                        touched[num_touched] = 2 * neighbour + 1
                        num_touched += 1
                    neighbours[neighbour, RIGHT_COUNT] += count
                    neighbours[neighbour, RIGHT_RECORDS] += 1
                    records[num_records, 0], records[num_records, 1] = 2 * neighbour + 1, place
                    num_records += 1
            else:
                words[write] = words[read]
                write += 1
                read += 1
                after_merged = False
        words[place] = write - begin
    return num_touched, num_records, records, both


@kernel
def _grown_rows(records, size):
    grown = np.empty((max(size, 2 * records.shape[0]), 2), np.int32)
    grown[: records.shape[0]] = records
    return grown


@kernel
def _merge_on(words, pairs, text, begin, merges, neighbours, touched, made, stop, threshold):
    """Make merges until there are `stop`, or no followed pair is left; returns pairs, symbols' text, merges made."""
    used, rows, keys, counts, starts, sizes, index, heap_counts, heap = pairs
    records = np.empty((1 << 14, 2), np.int32)
    while made < stop and used[HEAPED] > 0:
        pair, entries = np.int64(heap[0]), used[HEAPED]
        count = counts[pair]
        if count != heap_counts[0] and count >= threshold:
            _replace_top(heap_counts, heap, entries, keys, count, pair, text, begin)
            continue
        used[HEAPED] = entries - 1
        _replace_top(heap_counts, heap, entries - 1, keys, heap_counts[entries - 1], heap[entries - 1], text, begin)
        if count < threshold:
            continue
        left, right = np.int64(keys[pair] >> _U32), np.int64(keys[pair] & np.uint64(0xFFFFFFFF))
        merged = 256 + made
        merges[made, 0], merges[made, 1] = left, right
        made += 1
        left_size, size = begin[left + 1] - begin[left], begin[left + 1] - begin[left] + begin[right + 1] - begin[right]
        if begin[merged] + size > text.shape[0]:
            text = _grown(text, begin[merged] + size)
        for k in range(left_size):
            text[begin[merged] + k] = text[begin[left] + k]
        for k in range(size - left_size):
            text[begin[merged] + left_size + k] = text[begin[right] + k]
        begin[merged + 1] = begin[merged] + size

        num_touched, num_records, records, both = _merge_in_words(
            words, index, starts[pair], starts[pair] + sizes[pair], left, right, merged, neighbours, touched, records
        )
        own = keys[pair]
        counts[pair] = sizes[pair] = 0
        if used[PAIRS] + num_touched + 1 > keys.shape[0]:
            room = used[PAIRS] + num_touched + 1
            keys, counts = _grown(keys, room), _grown(counts, room)
            starts, sizes = _grown(starts, room), _grown(sizes, room)
        if used[HEAPED] + num_touched + 1 > heap.shape[0]:
            room = used[HEAPED] + num_touched + 1
            heap_counts, heap = _grown(heap_counts, room), _grown(heap, room)
        if used[INDEXED] + num_records > index.shape[0]:
            index = _grown(index, used[INDEXED] + num_records)
        while 2 * (used[PAIRS] + num_touched + 1) > rows.shape[0]:
            rows = _larger_rows(rows)

        # What stood beside the merged symbols: the old pairs fall, the new ones that reach the threshold are followed.
        both_pair = np.int64(-1)
        both_records = num_records
        if both > 0:
            _fall(rows, counts, _key(right, left), own, both)
        for i in range(num_touched + 1):
            if i < num_touched:
                neighbour, side = np.int64(touched[i] >> 1), 2 * (touched[i] & 1)
                count, room = neighbours[neighbour, side], neighbours[neighbour, side + 1]
                if side == LEFT_COUNT:
                    key = _key(neighbour, merged)
                    _fall(rows, counts, _key(neighbour, left), own, count)
                else:
                    key = _key(merged, neighbour)
                    _fall(rows, counts, _key(right, neighbour), own, count)
                neighbours[neighbour, side], neighbours[neighbour, side + 1] = 0, -1
            else:
                key, count, room = _key(merged, merged), both, both_records
            if count < threshold or count == 0:
                continue
            new = used[PAIRS]
            row = _row(rows, key)
            rows[row, 0], rows[row, 1] = key, np.uint64(new)
            keys[new], counts[new], starts[new], sizes[new] = key, count, used[INDEXED], 0
            used[PAIRS] += 1
            _push(heap_counts, heap, used[HEAPED], keys, count, new, text, begin)
            used[HEAPED] += 1
            if i < num_touched:
                neighbours[neighbour, side + 1] = new
                used[INDEXED] += room
            else:
                both_pair = new
        for i in range(num_records):
            code, place = np.int64(records[i, 0]), records[i, 1]
            new = both_pair if code == BOTH else neighbours[code >> 1, 2 * (code & 1) + 1]
            if new >= 0:
                entry = starts[new] + sizes[new]
                if sizes[new] == 0 or index[entry - 1] != place:
                    index[entry] = place
                    sizes[new] += 1
        if both_pair >= 0:
            used[INDEXED] += sizes[both_pair]
        for i in range(num_touched):
            neighbours[touched[i] >> 1, 2 * (touched[i] & 1) + 1] = 0
    return Pairs(used, rows, keys, counts, starts, sizes, index, heap_counts, heap), text, made


@kernel
def _fall(rows, counts, key, own, count):
    """Lower a followed pair's count; the merged pair's own is done with."""
    if key != own:
        row = _row(rows, key)
        if rows[row, 0] != _EMPTY:
            counts[np.int64(rows[row, 1])] -= count
