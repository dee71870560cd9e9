"""What the tokens of a text are, where they come from, and how their number falls as the vocabulary grows."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from core.tokenizer.pretokenize import pre_token_pattern, special_pattern, split_specials
from core.tokenizer.tokenizer import Tokenizer
from core.tokenizer.train import count_pre_tokens, learn_merges

Pair = tuple[bytes, bytes]


def train_on_text(
    text: str, vocab_size: int, special_tokens: Sequence[str] = (), *, pattern: str = "gpt2"
) -> Tokenizer:
    """Train on a short text in memory; as `train_bpe` on a file, but an empty text is none to complain about."""
    counts = count_pre_tokens([text], special_tokens, pattern)
    return _of_merges(learn_merges(counts, vocab_size - 256 - len(special_tokens)), special_tokens, pattern)


def with_vocab_size(tokenizer: Tokenizer, vocab_size: int) -> Tokenizer:
    """The tokenizer that training would have given for a smaller vocabulary: its merges are the first of this one's."""
    num_merges = max(0, vocab_size - 256 - len(tokenizer.special_tokens))
    return _of_merges(tokenizer.merges[:num_merges], tokenizer.special_tokens, tokenizer.pattern)


def token_ranks(merges: Sequence[Pair]) -> dict[bytes, int]:
    """The merge that makes each token of several bytes; of those that spell the same bytes the first."""
    ranks: dict[bytes, int] = {}
    for rank, (left, right) in enumerate(merges):
        ranks.setdefault(left + right, rank)
    return ranks


class Anatomy:
    """A tokenizer that tells what its tokens are.

    Args:
        tokenizer: Any.
        about: A few words on where it comes from.
    """

    def __init__(self, tokenizer: Tokenizer, about: str = "") -> None:
        self.tokenizer = tokenizer
        self.about = about
        self.ranks = token_ranks(tokenizer.merges)
        self._special_ids = {tokenizer.special_id(token) for token in tokenizer.special_tokens}

    def rows(self, text: str | Sequence[int]) -> list[dict[str, Any]]:
        """A row for each token of a text, or for each of these ids: what it is, where it lies, where it comes from.

        Returns:
            `id`, `token` (its bytes), `start` (offset in bytes), `special`, `rank` and `pair` of the merge that makes
            it (None for bytes and special tokens).

        Raises:
            ValueError: For an id that the vocabulary lacks.
        """
        ids = self.tokenizer.encode(text) if isinstance(text, str) else text
        rows: list[dict[str, Any]] = []
        start = 0
        for token_id in ids:
            token = self.tokenizer.decode_bytes([token_id])
            special = token_id in self._special_ids
            rank = None if special else self.ranks.get(token)
            pair = None if rank is None else self.tokenizer.merges[rank]
            rows.append(
                {"id": token_id, "token": token, "start": start, "special": special, "rank": rank, "pair": pair}
            )
            start += len(token)
        return rows

    def starts(self, text: str) -> set[int]:
        """Where the text's pre-tokens begin, as `pre_token_starts` says."""
        return pre_token_starts(text, self.tokenizer.pattern, self.tokenizer.special_tokens)


def pre_token_starts(text: str, pattern: str, special_tokens: Sequence[str] = ()) -> set[int]:
    """Where pre-tokens and special tokens begin, as offsets in the UTF-8 bytes of the text.

    >>> sorted(pre_token_starts("né 12", "gpt2"))
    [0, 3]
    """
    starts, offset = set(), 0
    for place, piece in enumerate(split_specials(text, special_pattern(special_tokens))):
        pieces = [piece] if place % 2 else pre_token_pattern(pattern).findall(piece)
        for length in (len(part.encode()) for part in pieces):
            starts.add(offset)
            offset += length
    return starts


def lengths(tokenizer: Tokenizer, text: str, vocab_sizes: Iterable[int]) -> list[int]:
    """How many tokens a text has with the first merges of a trained tokenizer, at each size of the vocabulary.

    One encoding tells them all: with the merges of a rank below n alone the text has as many tokens more as merges of
    higher ranks were made. That holds where each merge joins tokens made before it, as training makes them.

    Args:
        tokenizer: With ids as training gives them: bytes, special tokens, a token a merge.
        text: What is encoded.
        vocab_sizes: Ascending.
    """
    tokens = Counter(tokenizer.vocab[token_id] for token_id in tokenizer.encode(text))
    applied = merges_applied(tokens, tokenizer.merges, token_ranks(tokenizer.merges))
    left, ascending, place = tokens.total() + applied.total(), sorted(applied), 0
    found = []
    for vocab_size in vocab_sizes:
        num_merges = vocab_size - 256 - len(tokenizer.special_tokens)
        while place < len(ascending) and ascending[place] < num_merges:
            left -= applied[ascending[place]]
            place += 1
        found.append(left)
    return found


def spread_sizes(smallest: int, largest: int, chosen: int, number: int = 25) -> tuple[int, ...]:
    """Vocabulary sizes for a curve, equally far apart on a logarithmic scale, and the chosen one.

    >>> spread_sizes(256, 1024, 300, 3)
    (256, 300, 512, 1024)
    """
    spread = (round(smallest * (largest / smallest) ** (step / (number - 1))) for step in range(number))
    return tuple(sorted({chosen, *spread}))


def rates(tokenizer: Tokenizer, text: str, vocab_sizes: Iterable[int]) -> list[dict[str, Any]]:
    """For a figure: `vocab_size` and `bytes_per_token` of a text, as `lengths` counts; no rows of an empty text."""
    num_bytes, vocab_sizes = len(text.encode()), list(vocab_sizes)
    counts = lengths(tokenizer, text, vocab_sizes) if text else []
    return [
        {"vocab_size": size, "bytes_per_token": num_bytes / count}
        for size, count in zip(vocab_sizes, counts, strict=bool(text))
    ]


def merges_applied(tokens: Mapping[bytes, int], merges: Sequence[Pair], ranks: Mapping[bytes, int]) -> Counter[int]:
    """How often each merge was made on the way from bytes to these tokens.

    Args:
        tokens: How often each token occurs.
        merges: Of the tokenizer.
        ranks: As `token_ranks` gives them for these merges.
    """
    pending = Counter({ranks[token]: count for token, count in tokens.items() if token in ranks})
    applied: Counter[int] = Counter()
    while pending:
        rank = max(pending)  # what a token is made of was made before it
        count = pending.pop(rank)
        applied[rank] += count
        for part in merges[rank]:
            if part in ranks:
                pending[ranks[part]] += count
    return applied


def _of_merges(merges: Sequence[Pair], special_tokens: Sequence[str], pattern: str) -> Tokenizer:
    tokens = [bytes([value]) for value in range(256)]
    tokens += [token.encode() for token in special_tokens]
    tokens += [left + right for left, right in merges]
    return Tokenizer(dict(enumerate(tokens)), merges, special_tokens, pattern=pattern)
