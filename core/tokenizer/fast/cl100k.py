"""GPT-4's pattern, walked through: it looks further ahead than a rule about neighbouring bytes could."""

import numpy as np

from core.tokenizer.fast.classes import LETTER, NUMBER, OTHER, SPACE
from core.tokenizer.fast.compiled import kernel
from core.tokenizer.fast.utf8 import is_continuation


@kernel
def _run_end(classes, k, length, kind):
    """The end of the run of one class that k stands in (or right behind)."""
    while k < length and classes[k + 1] == kind:
        k += 1
    return k


@kernel
def _character_end(text, k, length):
    k += 1
    while k < length and is_continuation(text[k]):
        k += 1
    return k


@kernel
def end_of_pre_token(text, classes, k, length):
    """The end of the pre-token that begins at k, alternative by alternative of the pattern."""
    byte, kind = text[k], classes[k + 1]
    if byte == 39 and k + 1 < length:  # (?i:[sdmt]|ll|ve|re)
        b1, b2 = text[k + 1] | np.uint8(32), text[k + 2] | np.uint8(32)
        if b1 == 115 or b1 == 100 or b1 == 109 or b1 == 116:
            return k + 2
        if k + 2 < length:
            if text[k + 1] == 0xC5 and text[k + 2] == 0xBF:  # U+017F is an s to a pattern that ignores case
                return k + 3
            if (b1 == 108 and b2 == 108) or ((b1 == 118 or b1 == 114) and b2 == 101):
                return k + 3
    if kind == LETTER:
        return _run_end(classes, k, length, LETTER)
    line_end = byte == 10 or byte == 13
    if kind == NUMBER:
        end = k
        for _ in range(3):
            if end < length and classes[end + 1] == NUMBER:
                end = _character_end(text, end, length)
        return end
    if not line_end:
        end = _character_end(text, k, length)
        if end < length and classes[end + 1] == LETTER:
            return _run_end(classes, end, length, LETTER)
    end = k + 1 if byte == 32 else k
    if end < length and classes[end + 1] == OTHER:
        end = _run_end(classes, end, length, OTHER)
        while end < length and (text[end] == 10 or text[end] == 13):
            end += 1
        return end
    run = _run_end(classes, k, length, SPACE)
    if run == length:
        return length
    for end in range(run, k, -1):
        if text[end - 1] == 10 or text[end - 1] == 13:
            return end
    last = run - 1
    while is_continuation(text[last]):
        last -= 1
    return run if last == k else last
