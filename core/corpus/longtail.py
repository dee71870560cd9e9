"""Generated text of any size whose vocabulary keeps growing, as the web's does: for measuring tokenizers.

On repetitive text a tokenizer is as fast as its cache. Here word frequencies follow the law of Zipf and Mandelbrot with
a second, steeper regime for rare words, so that new words keep coming, and words are made of syllables, so that byte
pairs are as uneven as in a language. It has no meaning and no known entropy: models learn from `stories`.

Distinct pre-tokens of GPT-2's pattern: 0.42 million in 70 MB, 1.43 million in 500 MB, some 7 million in 10 GB.
"""

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from core.corpus.longtail_words import (
    DOCUMENT_KINDS,
    SEPARATOR_BYTES,
    SEPARATORS,
    WORD_BYTES,
    capitalise,
    quantiles,
    spell,
    text_rows,
)
from core.files import atomic_path
from core.tokenizer.pretokenize import END_OF_TEXT

NUM_COMMON = 1 << 15
"""Words whose spelling is kept in a table; the rarer ones are spelled when they occur."""
NUM_WORDS = 3_000_000
"""In each script. Most come to be written in several ways: with a capital, behind a space or another sign."""
KNEE = 600
"""From this rank on frequencies fall as rank^-1.5."""
OFFSET = 2.7
"""Mandelbrot's: the frequencies of the first words differ less than Zipf's law says."""

BLOCK_WORDS = 1 << 17
"""Words drawn together: each block has a random stream of its own and ends with a document."""
SHORTEST, LONGEST = 45, 1500
"""Words of a document, some 0.3 to 10 KB."""

_COMMON_BITS, _SEPARATOR_BITS, _TAIL_BITS = 20, 12, 32


class _Tables(NamedTuple):
    common: np.ndarray
    """Rank of a common word by a random number of 20 bits."""
    separators: np.ndarray
    """Separator by kind of document and a random number of 12 bits."""
    separator_rows: np.ndarray
    begins_sentence: np.ndarray
    """Whether the word after a separator has a capital."""
    words: np.ndarray
    """Spelling of the common words, `script, capital, rank`, two 64-bit numbers each."""
    end_row: np.ndarray
    """What ends a document."""
    tail: float
    """Probability of a word that is not common."""


def longtail_blocks(seed: int = 0) -> Iterator[bytes]:
    """Text without end, in blocks of some 0.8 MB that are whole documents, each ended by `<|endoftext|>`."""
    block = 0
    while True:
        yield longtail_block(seed, block)
        block += 1


