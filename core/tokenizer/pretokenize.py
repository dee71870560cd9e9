"""Cutting text into pre-tokens, inside which byte pairs merge and across which they never do."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache

import regex

END_OF_TEXT = "<|endoftext|>"
"""The special token that ends a document."""

GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""GPT-2's: contractions; letters, numbers or other signs with the one space before them; runs of white space."""

CL100K_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
"""GPT-4's (cl100k_base): contractions in either case, any one sign before letters, numbers in threes, line ends with
the signs before them."""

PATTERNS = {"gpt2": GPT2_PATTERN, "cl100k": CL100K_PATTERN}
"""Ways to cut text into pre-tokens, by name."""

_SAFE_CUTS = {
    "gpt2": r"(?<=\S)\s",
    "cl100k": r"(?<=\S)[^\S\r\n]|(?<=[\p{L}\p{N}])[\r\n]",  # signs take the line ends behind them along
}


@cache
def pre_token_pattern(name: str) -> regex.Pattern:
    """The compiled pattern of a name; ValueError for a name that is not in `PATTERNS`."""
    if name not in PATTERNS:
        raise ValueError(f"pattern is {name!r}: it must be one of {', '.join(PATTERNS)}")
    return regex.compile(PATTERNS[name])


@cache
def _safe_cut_pattern(name: str) -> regex.Pattern:
    return regex.compile("(?r)" + _SAFE_CUTS[name])  # (?r) searches from the end


def check_special_tokens(special_tokens: Sequence[str]) -> None:
    """Raise ValueError unless the special tokens are distinct, non-empty strings."""
    for token in special_tokens:
        if not isinstance(token, str) or not token:
            raise ValueError(f"special token {token!r}: it must be a non-empty string")
    if len(set(special_tokens)) != len(special_tokens):
        raise ValueError(f"special tokens {list(special_tokens)}: each may stand only once")


def special_pattern(special_tokens: Sequence[str]) -> regex.Pattern | None:
    """A pattern that finds special tokens, the longest first where several start at one place; None without any."""
    if not special_tokens:
        return None
    return regex.compile("(" + "|".join(regex.escape(t) for t in sorted(special_tokens, key=len, reverse=True)) + ")")


def split_specials(text: str, pattern: regex.Pattern | None) -> list[str]:
    """Cut text at special tokens: ordinary text at even places (maybe empty), special tokens at odd ones."""
    return [text] if pattern is None else pattern.split(text)


def independent_segments(
    blocks: Iterable[str], special_tokens: Sequence[str], pattern_name: str = "gpt2"
) -> Iterator[str]:
    """Regroup a stream of text, cut anywhere, into segments that can be tokenised one by one.

    The tokens of the segments, one after another, are those of the whole text. A segment ends after a special token or
    before white space where a pre-token ends whatever comes later (after anything but white space, in GPT-2's pattern).
    Memory holds one segment: a block and what is left of the one before, unless the text offers no such place.

    Args:
        blocks: Text in order, cut anywhere (also inside a special token).
        special_tokens: They are never cut, nor are longer ones mistaken for shorter ones.
        pattern_name: Of `PATTERNS`.
    """
    safe_cut = _safe_cut_pattern(pattern_name)
    pattern = special_pattern(special_tokens)
    # A special token may go on beyond the text seen so far; further than this before its end none can.
    margin = max((len(token) for token in special_tokens), default=0)
    parts: list[str] = []
    size = look_again = 0
    for block in blocks:
        parts.append(block)
        size += len(block)
        if size < look_again:
            continue
        pending = "".join(parts)
        cut = _last_cut(pending, safe_cut, pattern, size - margin)
        if cut > 0:
            yield pending[:cut]
            pending = pending[cut:]
        parts, size = [pending], len(pending)
        look_again = 0 if cut > 0 else 2 * size  # each look takes the whole pending text: few looks at a long one
    if size:
        yield "".join(parts)


def _last_cut(text: str, safe_cut: regex.Pattern, pattern: regex.Pattern | None, limit: int) -> int:
    """The last place up to `limit` where a segment may end; 0 if there is none."""
    if limit <= 0:
        return 0
    space = safe_cut.search(text, 0, min(limit + 1, len(text)))
    cut = space.start() if space else 0
    if pattern is not None:
        for special in pattern.finditer(text):
            if special.start() < cut < special.end():
                cut = special.start()
            elif cut < special.end() <= limit:
                cut = special.end()
    return cut
