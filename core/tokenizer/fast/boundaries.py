r"""Where pre-tokens begin, found without a regular expression: for GPT-2's pattern that is a local question of bytes.

Every byte gets the class of its character (`classes.py`). With GPT-2's pattern a byte begins a pre-token if

- it is white space, and the byte before is not, or it is the last of its run and text follows (`\s+(?!\S)` leaves the
  last one to what comes);
- it is anything else, its class differs from the byte before, and that is not U+0020, which belongs to what follows.

Contractions then move the beginning behind an apostrophe. GPT-4's pattern looks further ahead and is walked through.
"""

from typing import NamedTuple

import numpy as np

from core.tokenizer.fast.cl100k import end_of_pre_token
from core.tokenizer.fast.classes import EDGE, SPACE
from core.tokenizer.fast.compiled import kernel, load64
from core.tokenizer.fast.utf8 import decode_character

GPT2, CL100K = 0, 1
PATTERN_NUMBERS = {"gpt2": GPT2, "cl100k": CL100K}

PADDING = 64
"""Zero bytes that every buffer holds before and behind its text, so that loops may read a little beyond."""

_HIGH_BITS = np.uint64(0x8080808080808080)
_LOW_BITS = np.uint64(0x0101010101010101)
_APOSTROPHES = np.uint64(0x2727272727272727)
_GATHER_BITS = np.uint64(0x0102040810204080)
_U0, _U1, _U3, _U8, _U56 = np.uint64(0), np.uint64(1), np.uint64(3), np.uint64(8), np.uint64(56)


class StartScratch(NamedTuple):
    """Working memory of `find_starts`."""

    classes: np.ndarray
    """Of each byte, with `EDGE` before and behind."""
    starts: np.ndarray
    """Flags."""
    spaces: np.ndarray
    """(place, length) pairs of white space of several bytes."""
    positions: np.ndarray
    r"""Where pre-tokens begin, and the last one ends."""

    @classmethod
    def of(cls, size: int) -> "StartScratch":
        """Room for texts of up to `size` bytes; memory is touched only as far as it is used."""
        room = size + 16
        return cls(
            np.empty(room, np.uint8), np.empty(room, np.uint8), np.empty(room, np.int32), np.empty(room, np.int32)
        )


BITS_OF = np.zeros((256, 8), np.int32)
"""Row m lists the places of the ones of m."""
NUM_BITS = np.array([m.bit_count() for m in range(256)], np.uint64)
for _m in range(256):
    BITS_OF[_m, : _m.bit_count()] = [place for place in range(8) if _m >> place & 1]


@kernel
def _classify_ascii(text, classes):
    """The class of every byte below 128; true if there are others."""
    seen = np.uint8(0)
    for k in range(text.shape[0]):
        byte = text[k]
        seen |= byte
        letter = np.uint8(np.uint8((byte | np.uint8(32)) - np.uint8(97)) < np.uint8(26))
        number = np.uint8(np.uint8(byte - np.uint8(48)) < np.uint8(10))
        space = np.uint8(np.uint8(byte - np.uint8(9)) < np.uint8(5)) | np.uint8(byte == np.uint8(32))
        classes[k] = np.uint8(letter | np.uint8(number << np.uint8(1)) | np.uint8(space * np.uint8(3)))
    return seen >= 128


@kernel
def _classify_others(text, length, classes, class_of, spaces):
    """The class of every character above 127, for all of its bytes.

    Lists white space of several bytes as (place, length) pairs. Returns how many it listed, or -1 - k if the bytes
    from k on are not UTF-8.
    """
    k, end, listed = _U0, np.uint64(length), 0
    while k < end:
        if load64(text, k) & _HIGH_BITS == _U0:
            k += _U8
            continue
        while k < end and text[k] < 0x80:
            k += _U1
        while k < end and text[k] >= 0x80:
            point, size = decode_character(text, k)
            if size == 0 or k + np.uint64(size) > end:
                return -1 - np.int64(k)
            kind = class_of[point]
            for j in range(size):
                classes[k + np.uint64(j)] = kind
            if kind == SPACE:
                spaces[2 * listed] = np.int32(k)
                spaces[2 * listed + 1] = np.int32(size)
                listed += 1
            k += np.uint64(size)
    return listed


