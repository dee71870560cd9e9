"""Encoding text: it is marked and interned a block at a time, and merges are applied to each new pre-token once."""

import numpy as np

from core.tokenizer.fast.blocks import DONE, NO_ROOM, NOT_UTF8, POOLED, POSITION, SEGMENT, SIZE, WRITTEN, block_end
from core.tokenizer.fast.boundaries import PATTERN_NUMBERS, StartScratch, find_starts
from core.tokenizer.fast.classes import character_classes
from core.tokenizer.fast.compiled import kernel
from core.tokenizer.fast.interning import intern
from core.tokenizer.fast.merging import LANES, Merges, MergeScratch, apply_to_long, apply_to_short
from core.tokenizer.fast.words import (
    MEDIUM,
    SHORT,
    WORDS,
    InternScratch,
    clear,
    ensure_room,
    has_room,
    most_new_words,
    new_table,
)

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
def _encode_segments(
    buffer, segments, pattern, class_of, merges, starts, scratch, values, table, packed, pool, merging, out, ends, state
):
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


class Encoder:
    """One thread's encoder; it remembers the pre-tokens that it has met.

    Args:
        merges: Of the tokenizer.
        pattern: A name in `PATTERNS`.
        dtype: Of the ids it writes, `uint16` if all of them fit, else `uint32`.
    """

    def __init__(self, merges: Merges, pattern: str = "gpt2", dtype: str = "uint32") -> None:
        self._merges = merges
        self._pattern = PATTERN_NUMBERS[pattern]
        self._table = new_table()
        self._pool = np.zeros(1 << 16, np.int32)
        self._pooled = 0
        self._room = 0
        self._out = np.empty(0, dtype)

    def encode(self, buffer: np.ndarray, segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ids of some segments of a padded buffer, one after another.

        Args:
            buffer: uint8, `PADDING` zero bytes at both ends.
            segments: int64 rows (begin, end, id): texts of their own, maybe empty, each followed by that id if it is
                not negative.

        Returns:
            The ids, a view that the next call writes over; and behind which of them each segment ends.

        Raises:
            NotUtf8: With the place of the first byte that is not UTF-8.
        """
        if self._room < len(buffer):
            self._room = len(buffer)
            self._scratch = StartScratch.of(self._room), InternScratch.of(self._room), np.empty(self._room, np.uint64)
            self._packed = np.empty(most_new_words(self._room), np.uint64)
            self._merging = MergeScratch.of(self._room)
        if len(self._out) < self._room + len(segments):
            self._out = np.empty(self._room + len(segments), self._out.dtype)
        ends = np.zeros(len(segments), np.int64)
        state = np.zeros(5, np.int64)
        state[POSITION] = segments[0, 0] if len(segments) else 0
        state[POOLED] = self._pooled
        while True:
            code = _encode_segments(
                buffer,
                segments,
                self._pattern,
                character_classes(),
                self._merges,
                *self._scratch,
                self._table,
                self._packed,
                self._pool,
                self._merging,
                self._out,
                ends,
                state,
            )
            self._pooled = int(state[POOLED])
            if code == DONE:
                return self._out[: state[WRITTEN]], ends
            if code == NOT_UTF8:
                raise NotUtf8(int(state[POSITION]))
            self._make_room(int(state[SIZE]))
            state[POOLED] = self._pooled

    def _make_room(self, num_bytes: int) -> None:
        if self._table.used[WORDS] >= MOST_WORDS:
            clear(self._table)
            self._pooled = 0
        self._table = ensure_room(self._table, num_bytes)
        if self._pooled + num_bytes > len(self._pool):
            grown = np.zeros(max(self._pooled + num_bytes, 2 * len(self._pool)), np.int32)
            grown[: self._pooled] = self._pool[: self._pooled]
            self._pool = grown


class NotUtf8(Exception):
    """Bytes that are not UTF-8; `place` is the first of them."""

    def __init__(self, place: int) -> None:
        super().__init__(f"not UTF-8 at byte {place}")
        self.place = place
