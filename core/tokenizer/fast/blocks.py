"""Cutting text into blocks small enough for the processor's cache, at places where no pre-token can reach across."""

import numpy as np

from core.tokenizer.fast.classes import LETTER
from core.tokenizer.fast.compiled import kernel
from core.tokenizer.fast.utf8 import decode_character, is_continuation

BLOCK = 1 << 15

DONE, NO_ROOM, NOT_UTF8 = 0, 1, 2
"""What a loop over segments returns."""
SEGMENT, POSITION, SIZE, WRITTEN, POOLED = 0, 1, 2, 3, 4
"""Places in a loop's `state`: segment and byte it has come to, size of the block that needs room, ids written to the
output, ids in the pool."""


@kernel
def _is_ascii_letter(byte):
    return np.uint8((byte | np.uint8(32)) - np.uint8(97)) < np.uint8(26)


@kernel
def is_safe_cut(buffer, k, class_of):
    """Whether a letter ends right before byte k and none begins there: a pre-token ends in any pattern.

    What follows depends on nothing before it: it is no letter, so it extends no word, and it follows no U+0020.
    """
    byte = buffer[k]
    if byte < 0x80:
        if _is_ascii_letter(byte):
            return False
    elif is_continuation(byte) or class_of[decode_character(buffer, np.uint64(k))[0]] == LETTER:
        return False
    if buffer[k - 1] < 0x80:
        return bool(_is_ascii_letter(buffer[k - 1]))
    first = k - 1
    while is_continuation(buffer[first]) and first > k - 4:
        first -= 1
    point, size = decode_character(buffer, np.uint64(first))
    return size == k - first and class_of[point] == LETTER


@kernel
def last_safe_cut(buffer, begin, end, class_of):
    """The last safe cut in `begin < k <= end`; `begin` if there is none."""
    k = end
    while k > begin and not is_safe_cut(buffer, k, class_of):
        k -= 1
    return k


@kernel
def block_end(buffer, begin, end, class_of):
    """Where the block that begins here ends: about `BLOCK` bytes on, or further where there is no safe cut."""
    want = begin + BLOCK
    if want >= end:
        return end
    k = last_safe_cut(buffer, want - BLOCK // 2, want, class_of)
    if k > want - BLOCK // 2:
        return k
    k = want + 1
    while k < end and not is_safe_cut(buffer, k, class_of):
        k += 1
    return k
