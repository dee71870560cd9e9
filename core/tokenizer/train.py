"""Training: which byte pairs become tokens. Correct and incremental; the plainest form that is not quadratic."""

import heapq
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from core.files import text_blocks, text_size
from core.tokenizer.engines import choose
from core.tokenizer.pretokenize import (
    check_special_tokens,
    independent_segments,
    pre_token_pattern,
    special_pattern,
    split_specials,
)

Pair = tuple[int, int]


def train_bpe(
    input_path: str | os.PathLike[str],
    vocab_size: int,
    special_tokens: Sequence[str],
    *,
    pattern: str = "gpt2",
    engine: str = "auto",
    threads: int | None = None,
    on_count: Callable[[int], None] | None = None,
    on_merge: Callable[[int, int], None] | None = None,
) -> tuple[dict[int, bytes], list[tuple[bytes, bytes]]]:
    """Train byte-pair encoding on a text file.

    Pre-tokens start as their UTF-8 bytes. Again and again the adjacent pair that occurs most often becomes one token;
    among equally frequent pairs the greatest by (left bytes, right bytes) is taken. Ids 0-255 are the bytes, then come
    the special tokens in the given order, then one id per merge, also for a merge that spells a special token. Stops
    early when no pair is left.

    Args:
        input_path: UTF-8 text, plain, `.gz` or `.zst`; newlines are read as they stand.
        vocab_size: Ids in all, at least 256 + the special tokens.
        special_tokens: They cut the text and never merge; where they overlap the longest wins.
        pattern: How text is cut into pre-tokens, a name in `core.tokenizer.pretokenize.PATTERNS`.
        engine: `reference` (this file), `fast` (compiled), or `auto`: whichever is quicker. They give the same merges.
        threads: That the fast engine counts with; one a core if not given.
        on_count: Called with the bytes counted so far.
        on_merge: Called with (merges made, merges wanted), for a progress bar.

    Returns:
        The vocabulary, id to bytes, and the merges in the order they were made.

    Raises:
        ValueError: For a vocabulary too small, bad special tokens, or a file that is missing, empty or not UTF-8.

    Reference:
        Sennrich et al. (2016), algorithm 1, arXiv:1508.07909, on bytes as in Radford et al. (2019), section 2.2.
    """
    return train_bpe_files(
        [input_path],
        vocab_size,
        special_tokens,
        pattern=pattern,
        engine=engine,
        threads=threads,
        on_count=on_count,
        on_merge=on_merge,
    )


def train_bpe_files(
    input_paths: Sequence[str | os.PathLike[str]],
    vocab_size: int,
    special_tokens: Sequence[str],
    *,
    pattern: str = "gpt2",
    engine: str = "auto",
    threads: int | None = None,
    on_count: Callable[[int], None] | None = None,
    on_merge: Callable[[int, int], None] | None = None,
) -> tuple[dict[int, bytes], list[tuple[bytes, bytes]]]:
    """`train_bpe` on several files, counted together; no pre-token crosses from one into the next."""
    check_special_tokens(special_tokens)
    num_merges = merges_wanted(vocab_size, special_tokens)
    pre_token_pattern(pattern)
    if choose(engine, text_size(input_paths), "training") == "fast":
        from core.tokenizer.fast.engine import count_files
        from core.tokenizer.fast.learning import learn_merges as learn

        counter = count_files(input_paths, special_tokens, pattern, threads=threads, progress=on_count)
        merges = learn(*counter.words(), num_merges, on_merge)
    else:
        counts: Counter[str] = Counter()
        done = 0
        for path in input_paths:
            for segment in independent_segments(text_blocks(path), special_tokens, pattern):
                counts.update(count_pre_tokens([segment], special_tokens, pattern))
                if on_count is not None:
                    done += len(segment.encode())
                    on_count(done)
        merges = learn_merges(counts, num_merges, on_merge)
    return vocabulary_of(merges, special_tokens), merges


def merges_wanted(vocab_size: int, special_tokens: Sequence[str]) -> int:
    """How many merges make a vocabulary of this size; ValueError if bytes and special tokens fill it already."""
    smallest = 256 + len(special_tokens)
    if vocab_size < smallest:
        specials = f"{len(special_tokens)} special token{'' if len(special_tokens) == 1 else 's'}"
        raise ValueError(f"vocab_size is {vocab_size}: it must be at least {smallest} (256 bytes and {specials})")
    return vocab_size - smallest


