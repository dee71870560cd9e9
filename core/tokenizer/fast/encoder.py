"""One thread's encoder: the memory that the encoding loops work in, which grows as it must."""

import numpy as np

from core.tokenizer.fast.blocks import DONE, NOT_UTF8, POOLED, POSITION, SEGMENT, SIZE, WRITTEN
from core.tokenizer.fast.boundaries import PADDING, PATTERN_NUMBERS, StartScratch
from core.tokenizer.fast.classes import character_classes
from core.tokenizer.fast.encoding import MOST_WORDS, encode_segments
from core.tokenizer.fast.merging import Merges, MergeScratch
from core.tokenizer.fast.short import bind, encode_bound
from core.tokenizer.fast.words import WORDS, InternScratch, clear, ensure_room, most_new_words, new_table

SHORT_TEXT = 1 << 12
"""Bytes that `Encoder.encode_short` takes."""

_NOTHING_BEHIND = bytes(PADDING)


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
        self._state = np.zeros(5, np.int64)
        self._out = np.empty(0, dtype)
        self._room = 0
        self._short_buffer = np.zeros(SHORT_TEXT + 2 * PADDING, np.uint8)
        self._short_bytes = memoryview(self._short_buffer)
        self._short_segments = np.zeros((1, 3), np.int64)
        self._bound = None
        self._make_scratch(len(self._short_buffer), 1)

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
        self._make_scratch(len(buffer), len(segments))
        ends = np.zeros(len(segments), np.int64)
        state = self._state
        state[SEGMENT] = state[WRITTEN] = 0
        state[POSITION] = segments[0, 0] if len(segments) else 0
        while True:
            code = encode_segments(buffer, segments, *self._arrays(), ends, state)
            if code == DONE:
                return self._out[: state[WRITTEN]], ends
            if code == NOT_UTF8:
                raise NotUtf8(int(state[POSITION]))
            self._make_room(int(state[SIZE]))

    def encode_short(self, data: bytes) -> list[int]:
        """The ids of up to `SHORT_TEXT` bytes of UTF-8 without special tokens, with little around the work."""
        size = len(data)
        self._short_bytes[PADDING : 2 * PADDING + size] = data + _NOTHING_BEHIND
        while True:
            if self._bound is None:
                ends = np.zeros(1, np.int64)
                self._bound = bind(self._short_buffer, self._short_segments, *self._arrays(), ends, self._state)
            written = encode_bound(self._bound, size)
            if written >= 0:
                return self._out[:written].tolist()
            self._make_room(size)

    def _arrays(self) -> tuple:
        """What `encode_segments` takes between the segments and the state."""
        return (
            self._pattern,
            character_classes(),
            self._merges,
            *self._scratch,
            self._table,
            self._packed,
            self._pool,
            self._merging,
            self._out,
        )

    def _make_scratch(self, num_bytes: int, num_segments: int) -> None:
        if self._room < num_bytes:
            self._room = num_bytes
            self._scratch = StartScratch.of(num_bytes), InternScratch.of(num_bytes), np.empty(num_bytes, np.uint64)
            self._packed = np.empty(most_new_words(num_bytes), np.uint64)
            self._merging = MergeScratch.of(num_bytes)
            self._bound = None
        if len(self._out) < self._room + num_segments:
            self._out = np.empty(self._room + num_segments, self._out.dtype)
            self._bound = None

    def _make_room(self, num_bytes: int) -> None:
        if self._table.used[WORDS] >= MOST_WORDS:
            clear(self._table)
            self._state[POOLED] = 0
        self._table = ensure_room(self._table, num_bytes)
        pooled = int(self._state[POOLED])
        if pooled + num_bytes > len(self._pool):
            grown = np.zeros(max(pooled + num_bytes, 2 * len(self._pool)), np.int32)
            grown[:pooled] = self._pool[:pooled]
            self._pool = grown
        self._bound = None


class NotUtf8(Exception):
    """Bytes that are not UTF-8; `place` is the first of them."""

    def __init__(self, place: int) -> None:
        super().__init__(f"not UTF-8 at byte {place}")
        self.place = place
