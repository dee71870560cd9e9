"""Characters in UTF-8, and what is none (Unicode 17, table 3-7)."""

import numpy as np

from core.tokenizer.fast.compiled import kernel

_U1, _U3 = np.uint64(1), np.uint64(3)


@kernel
def is_continuation(byte):
    """Whether a byte continues a character that began before it."""
    return (byte & np.uint8(0xC0)) == np.uint8(0x80)


@kernel
def decode_character(text, k):
    """Code point and length of the character at k, whose first byte is above 127; length 0 if it is not UTF-8."""
    b0, b1, b2, b3 = text[k], text[k + _U1], text[k + np.uint64(2)], text[k + _U3]
    point = np.uint32(b1 & np.uint8(0x3F))
    if b0 < 0xC2 or not is_continuation(b1):
        return np.uint32(0), 0
    if b0 < 0xE0:
        return (np.uint32(b0 & np.uint8(0x1F)) << np.uint32(6)) | point, 2
    point = (point << np.uint32(6)) | np.uint32(b2 & np.uint8(0x3F))
    if not is_continuation(b2):
        return np.uint32(0), 0
    if b0 < 0xF0:
        point |= np.uint32(b0 & np.uint8(0x0F)) << np.uint32(12)
        wrong = point < 0x800 or (point >= 0xD800 and point < 0xE000)
        return point, 0 if wrong else 3
    point = (point << np.uint32(6)) | np.uint32(b3 & np.uint8(0x3F))
    point |= np.uint32(b0 & np.uint8(0x07)) << np.uint32(18)
    wrong = b0 > 0xF4 or not is_continuation(b3) or point < 0x10000 or point >= 0x110000
    return (np.uint32(0), 0) if wrong else (point, 4)
