"""tiktoken's files: a token and its rank a line, where the rank is the id and the order of merging at once."""

import base64
import binascii
import os
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from core.files import write_text
from core.tokenizer.tokenizer import Tokenizer


def write_ranks(path: str | os.PathLike[str], tokenizer: Tokenizer) -> None:
    """Write a `.tiktoken` file: each token in base64, a space, its id.

    tiktoken has no list of merges: any two neighbours that spell a token merge, the lowest id first. That gives our ids
    if every merge's token has a higher id than that of the merge before, and its bytes alone, merged by the earlier
    ones, end as the two that it joins. Trained vocabularies are so, and ids that are not tokens do no harm: the special
    tokens between bytes and merges leave a gap. Both conditions are checked.

    The file holds neither pattern nor special tokens; tiktoken is given them beside it:

        tiktoken.Encoding(
            "mine",
            pat_str=PATTERNS[tokenizer.pattern],
            mergeable_ranks=tiktoken.load.load_tiktoken_bpe(path),
            special_tokens={token: tokenizer.special_id(token) for token in tokenizer.special_tokens},
        )

    Where one special token begins another tiktoken takes either, not always the longer.

    Raises:
        ValueError: If the ids are no such order; names the merge or the token.
    """
    special_ids = {tokenizer.special_id(token) for token in tokenizer.special_tokens}
    ids: dict[bytes, int] = {}
    for token_id in sorted(tokenizer.vocab, key=lambda token_id: (token_id in special_ids, token_id)):
        ids.setdefault(tokenizer.vocab[token_id], token_id)
    products = [left + right for left, right in tokenizer.merges]
    for rank, (before, product) in enumerate(pairwise(products), start=1):
        if ids[product] <= ids[before]:
            raise ValueError(
                f"merge {rank} {tokenizer.merges[rank]} makes id {ids[product]} after id {ids[before]}: "
                "tiktoken merges in the order of the ids"
            )
    ranks = {token: ids[token] for token in [*(bytes([value]) for value in range(256)), *products]}
    for token, token_id in ids.items():
        if token not in ranks and token_id not in special_ids:
            raise ValueError(
                f"no merge makes id {token_id}, {token!r}, and it is not special: tiktoken would merge what spells it"
            )
    for rank, (ours, theirs) in enumerate(zip(tokenizer.merges, merges_of_ranks(ranks), strict=True)):
        if ours != theirs:
            raise ValueError(f"merge {rank} is {ours}: tiktoken would first make {theirs} of these bytes")
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in _by_rank(ranks)]
    write_text(path, "".join(lines))


def read_ranks(
    path: str | os.PathLike[str], pattern: str, special_tokens: Mapping[str, int] | None = None
) -> Tokenizer:
    """Read a `.tiktoken` file.

    Args:
        path: Lines of a token in base64, a space and its rank.
        pattern: How text is cut into pre-tokens, a name in `core.tokenizer.pretokenize.PATTERNS`; the file has none.
        special_tokens: Token to id; the file has none either.

    Raises:
        ValueError: If the file is missing or damaged, a token is not two of lower rank joined, or a special token's id
            is taken.
    """
    ranks = _read_lines(Path(path))
    vocab = {rank: token for token, rank in ranks.items()}
    for token, token_id in (special_tokens or {}).items():
        if token_id < 0 or vocab.setdefault(token_id, token.encode()) != token.encode():
            taken = f"it is that of {vocab[token_id]!r}" if token_id >= 0 else "it must not be negative"
            raise ValueError(f"special token {token!r} has id {token_id}: {taken}")
    try:
        tokenizer = Tokenizer(vocab, merges_of_ranks(ranks), list(special_tokens or {}), pattern=pattern)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    for token, token_id in (special_tokens or {}).items():
        if tokenizer.special_id(token) != token_id:
            raise ValueError(f"special token {token!r} has id {token_id}: {tokenizer.special_id(token)} spells it too")
    return tokenizer


def looks_like_ranks(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins with a token in base64 and a number."""
    with Path(path).open("rb") as file:
        return re.match(rb"\s*[A-Za-z0-9+/]+=* \d+\s", file.read(4096) + b"\n") is not None


def merges_of_ranks(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The merges, in order, that give the same ids as merging whatever spells a token, the lowest rank first.

    A token's merge joins the two tokens that the lower ranks make of its bytes.

    This is exact. When all lower ranks are done, two neighbours that spell a token have had no merge across their outer
    ends, so between these all went as it goes with the token's bytes alone, and the two are those of its merge.

    >>> merges_of_ranks({b"a": 0, b"b": 1, b"ab": 2, b"abab": 3})
    [(b'a', b'b'), (b'ab', b'ab')]

    Raises:
        ValueError: If the lower ranks make a token of more than two.
    """
    merges = []
    for token, rank in _by_rank(ranks):
        if len(token) < 2:
            continue
        parts = _merge_below(token, ranks, rank)
        if len(parts) != 2:
            raise ValueError(f"token {token!r}, rank {rank}: tokens of lower rank make {parts} of it, not two")
        merges.append((parts[0], parts[1]))
    return merges


def _by_rank(ranks: Mapping[bytes, int]) -> list[tuple[bytes, int]]:
    return sorted(ranks.items(), key=lambda item: item[1])


def _merge_below(token: bytes, ranks: Mapping[bytes, int], limit: int) -> list[bytes]:
    """Merge a token's bytes by the ranks below a limit, all of whose tokens are two of lower rank."""
    parts = [token[place : place + 1] for place in range(len(token))]
    while len(parts) > 2:
        lowest, merged = min((ranks.get(left + right, limit), left + right) for left, right in pairwise(parts))
        if lowest >= limit:
            break
        # All of its places at once, from the left: a long token of repetitions then takes few rounds.
        joined: list[bytes] = []
        place = 0
        while place < len(parts):
            both = b"".join(parts[place : place + 2])
            joined.append(both if both == merged else parts[place])
            place += 2 if both == merged else 1
        parts = joined
    return parts


def _read_lines(path: Path) -> dict[bytes, int]:
    """Token to rank."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    ranks: dict[bytes, int] = {}
    numbers: set[int] = set()
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            encoded, rank_text = line.split()
            token, rank = base64.b64decode(encoded, validate=True), int(rank_text)
        except (ValueError, binascii.Error):
            token, rank = b"", -1
        if not token or rank < 0:
            raise ValueError(f"{path}: line {number} is {line[:20]!r}: a token in base64 and its rank were expected")
        if token in ranks or rank in numbers:
            raise ValueError(f"{path}: line {number} repeats the token or the rank of an earlier line: {line[:60]!r}")
        ranks[token] = rank
        numbers.add(rank)
    return ranks
