"""Counting pre-tokens: text is marked, interned and tallied, a block at a time."""

import numpy as np

from core.tokenizer.fast.blocks import DONE, NO_ROOM, NOT_UTF8, POSITION, SEGMENT, SIZE, block_end
from core.tokenizer.fast.boundaries import PATTERN_NUMBERS, StartScratch, find_starts
from core.tokenizer.fast.classes import character_classes
from core.tokenizer.fast.compiled import kernel
from core.tokenizer.fast.interning import add_words, intern
from core.tokenizer.fast.words import WORDS, InternScratch, ensure_room, has_room, new_table


@kernel
def _count_segments(buffer, segments, pattern, class_of, starts, scratch, values, table, counts, state):
    while state[SEGMENT] < segments.shape[0]:
        end = segments[state[SEGMENT], 1]
        while state[POSITION] < end:
            begin = state[POSITION]
            stop = block_end(buffer, begin, end, class_of)
            if not has_room(table, stop - begin):
                state[SIZE] = stop - begin
                return NO_ROOM
            found = find_starts(buffer, begin, stop - begin, pattern, class_of, starts)
            if found < 0:
                state[POSITION] = begin - 1 - found
                return NOT_UTF8
            intern(table, scratch, buffer, starts.positions, found, values)
            for t in range(found):
                counts[values[t]] += 1
            state[POSITION] = stop
        state[SEGMENT] += 1
        if state[SEGMENT] < segments.shape[0]:
            state[POSITION] = segments[state[SEGMENT], 0]
    return DONE


class Counter:
    """Pre-token counts of one thread.

    Args:
        pattern: A name in `PATTERNS`.
    """

    def __init__(self, pattern: str = "gpt2") -> None:
        self._pattern = PATTERN_NUMBERS[pattern]
        self._table = new_table()
        self._counts = np.zeros(len(self._table.begin), np.int64)
        self._room = 0

    def __len__(self) -> int:
        return int(self._table.used[WORDS])

    def count(self, buffer: np.ndarray, segments: np.ndarray) -> int:
        """Count the pre-tokens of some segments, texts of their own, of a padded buffer.

        Args:
            buffer: uint8, `PADDING` zero bytes at both ends.
            segments: int64 rows (begin, end), none of them empty.

        Returns:
            -1, or the place of the first byte that is not UTF-8.
        """
        if self._room < len(buffer):
            self._room = len(buffer)
            self._scratch = StartScratch.of(self._room), InternScratch.of(self._room), np.empty(self._room, np.uint64)
        state = np.zeros(4, np.int64)
        state[POSITION] = segments[0, 0] if len(segments) else 0
        while True:
            code = _count_segments(
                buffer, segments, self._pattern, character_classes(), *self._scratch, self._table, self._counts, state
            )
            if code == DONE:
                return -1
            if code == NOT_UTF8:
                return int(state[POSITION])
            self._ensure_room(int(state[SIZE]))

    def _ensure_room(self, num_bytes: int) -> None:
        self._table = ensure_room(self._table, num_bytes)
        if len(self._counts) < len(self._table.begin):
            grown = np.zeros(len(self._table.begin), np.int64)
            grown[: len(self._counts)] = self._counts
            self._counts = grown

    def words(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The distinct pre-tokens: their bytes one after another and 16 more, where each begins and ends, counts."""
        words = len(self)
        begin = self._table.begin[: words + 1]
        return self._table.text[: begin[-1] + 16], begin, self._counts[:words]

    def add(self, text: np.ndarray, begin: np.ndarray, counts: np.ndarray) -> None:
        """Add counted pre-tokens, as `words` gives them."""
        done, step = 0, 1 << 16
        while done < len(counts):
            stop = min(done + step, len(counts))
            self._ensure_room(2 * int(begin[stop] - begin[done]) + 2 * step)
            add_words(self._table, self._counts, text, begin, counts, done, stop)
            done = stop

    def clear(self) -> None:
        """Start anew."""
        self._table = new_table()
        self._counts = np.zeros(len(self._table.begin), np.int64)