def vocabulary_of(merges: Sequence[tuple[bytes, bytes]], special_tokens: Sequence[str]) -> dict[int, bytes]:
    """The bytes, the special tokens, then a token for each merge."""
    tokens = [bytes([value]) for value in range(256)]
    tokens += [token.encode() for token in special_tokens]
    tokens += [left + right for left, right in merges]
    return dict(enumerate(tokens))


def count_pre_tokens(blocks: Iterable[str], special_tokens: Sequence[str], pattern_name: str = "gpt2") -> Counter[str]:
    """How often each pre-token occurs in a stream of text; special tokens are left out."""
    counts: Counter[str] = Counter()
    pattern = special_pattern(special_tokens)
    find_pre_tokens = pre_token_pattern(pattern_name).findall
    for segment in independent_segments(blocks, special_tokens, pattern_name):
        for text in split_specials(segment, pattern)[::2]:
            counts.update(find_pre_tokens(text))
    return counts


def learn_merges(
    counts: Counter[str], num_merges: int, on_merge: Callable[[int, int], None] | None = None
) -> list[tuple[bytes, bytes]]:
    """The merges that byte-pair encoding makes on counted pre-tokens, in order.

    A pair's count changes only in the words that hold the merged pair, so only those are recounted. The heap may hold
    outdated entries, but always one as high as the pair's true count, since every rise is pushed: an entry found too
    high when it surfaces is put back with the true count.

    Symbols are numbered by merge; no two spell the same bytes, because inside the span of a token merges went as they
    would have gone in the span alone, and so end in the same last pair wherever the bytes recur.
    """
    symbols = [bytes([value]) for value in range(256)]
    words = [list(word.encode()) for word in counts]
    frequencies = list(counts.values())

    pair_counts: dict[Pair, int] = defaultdict(int)
    pair_words: dict[Pair, set[int]] = defaultdict(set)
    for index, word in enumerate(words):
        for pair in pairwise(word):
            pair_counts[pair] += frequencies[index]
            pair_words[pair].add(index)

    descending = [_descending(symbol) for symbol in symbols]

    def entry(pair: Pair) -> tuple[int, str, str, Pair]:
        return -pair_counts[pair], descending[pair[0]], descending[pair[1]], pair

    heap = [entry(pair) for pair in pair_counts]
    heapq.heapify(heap)

    merges: list[tuple[bytes, bytes]] = []
    while heap and len(merges) < num_merges:
        negative_count, _, _, pair = heapq.heappop(heap)
        count = pair_counts.get(pair, 0)
        if -negative_count != count:
            if 0 < count < -negative_count:
                heapq.heappush(heap, entry(pair))
            continue
        if count == 0:
            continue
        left, right = symbols[pair[0]], symbols[pair[1]]
        merges.append((left, right))
        merged = len(symbols)
        symbols.append(left + right)
        descending.append(_descending(left + right))

        risen: set[Pair] = set()
        for index in pair_words.pop(pair):
            word, frequency = words[index], frequencies[index]
            for old in pairwise(word):
                pair_counts[old] -= frequency
            words[index] = word = merge_pair(word, pair, merged)
            for new in pairwise(word):
                pair_counts[new] += frequency
                pair_words[new].add(index)
                if merged in new:
                    risen.add(new)
        if pair_counts[pair] == 0:
            del pair_counts[pair]
        for new in risen:
            heapq.heappush(heap, entry(new))
        if on_merge is not None:
            on_merge(len(merges), num_merges)
    return merges


def merge_pair(word: list[int], pair: Pair, merged: int) -> list[int]:
    """Replace every occurrence of a pair, from left to right, by one symbol."""
    result: list[int] = []
    position = 0
    while position < len(word):
        if position + 1 < len(word) and word[position] == pair[0] and word[position + 1] == pair[1]:
            result.append(merged)
            position += 2
        else:
            result.append(word[position])
            position += 1
    return result


_COMPLEMENT = {value: chr(255 - value) for value in range(256)}


def _descending(symbol: bytes) -> str:
    """A string that sorts in the reverse order of the bytes; the final sign puts a prefix behind what extends it."""
    return symbol.decode("latin-1").translate(_COMPLEMENT) + "\u0100"