def write_longtail(
    path: str | os.PathLike[str],
    num_bytes: int,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Write generated text, whole documents, until the file has at least `num_bytes`.

    A shorter file is the beginning of a longer one of the same seed. Memory holds a block at a time.

    Args:
        path: Text file to write; a function of `num_bytes` and `seed` alone.
        num_bytes: Size at which to stop, at the end of a document.
        seed: Other seeds give other text in the same words.
        progress: Called with the bytes written so far.

    Raises:
        ValueError: If `num_bytes` is not positive or `seed` is negative.
    """
    if num_bytes < 1:
        raise ValueError(f"num_bytes is {num_bytes}: it must be positive")
    if seed < 0:
        raise ValueError(f"seed is {seed}: it must not be negative")
    marker = END_OF_TEXT.encode()
    written = 0
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for block in longtail_blocks(seed):
            if written + len(block) >= num_bytes:
                end = block.find(marker, max(0, num_bytes - written - len(marker)))
                block = block[: end + len(marker)]
            file.write(block)
            written += len(block)
            if progress is not None:
                progress(written)
            if written >= num_bytes:
                return Path(path)


def longtail_block(seed: int, block: int) -> bytes:
    """The n-th block of a seed's text.

    Every word is a row of bytes, what separates it from the word before and its spelling, filled up with zeros; what is
    left when the zeros are taken out is the text. Only integers, square roots and the four operations decide, so the
    bytes are the same on every machine.
    """
    tables = _tables()
    # Raw output, because NumPy keeps that of a bit generator from release to release.
    generator = np.random.SFC64([seed, block])
    ends, kind, script = _documents(generator)
    draws = generator.random_raw(BLOCK_WORDS)

    places = (draws >> np.uint64(_TAIL_BITS + _COMMON_BITS)).view(np.int64)
    separators = tables.separators.take(places + (kind << _SEPARATOR_BITS))
    separators[0] = separators[ends[:-1] + 1] = 0  # what begins a document
    capitals = tables.begins_sentence.take(separators)

    ranks = tables.common.take(((draws >> np.uint64(_TAIL_BITS)) & np.uint64((1 << _COMMON_BITS) - 1)).view(np.int64))
    rows = np.empty((BLOCK_WORDS, (SEPARATOR_BYTES + WORD_BYTES) // 8), np.uint64)
    rows[:, 0] = tables.separator_rows.take(separators)
    rows[:, 1:] = tables.words.take((2 * script + capitals) * NUM_COMMON + ranks, axis=0)

    rare = np.flatnonzero((draws & np.uint64((1 << _TAIL_BITS) - 1)) < tables.tail * 2.0**_TAIL_BITS)
    spelled = spell(_rare_ranks(generator.random_raw(rare.size)), script[rare])
    rows[rare, 1:] = capitalise(spelled, capitals[rare]).view(np.uint64)

    rows[ends] = tables.end_row
    return rows.tobytes().translate(None, b"\0")


def _documents(generator: np.random.BitGenerator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where a block's documents end, and of what kind and in which script each word's document is."""
    u = _unit(generator.random_raw(2 * (BLOCK_WORDS // SHORTEST)))
    lengths = SHORTEST + (u[::2] * u[::2] * (LONGEST - SHORTEST)).astype(np.int64)
    ends = np.cumsum(lengths)
    ends = ends[: np.searchsorted(ends, BLOCK_WORDS - SHORTEST)]
    ends = np.append(ends, BLOCK_WORDS) - 1
    shares = np.cumsum([share for share, _, _ in DOCUMENT_KINDS])
    choice = np.searchsorted(shares, u[1::2][: ends.size] * shares[-1], side="right")
    lengths = np.diff(ends, prepend=-1)
    kinds = np.array([(separators, script) for _, separators, script in DOCUMENT_KINDS])[choice]
    return ends, kinds[:, 0].repeat(lengths), kinds[:, 1].repeat(lengths)


def _rare_ranks(draws: np.ndarray) -> np.ndarray:
    """Ranks beyond the common words, with probability proportional to rank^-1.5.

    P(rank > r) = (NUM_COMMON / r)^(1/2), cut off at NUM_WORDS
    """
    least = np.sqrt(NUM_COMMON / NUM_WORDS)
    v = least + (1 - least) * _unit(draws)
    return (NUM_COMMON / (v * v)).astype(np.int64)


def _unit(draws: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1) of 53 bits."""
    return (draws >> np.uint64(11)) * 2.0**-53


@cache
def _tables() -> _Tables:
    ranks = np.arange(1, NUM_COMMON + 1, dtype=np.float64)
    weights = np.where(ranks < KNEE, 1 / (ranks + OFFSET), np.sqrt(KNEE / ranks) / ranks)
    # The integral of the same law over the ranks beyond.
    tail = 2 * np.sqrt(KNEE / NUM_COMMON) - 2 * np.sqrt(KNEE / NUM_WORDS)
    beginning = "\n", True
    texts = [beginning, *sorted({(text, capital) for kind in SEPARATORS for _, text, capital in kind} - {beginning})]
    chosen = [quantiles(np.array([weight for weight, _, _ in kind]), _SEPARATOR_BITS) for kind in SEPARATORS]
    places = [np.array([texts.index((text, capital)) for _, text, capital in kind]) for kind in SEPARATORS]

    common = np.arange(NUM_COMMON)
    scripts = 1 + max(script for _, _, script in DOCUMENT_KINDS)
    spelled = [spell(common, np.full(NUM_COMMON, script)) for script in range(scripts)]
    words = [capitalise(rows, np.full(NUM_COMMON, capital)) for rows in spelled for capital in (False, True)]

    end = ".\n".ljust(SEPARATOR_BYTES, "\0") + END_OF_TEXT
    return _Tables(
        common=quantiles(weights, _COMMON_BITS).astype(np.uint16),
        separators=np.concatenate([place[choice] for place, choice in zip(places, chosen, strict=True)]),
        separator_rows=text_rows([text for text, _ in texts], SEPARATOR_BYTES, right=True).view(np.uint64).ravel(),
        begins_sentence=np.array([capital for _, capital in texts], dtype=np.int64),
        words=np.concatenate(words).view(np.uint64),
        end_row=text_rows([end], SEPARATOR_BYTES + WORD_BYTES).view(np.uint64),
        tail=float(tail / (np.cumsum(weights)[-1] + tail)),
    )
