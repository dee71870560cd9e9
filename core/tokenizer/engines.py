"""Which engine does the work: the reference, at once, or the compiled one, once what it saves is more than it costs."""

from typing import Literal

ENGINES = ("auto", "reference", "fast")

Work = Literal["training", "encoding"]

_WORTH_LOADING = {"training": 2_000_000, "encoding": 4_000_000}
"""Bytes that the reference takes longer for than the fast engine to load, about a second."""
_WORTH_COMPILING = {"training": 40_000_000, "encoding": 80_000_000}
"""And longer than to compile, some 25 seconds."""


def choose(engine: str, num_bytes: int, work: Work) -> Literal["reference", "fast"]:
    """The engine for a text of so many bytes.

    `auto` takes the compiled one where it is quicker in all, its loading and, the first time, its compiling included,
    and the reference where Numba is missing, as in a browser.

    Raises:
        ValueError: If the engine is none of `ENGINES`.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine is {engine!r}: it must be one of {', '.join(ENGINES)}")
    if engine != "auto":
        return engine
    if num_bytes < _WORTH_LOADING[work]:
        return "reference"
    try:
        from core.tokenizer.fast.compiled import is_compiled
    except ImportError:
        return "reference"
    return "fast" if num_bytes >= _WORTH_COMPILING[work] or is_compiled(work) else "reference"
