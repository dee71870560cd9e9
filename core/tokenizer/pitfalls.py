"""Where text, bytes and tokens do not agree: what a person sees, what UTF-8 says, what a tokenizer makes of it."""

import codecs
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import regex

SPACES = " \t\n\u00a0\u2009\u3000\u0085\x1c\u200b\ufeff"
"""White space of several opinions: of the regular expression, of Python, of the eye."""

_CONTROLS = {"\t": "tab", "\n": "line feed", "\r": "carriage return", "\x1c": "file separator", "\x85": "next line"}

SPELLINGS = ("the", " the", "The", "THE", "1234567", "12,345.67", "don't", "DON'T", "return  x")
"""Texts that a person takes for the same, or for one thing each."""


def well_formed(text: str) -> str:
    """Text as UTF-8 can hold it: half of a surrogate pair, which a browser may send, becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def decodings(tokens: Sequence[bytes]) -> dict[str, Any]:
    r"""The same tokens decoded in three ways.

    Returns:
        `alone`: the text of each token by itself; `whole`: the text of all bytes joined; `held`: what a stream may
        write after each token, when an unfinished character is held back, and at the end what is left of one.

    >>> decodings([b"a", b"\xc3", b"\xa9"])
    {'alone': ['a', '�', '�'], 'whole': 'aé', 'held': ['a', '', 'é', '']}
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return {
        "alone": [token.decode(errors="replace") for token in tokens],
        "whole": b"".join(tokens).decode(errors="replace"),
        "held": [*(decoder.decode(token) for token in tokens), decoder.decode(b"", final=True)],
    }


def visible_characters(text: str) -> list[str]:
    r"""What the eye takes for one character each, without repetitions.

    >>> [len(character) for character in visible_characters("e\u0301e")]
    [2, 1]
    """
    return list(dict.fromkeys(regex.findall(r"\X", text)))


def code_points(text: str) -> str:
    """Each code point by number and name.

    >>> code_points("é")
    'U+00E9 latin small letter e with acute'
    """
    return ", ".join(
        f"U+{ord(sign):04X} {unicodedata.name(sign, _CONTROLS.get(sign, 'without a name')).lower()}" for sign in text
    )


def space_rows() -> list[dict[str, Any]]:
    """Every sign of `SPACES`: what it is, and who calls it white space."""
    return [
        {
            "sign": sign,
            "name": code_points(sign),
            "pattern": regex.match(r"\s", sign) is not None,
            "python": sign.isspace(),
        }
        for sign in SPACES
    ]


def spaces_before_letters(tokens: Iterable[bytes]) -> tuple[int, int]:
    """How many tokens are a space with letters behind it, and how many lone spaces stand before a token of letters."""
    tokens = list(tokens)
    joined = sum(token[:1] == b" " and _begins_with_letter(token[1:]) for token in tokens)
    lone = sum(token == b" " and _begins_with_letter(after) for token, after in pairwise(tokens))
    return joined, lone


def _begins_with_letter(token: bytes) -> bool:
    return token.decode(errors="ignore")[:1].isalpha()
