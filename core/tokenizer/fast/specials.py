"""Finding special tokens in bytes: the leftmost first, of those that start at one place the longest."""

import re
from collections.abc import Sequence

import numpy as np

from core.tokenizer.fast.compiled import kernel, load64

_LOW_BITS, _HIGH_BITS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)


class Specials:
    """The special tokens of a tokenizer.

    Args:
        tokens: Distinct, not empty.
        ids: Of each.
    """

    def __init__(self, tokens: Sequence[str], ids: Sequence[int]) -> None:
        self._tokens = [token.encode() for token in tokens]
        self._ids = list(ids)
        self.longest = max((len(token) for token in self._tokens), default=0)
        self._pattern = re.compile(b"|".join(map(re.escape, self._tokens)) if tokens else rb"(?!)")
        # One token that cannot overlap itself needs no choice between occurrences.
        self._plain = len(self._tokens) == 1 and not any(
            self._tokens[0].endswith(self._tokens[0][:size]) for size in range(1, self.longest)
        )

    def occur(self, data: bytes) -> bool:
        """Whether any special token occurs in a short text."""
        return self._pattern.search(data) is not None

    def find(self, buffer: np.ndarray, begin: int, end: int) -> np.ndarray:
        """Rows (begin, end, id), int64, of the special tokens in `buffer[begin:end]`."""
        found = []
        for token, token_id in zip(self._tokens, self._ids, strict=True):
            places = _occurrences(buffer[begin:end], token)
            if len(places):
                places += begin
                found.append(np.stack([places, places + len(token), np.full(len(places), token_id)], axis=1))
        if not found:
            return np.zeros((0, 3), np.int64)
        if self._plain:
            return found[0]
        rows = np.concatenate(found)
        chosen, reached = [], begin
        for row in np.lexsort((-rows[:, 1], rows[:, 0])).tolist():
            if rows[row, 0] >= reached:
                chosen.append(row)
                reached = rows[row, 1]
        return rows[chosen]

    def segments(self, buffer: np.ndarray, begin: int, end: int) -> np.ndarray:
        """Rows (begin, end, id) of the ordinary text between special tokens and the token that follows, -1 without."""
        specials = self.find(buffer, begin, end)
        rows = np.empty((len(specials) + 1, 3), np.int64)
        rows[0, 0], rows[-1, 1], rows[-1, 2] = begin, end, -1
        rows[1:, 0], rows[:-1, 1], rows[:-1, 2] = specials[:, 1], specials[:, 0], specials[:, 2]
        return rows


def _occurrences(text: np.ndarray, token: bytes) -> np.ndarray:
    """Where a token begins, overlapping ones too."""
    places = np.empty(1 << 12, np.int64)
    found = _find_token(text, np.frombuffer(bytearray(token), np.uint8), places)
    if found > len(places):
        places = np.empty(found, np.int64)
        _find_token(text, np.frombuffer(bytearray(token), np.uint8), places)
    return places[:found].copy()


@kernel
def _find_token(text, token, places):
    """List where a token begins, as far as there is room; returns how many places there are. Reads eight at a time."""
    first = np.uint64(token[0]) * _LOW_BITS
    found, k, last = 0, 0, text.shape[0] - token.shape[0]
    while k <= last:
        if k + 8 <= text.shape[0]:
            word = load64(text, np.uint64(k)) ^ first
            if ((word - _LOW_BITS) & ~word & _HIGH_BITS) == np.uint64(0):
                k += 8
                continue
        stop = min(k + 8, last + 1)
        while k < stop:
            if text[k] == token[0]:
                size = 1
                while size < token.shape[0] and text[k + size] == token[size]:
                    size += 1
                if size == token.shape[0]:
                    if found < places.shape[0]:
                        places[found] = k
                    found += 1
            k += 1
    return found
