"""What kind of character each code point is, asked of the `regex` package itself, so that both engines agree."""

from functools import cache

import numpy as np
import regex

OTHER, LETTER, NUMBER, SPACE, EDGE = 0, 1, 2, 3, 4
r"""Anything else, `\p{L}`, `\p{N}`, `\s`; and what stands before and behind a text."""


@cache
def character_classes() -> np.ndarray:
    """The class of every code point, uint8; surrogates, which UTF-8 has not, are `OTHER`."""
    classes = np.zeros(0x110000, np.uint8)
    points = np.concatenate([np.arange(0xD800), np.arange(0xE000, 0x110000)]).astype("<u4")
    text = points.tobytes().decode("utf-32-le")
    for number, pattern in ((LETTER, r"\p{L}+"), (NUMBER, r"\p{N}+"), (SPACE, r"\s+")):
        for run in regex.finditer(pattern, text):
            classes[points[slice(*run.span())]] = number
    classes.setflags(write=False)
    return classes
