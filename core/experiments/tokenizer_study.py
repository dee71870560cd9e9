"""What vocabularies of every size, each learnt from one corpus, make of the text of every corpus: rows of `results/`.

One vocabulary per corpus is trained, the largest. A smaller one is its first merges, and what a text is in the smaller
one follows from what it is in the larger: every token that a later merge made falls apart again.
"""

import hashlib
import heapq
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.corpus.dataset import split
from core.files import atomic_path, binary_blocks, text_blocks
from core.provenance import utc_now
from core.records import CompressionRow, FrequencyRow, GrowthRow
from core.tokenizer import Tokenizer
from core.tokenizer.anatomy import Pair, token_ranks
from core.tokenizer.pretokenize import (
    END_OF_TEXT,
    independent_segments,
    pre_token_pattern,
    special_pattern,
    split_specials,
)
from core.tokenizer.train import train_bpe_files

VOCAB_SIZES = tuple(2**power for power in range(8, 18))
HELD_OUT = 0.1
"""Of every corpus, by documents where there are enough, else the end of the text."""
POINTS = 64
"""At most so many ranks are kept of a ranking."""
LONGEST = 12
GROWTH_PER_DOUBLING = 4

Progress = Callable[[str, int, int], None]
"""Called with the stage's name, the work done and the work in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A corpus's training or held-out part."""

    sha256: str
    num_bytes: int
    """Without the markers between documents."""
    pre_tokens: Counter[str]
    growth: list[tuple[int, int]] = field(default_factory=list)
    """Bytes read and distinct pre-tokens found so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """A corpus with the vocabulary that its training part gives."""

    name: str
    training: Part
    held_out: Part
    merges: list[Pair]
    """Of the largest size, or all that there are."""


def study_rows(
    corpora: Sequence[Corpus],
    vocab_sizes: Sequence[int] = VOCAB_SIZES,
    *,
    study_id: str,
    git_commit: str | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> tuple[list[CompressionRow], list[FrequencyRow], list[GrowthRow]]:
    """Every vocabulary on the held-out part of every corpus, and each corpus's own tokens and pre-tokens.

    Where training ended before the largest size, since no pair was left, its last size stands for all that are larger.

    Args:
        corpora: As `open_corpus` gives them.
        vocab_sizes: From 256 (bytes) to what the corpora were opened with.
        study_id: Name of the rows' files.
        git_commit: Of the code, for the rows.
        progress: Told of every encoding.
    """
    shared = {"study_id": study_id, "git_commit": git_commit, "utc": utc_now()}
    compression: list[CompressionRow] = []
    frequency: list[FrequencyRow] = []
    growth: list[GrowthRow] = []
    pairs = [(corpus, other) for corpus in corpora for other in corpora]
    for done, (corpus, other) in enumerate(pairs):
        progress("encoding", done, len(pairs))
        texts = [("held-out", other.held_out)] + ([("training", corpus.training)] if other is corpus else [])
        last = 256 + len(corpus.merges)
        sizes = sorted({min(size, last) for size in vocab_sizes})
        whole: dict[int, Counter[bytes]] = {size: Counter() for size in sizes}
        for part, text in texts:
            for size, tokens in zip(sizes, tokens_by_size(text.pre_tokens, corpus.merges, sizes), strict=True):
                row = CompressionRow(
                    **shared,
                    trained_on=corpus.name,
                    train_bytes=corpus.training.num_bytes,
                    vocab_size=size,
                    encoded=other.name,
                    part=part,
                    text_sha256=text.sha256,
                    text_bytes=text.num_bytes,
                    tokens=tokens.total(),
                    used_tokens=len(tokens),
                )
                compression.append(row)
                whole[size].update(tokens)
        if other is corpus:
            about = shared | {"corpus": corpus.name}
            pieces = corpus.training.pre_tokens + corpus.held_out.pre_tokens
            ranked = {None: Counter({piece.encode(): count for piece, count in pieces.items()}), **whole}
            for size, counts in ranked.items():
                frequency += _ranking(counts, about | {"vocab_size": size})
            for size, counts in whole.items():
                frequency += _longest(corpus.merges[: size - 256], counts, about | {"vocab_size": size})
            growth += [GrowthRow(**about, read_bytes=n, distinct_pre_tokens=v) for n, v in corpus.training.growth]
    progress("encoding", len(pairs), len(pairs))
    return compression, frequency, growth


def open_corpus(
    name: str, path: str | os.PathLike[str], folder: Path, largest: int = max(VOCAB_SIZES), limit: int | None = None
) -> Corpus:
    """Split a text, count its pre-tokens and train the largest vocabulary on the training part.

    Args:
        name: What the corpus is called in the rows.
        path: UTF-8 text, plain, `.gz` or `.zst`; documents are separated by `<|endoftext|>`.
        folder: For the parts.
        largest: Size of the vocabulary, 256 or more.
        limit: Only so many bytes from the beginning are taken, but no character in part.

    Raises:
        ValueError: If the file cannot be read as text or is too short.
    """
    if limit is not None:
        path = _beginning(path, folder / f"{name}.txt", limit)
    parts = folder / f"{name}.train.txt", folder / f"{name}.held-out.txt"
    split([path], *parts, HELD_OUT)
    # The marker has an id of its own among the first, which a size in these rows does not count.
    _, merges = train_bpe_files([parts[0]], largest + 1, [END_OF_TEXT])
    training, held_out = (read_part(path) for path in parts)
    return Corpus(name=name, training=training, held_out=held_out, merges=merges)


def read_part(path: str | os.PathLike[str]) -> Part:
    """Count the pre-tokens of a text, and note along the way how many distinct ones there were."""
    digest = hashlib.sha256()
    for block in binary_blocks(path):
        digest.update(block)
    counts: Counter[str] = Counter()
    growth, read, look = [], 0, 1024.0
    for pre_token in _pre_tokens(path):
        counts[pre_token] += 1
        read += len(pre_token) if pre_token.isascii() else len(pre_token.encode())
        if read >= look:
            growth.append((read, len(counts)))
            while look <= read:
                look *= 2 ** (1 / GROWTH_PER_DOUBLING)
    growth.append((read, len(counts)))
    return Part(sha256=digest.hexdigest(), num_bytes=read, pre_tokens=counts, growth=growth)


def tokens_by_size(
    pre_tokens: Mapping[str, int], merges: Sequence[Pair], vocab_sizes: Sequence[int]
) -> Iterator[Counter[bytes]]:
    """How often each token occurs in counted pre-tokens, at each size of the vocabulary; one encoding tells them all.

    Of the merges that apply, encoding makes the earliest first, and what a merge makes takes part in later ones only: a
    vocabulary's first merges do to a text what the whole vocabulary does to it before any of the others.

    Args:
        pre_tokens: How often each occurs.
        merges: In the order they were learnt.
        vocab_sizes: 256 and the merges; ascending, and so are the results.
    """
    ranks = token_ranks(merges)
    tokenizer = Tokenizer(dict(enumerate([bytes([value]) for value in range(256)] + [*ranks])), merges)
    tokens: Counter[bytes] = Counter()
    encoded = tokenizer.encode_batch(list(pre_tokens))
    for ids, count in zip(encoded, pre_tokens.values(), strict=True):
        for token_id in ids:
            tokens[tokenizer.vocab[token_id]] += count
    found = []
    for vocab_size in reversed(vocab_sizes):
        tokens = unmerged(tokens, merges, ranks, vocab_size - 256)
        found.append(tokens)
    yield from reversed(found)


def unmerged(
    tokens: Mapping[bytes, int], merges: Sequence[Pair], ranks: Mapping[bytes, int], num_merges: int
) -> Counter[bytes]:
    """The same text with the first `num_merges` merges alone: tokens of the others fall apart into what they joined."""
    kept: Counter[bytes] = Counter({token: n for token, n in tokens.items() if ranks.get(token, -1) < num_merges})
    pending = Counter({ranks[token]: count for token, count in tokens.items() if token not in kept})
    latest = [-rank for rank in pending]
    heapq.heapify(latest)
    while latest:
        rank = -heapq.heappop(latest)  # what it is made of was made before it
        for token in merges[rank]:
            made_by = ranks.get(token, -1)
            if made_by < num_merges:
                kept[token] += pending[rank]
            else:
                if made_by not in pending:
                    heapq.heappush(latest, -made_by)
                pending[made_by] += pending[rank]
    return kept


def _ranking(counts: Counter[bytes], about: Mapping[str, Any]) -> Iterator[FrequencyRow]:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    for rank in _spread(len(ranked)):
        piece, count = ranked[rank - 1]
        yield FrequencyRow(**about, kind="rank", rank=rank, count=count, piece=piece)


def _longest(merges: Sequence[Pair], counts: Counter[bytes], about: Mapping[str, Any]) -> Iterator[FrequencyRow]:
    tokens = sorted((left + right for left, right in merges), key=lambda token: (-len(token), -counts[token], token))
    for rank, token in enumerate(tokens[:LONGEST], 1):
        yield FrequencyRow(**about, kind="longest", rank=rank, count=counts[token], piece=token)


def _spread(last: int) -> list[int]:
    """Whole numbers from 1 to `last`, evenly spread on a logarithmic scale."""
    return sorted({round(last ** (place / (POINTS - 1))) for place in range(POINTS)}) if last else []


def _pre_tokens(path: str | os.PathLike[str]) -> Iterator[str]:
    specials = [END_OF_TEXT]
    pattern, pieces = special_pattern(specials), pre_token_pattern("gpt2")
    for segment in independent_segments(text_blocks(path), specials):
        for text in split_specials(segment, pattern)[::2]:
            yield from pieces.findall(text)


def _beginning(path: str | os.PathLike[str], out: Path, num_bytes: int) -> Path:
    def blocks() -> Iterable[bytes]:
        left = num_bytes
        for block in text_blocks(path):
            data = block.encode()[:left]
            yield data.decode(errors="ignore").encode()  # a character cut in two goes
            left -= len(data)
            if left == 0:
                return

    with atomic_path(out) as temporary, temporary.open("wb") as file:
        file.writelines(blocks())
    return out