@kernel
def _mark_gpt2(before, classes, starts, length):
    """The local rule; `before[k]` is the byte before k, `classes[k + 1]` the class of byte k."""
    for k in range(length):
        previous, own, following = classes[k], classes[k + 1], classes[k + 2]
        space = np.uint8(own == np.uint8(SPACE))
        changes = np.uint8(own != previous)
        text_follows = np.uint8(following < np.uint8(SPACE))
        after_blank = np.uint8(before[k] == np.uint8(32))
        starts[k] = np.uint8(
            (space & (changes | text_follows))
            | (np.uint8(np.uint8(1) ^ space) & changes & np.uint8(np.uint8(1) ^ after_blank))
        )
    starts[0] = np.uint8(1)


@kernel
def _mark_wide_spaces(classes, starts, spaces, listed):
    """The local rule for white space of several bytes: only the first can begin a pre-token."""
    for i in range(listed):
        k, size = spaces[2 * i], spaces[2 * i + 1]
        starts[k] = np.uint8(k == 0 or classes[k] != SPACE or classes[k + size + 1] < SPACE)
        for j in range(1, size):
            starts[k + j] = np.uint8(0)


@kernel
def _mark_contractions(text, length, starts):
    """After an apostrophe that begins a pre-token: `s d m t ll ve re` end it."""
    k, end = _U0, np.uint64(length)
    while k < end:
        word = load64(text, k) ^ _APOSTROPHES
        if ((word - _LOW_BITS) & ~word & _HIGH_BITS) == _U0:
            k += _U8
            continue
        stop = min(k + _U8, end)
        while k < stop:
            if text[k] == np.uint8(39) and starts[k] == np.uint8(1):
                size = _contraction(text, k, end)
                if size > _U0:
                    starts[k + _U1] = np.uint8(0)
                    starts[k + size] = np.uint8(1)
            k += _U1


@kernel
def _contraction(text, k, end):
    """Bytes of the contraction whose apostrophe stands at k; 0 if none does."""
    if k + _U1 >= end:
        return _U0
    b1 = text[k + _U1]
    if b1 == 115 or b1 == 100 or b1 == 109 or b1 == 116:  # s d m t
        return np.uint64(2)
    if k + np.uint64(2) >= end:
        return _U0
    b2 = text[k + np.uint64(2)]
    if (b1 == 108 and b2 == 108) or ((b1 == 118 or b1 == 114) and b2 == 101):  # ll, ve, re
        return _U3
    return _U0


@kernel
def _list_starts(starts, length, base, positions):
    """Write the places of the ones, eight flags at a time; returns how many there are."""
    found = _U0
    k = _U0
    whole = np.uint64(length) & ~np.uint64(7)
    while k < whole:
        mask = (load64(starts, k) * _GATHER_BITS) >> _U56
        place = np.int32(base) + np.int32(k)
        for j in range(8):
            positions[found + np.uint64(j)] = place + BITS_OF[mask, j]
        found += NUM_BITS[mask]
        k += _U8
    while k < np.uint64(length):
        positions[found] = np.int32(base) + np.int32(k)
        found += np.uint64(starts[k])
        k += _U1
    return np.int64(found)


@kernel
def find_starts(buffer, begin, length, pattern, class_of, scratch):
    """List where the pre-tokens of `buffer[begin : begin + length]` begin, a text of its own, and where it ends.

    Args:
        buffer: Bytes, with `PADDING` before and behind.
        begin: First byte.
        length: Bytes, at least 1.
        pattern: `GPT2` or `CL100K`.
        class_of: `character_classes()`.
        scratch: A `StartScratch` for as many bytes; `positions` gets the beginnings, then the end.

    Returns:
        How many pre-tokens there are, or -1 - k if byte k of the text is the first that is not UTF-8.
    """
    text = buffer[begin : begin + length + 8]
    classes, starts, spaces, positions = scratch
    classes[0] = np.uint8(EDGE)
    classes[length + 1] = np.uint8(EDGE)
    listed = 0
    if _classify_ascii(text[:length], classes[1:]):
        listed = _classify_others(text, length, classes[1:], class_of, spaces)
        if listed < 0:
            return listed
    if pattern == GPT2:
        _mark_gpt2(buffer[begin - 1 : begin + length], classes, starts, length)
        if listed > 0:
            _mark_wide_spaces(classes, starts, spaces, listed)
        _mark_contractions(text, length, starts)
        found = _list_starts(starts, length, begin, positions)
    else:
        found, k = 0, 0
        while k < length:
            positions[found] = np.int32(begin + k)
            found += 1
            k = end_of_pre_token(text, classes, k, length)
    positions[found] = np.int32(begin + length)
    return found
