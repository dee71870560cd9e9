"""Decoding many ids: their bytes copied one after another."""

from collections.abc import Mapping, Sequence

import numpy as np

from core.tokenizer.fast.compiled import announced, kernel


class Decoder:
    """A vocabulary laid out for decoding.

    Args:
        vocab: Id to bytes.
    """

    def __init__(self, vocab: Mapping[int, bytes]) -> None:
        self._begin = np.zeros(max(vocab, default=-1) + 1, np.int64)
        self._size = np.full(len(self._begin), -1, np.int64)
        place = 0
        for token_id, token in vocab.items():
            self._begin[token_id], self._size[token_id] = place, len(token)
            place += len(token)
        self._text = np.frombuffer(bytearray(b"".join(vocab.values()) or b"\0"), np.uint8)

    def decode(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """Ids, a list or an array of integers, to bytes, as an array of them.

        Raises:
            ValueError: For an id that the vocabulary lacks.
        """
        if not isinstance(ids, np.ndarray):
            ids = np.fromiter(ids, np.int64, len(ids))
        ids = np.ascontiguousarray(ids, np.int64)
        with announced("decoding"):
            total = _total(ids, self._size)
            if total < 0:
                raise ValueError(f"id {ids[-1 - total]} is not in the vocabulary of {len(self._size)}")
            out = np.empty(total, np.uint8)
            _copy(ids, self._begin, self._size, self._text, out)
        return out


@kernel
def _total(ids, sizes):
    """Bytes of all ids; -1 - i if the id at i is unknown."""
    total = 0
    for i in range(ids.shape[0]):
        if ids[i] < 0 or ids[i] >= sizes.shape[0] or sizes[ids[i]] < 0:
            return -1 - i
        total += sizes[ids[i]]
    return total


@kernel
def _copy(ids, begin, sizes, text, out):
    place = np.uint64(0)
    for i in range(ids.shape[0]):
        first, size = np.uint64(begin[ids[i]]), np.uint64(sizes[ids[i]])
        for k in range(size):
            out[place + k] = text[first + k]
        place += size
