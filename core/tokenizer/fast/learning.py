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
from core.tokenizer.fast.pairs import (
    EMPTY,
    HEAPED,
    INDEXED,
    PAIRS,
    Pairs,
    larger_rows,
    pair_key,
    pair_row,
    push,
    replace_top,
)
from core.tokenizer.fast.stages import HEADER, lay_out, start_stage, word_count

SHRINK = 16
"""The threshold falls by this factor from stage to stage."""
AHEAD = 12
"""Visits between asking for a word and reading it."""

LEFT_COUNT, LEFT_RECORDS, RIGHT_COUNT, RIGHT_RECORDS = 0, 1, 2, 3
"""Columns of `neighbours`; the records' one holds the new pair's number once it has one, -1 if it gets none."""
BOTH = -1
"""The neighbour code of a merged symbol beside another."""

_U32 = np.uint64(32)


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
    with announced("training"):
        return _learn(text, begin, counts, num_merges, on_merge)


def _learn(text, begin, counts, num_merges, on_merge):
    words = lay_out(text, begin, counts)
    room = min(num_merges, len(words))  # no text allows as many merges as it has bytes
    symbols = Symbols(
        text=np.arange(256, dtype=np.uint8),
        begin=np.zeros(257 + room, np.int64),
        merges=np.zeros((room, 2), np.int32),
    )
    symbols.begin[:257] = np.arange(257)
    neighbours = np.zeros((256 + room, 4), np.int64)
    touched = np.zeros(2 * (256 + room) + 1, np.int32)
    made, threshold = 0, 0
    while made < num_merges and threshold != 1:
        pairs, threshold = start_stage(words, symbols.text, symbols.begin, threshold, SHRINK)
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


@kernel
def _grown(array, size):
    grown = np.zeros(max(size, 2 * array.shape[0]), array.dtype)
    grown[: array.shape[0]] = array
    return grown


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
        count = word_count(words, place)
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
            replace_top(heap_counts, heap, entries, keys, count, pair, text, begin)
            continue
        used[HEAPED] = entries - 1
        replace_top(heap_counts, heap, entries - 1, keys, heap_counts[entries - 1], heap[entries - 1], text, begin)
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
            rows = larger_rows(rows)

        # What stood beside the merged symbols: the old pairs fall, the new ones that reach the threshold are followed.
        both_pair = np.int64(-1)
        both_records = num_records
        if both > 0:
            _fall(rows, counts, pair_key(right, left), own, both)
        for i in range(num_touched + 1):
            if i < num_touched:
                neighbour, side = np.int64(touched[i] >> 1), 2 * (touched[i] & 1)
                count, room = neighbours[neighbour, side], neighbours[neighbour, side + 1]
                if side == LEFT_COUNT:
                    key = pair_key(neighbour, merged)
                    _fall(rows, counts, pair_key(neighbour, left), own, count)
                else:
                    key = pair_key(merged, neighbour)
                    _fall(rows, counts, pair_key(right, neighbour), own, count)
                neighbours[neighbour, side], neighbours[neighbour, side + 1] = 0, -1
            else:
                key, count, room = pair_key(merged, merged), both, both_records
            if count < threshold or count == 0:
                continue
            new = used[PAIRS]
            row = pair_row(rows, key)
            rows[row, 0], rows[row, 1] = key, np.uint64(new)
            keys[new], counts[new], starts[new], sizes[new] = key, count, used[INDEXED], 0
            used[PAIRS] += 1
            push(heap_counts, heap, used[HEAPED], keys, count, new, text, begin)
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
        row = pair_row(rows, key)
        if rows[row, 0] != EMPTY:
            counts[np.int64(rows[row, 1])] -= count
