"""The loops that encode text: a block is marked and interned, and merges are applied to each new pre-token once."""

import numpy as np

from core.tokenizer.fast.blocks import DONE, NO_ROOM, NOT_UTF8, POOLED, POSITION, SEGMENT, SIZE, WRITTEN, block_end
from core.tokenizer.fast.boundaries import find_starts
from core.tokenizer.fast.compiled import kernel
from core.tokenizer.fast.interning import intern
from core.tokenizer.fast.merging import LANES, apply_to_long, apply_to_short
from core.tokenizer.fast.words import MEDIUM, SHORT, WORDS, has_room

MOST_WORDS = 1 << 20
"""A thread's table forgets everything when it holds more pre-tokens; what it writes stays the same."""

_U0, _U1, _U20, _U30, _U40, _U60 = (np.uint64(n) for n in (0, 1, 20, 30, 40, 60))
_ID_MASK, _HALF_MASK = np.uint64((1 << 20) - 1), np.uint64((1 << 30) - 1)
_POOLED = np.uint64(15)
"""The four high bits of a value: how many ids (1, 2, 3) it holds, 20 bits each, the first low; `_POOLED`: 30 bits each
of how many and where in the pool; 0: the number of a pre-token that is new in this block."""


@kernel
def _pack(merges, table, first, packed, pool, pooled, scratch):
    """Encode the words from `first` on and make the packed ids their values; returns how much the pool holds."""
    byte_ids, byte_ranks, pairs, shifts, merged_ids = merges
    ids, ranks, following, previous = scratch
    used, short, medium, long, text, word_begin, places = table
    for number in range(first, used[WORDS]):
        begin, end = word_begin[number], word_begin[number + 1]
        if end - begin <= LANES:
            size = apply_to_short(
                byte_ids,
                byte_ranks,
                pairs,
                shifts,
                merged_ids,
                text,
                np.uint64(begin),
                np.uint64(end - begin),
                ids,
                ranks,
                following,
                previous,
            )
        else:
            size = apply_to_long(byte_ids, pairs, shifts, merged_ids, text, begin, end, ids, ranks)
        if size <= 3 and ids[0] <= _ID_MASK and ids[size - 1] <= _ID_MASK and ids[size >> 1] <= _ID_MASK:
            value = np.uint64(size) << _U60
            for i in range(size):
                value |= np.uint64(ids[i]) << np.uint64(20 * i)
        else:
            value = (_POOLED << _U60) | (np.uint64(size) << _U30) | np.uint64(pooled)
            for i in range(size):
                pool[pooled + i] = ids[i]
            pooled += size
        packed[number - first] = value
        kind, row = places[number] & 3, places[number] >> 2
        if kind == SHORT:
            short[row, 1] = value
        elif kind == MEDIUM:
            medium[row, 2] = value
        else:
            long[row, 2] = value
    return pooled


@kernel
def _write(values, found, first, packed, pool, out, written):
    """Write the ids of a block's pre-tokens; three are written always, and the next ones over what was too much."""
    place = np.uint64(written)
    for t in range(found):
        value = values[t]
        if value >> _U60 == _U0:
            value = packed[np.int64(value) - first]
        size = value >> _U60
        if size != _POOLED:
            out[place] = value & _ID_MASK
            out[place + _U1] = (value >> _U20) & _ID_MASK
            out[place + np.uint64(2)] = (value >> _U40) & _ID_MASK
            place += size
        else:
            size, begin = (value >> _U30) & _HALF_MASK, value & _HALF_MASK
            for i in range(size):
                out[place + np.uint64(i)] = pool[begin + np.uint64(i)]
            place += size
    return np.int64(place)


@kernel
def encode_segments(
    buffer, segments, pattern, class_of, merges, starts, scratch, values, table, packed, pool, merging, out, ends, state
):
    """Write the ids of segments of a padded buffer, going on from where `state` stands.

    Returns:
        `DONE`; `NO_ROOM` if the table or the pool must grow first; `NOT_UTF8`, with the place in the state.
    """
    while state[SEGMENT] < segments.shape[0]:
        end = segments[state[SEGMENT], 1]
        while state[POSITION] < end:
            begin = state[POSITION]
            stop = block_end(buffer, begin, end, class_of)
            size = stop - begin
            if not has_room(table, size) or state[POOLED] + size > pool.shape[0] or table.used[WORDS] >= MOST_WORDS:
                state[SIZE] = size
                return NO_ROOM
            found = find_starts(buffer, begin, size, pattern, class_of, starts)
            if found < 0:
                state[POSITION] = begin - 1 - found
                return NOT_UTF8
            first = table.used[WORDS]
            intern(table, scratch, buffer, starts.positions, found, values)
            state[POOLED] = _pack(merges, table, first, packed, pool, state[POOLED], merging)
            state[WRITTEN] = _write(values, found, first, packed, pool, out, state[WRITTEN])
            state[POSITION] = stop
        special = segments[state[SEGMENT], 2]
        if special >= 0:
            out[state[WRITTEN]] = special
            state[WRITTEN] += 1
        ends[state[SEGMENT]] = state[WRITTEN]
        state[SEGMENT] += 1
        if state[SEGMENT] < segments.shape[0]:
            state[POSITION] = segments[state[SEGMENT], 0]
    return DONE
