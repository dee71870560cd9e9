"""Encoding text into ids and back: the reference engine, in plain Python."""

import hashlib
import heapq
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from core.files import read_json, write_json
from core.tokenizer import formats
from core.tokenizer.pretokenize import (
    PRE_TOKEN,
    check_special_tokens,
    independent_segments,
    special_pattern,
    split_specials,
)

_CACHE_ENTRIES = 1 << 17
_CACHE_LONGEST = 64


class Tokenizer:
    """Byte-level byte-pair encoding with a fixed vocabulary.

    Args:
        vocab: Id to bytes; must hold all 256 single bytes.
        merges: Pairs in the order they were learnt; earlier ones are applied first.
        special_tokens: Text that is always one token; those the vocabulary lacks get the next free ids.

    Raises:
        ValueError: If a byte is missing, or a merge names tokens that the vocabulary lacks.
    """

    def __init__(
        self,
        vocab: dict[int, bytes],
        merges: Sequence[tuple[bytes, bytes]],
        special_tokens: Sequence[str] | None = None,
    ) -> None:
        self.vocab = dict(vocab)
        self.merges = list(merges)
        self.special_tokens = list(special_tokens or ())
        check_special_tokens(self.special_tokens)

        self._id_of: dict[bytes, int] = {}
        for token_id in sorted(self.vocab):
            self._id_of.setdefault(self.vocab[token_id], token_id)
        for token in self.special_tokens:
            if token.encode() not in self._id_of:
                token_id = max(self.vocab, default=-1) + 1
                self.vocab[token_id] = token.encode()
                self._id_of[token.encode()] = token_id
        missing = [value for value in range(256) if bytes([value]) not in self._id_of]
        if missing:
            raise ValueError(f"the vocabulary lacks {len(missing)} of the 256 single bytes, the first is {missing[0]}")

        self._byte_ids = [self._id_of[bytes([value])] for value in range(256)]
        self._special_ids = {token: self._find_special(token.encode()) for token in self.special_tokens}
        self._special_pattern = special_pattern(self.special_tokens)
        self._merged: dict[tuple[int, int], tuple[int, int]] = {}
        for rank, (left, right) in enumerate(self.merges):
            try:
                pair = self._id_of[left], self._id_of[right]
                self._merged.setdefault(pair, (rank, self._id_of[left + right]))
            except KeyError as error:
                raise ValueError(
                    f"merge {rank} ({left!r}, {right!r}): the vocabulary has no token {error.args[0]!r}"
                ) from None
        self._cache: dict[str, list[int]] = {}

    @classmethod
    def from_files(
        cls,
        vocab_path: str | os.PathLike[str],
        merges_path: str | os.PathLike[str],
        special_tokens: Sequence[str] | None = None,
    ) -> "Tokenizer":
        """Read GPT-2's `vocab.json` and `merges.txt`."""
        return cls(formats.read_vocab(vocab_path), formats.read_merges(merges_path), special_tokens)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "Tokenizer":
        """Read what `save` wrote; a folder without `special_tokens.json` has no special tokens."""
        folder = Path(folder)
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such tokenizer folder; `workbook tokenizer train` makes one")
        specials_path = folder / "special_tokens.json"
        special_tokens = read_json(specials_path) if specials_path.exists() else []
        if not isinstance(special_tokens, list) or not all(isinstance(token, str) for token in special_tokens):
            raise ValueError(f"{specials_path}: a list of strings was expected")
        return cls.from_files(folder / "vocab.json", folder / "merges.txt", special_tokens)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `vocab.json`, `merges.txt` and `special_tokens.json`."""
        folder = Path(folder)
        formats.write_vocab(folder / "vocab.json", self.vocab, self._special_ids.values())
        formats.write_merges(folder / "merges.txt", self.merges)
        write_json(folder / "special_tokens.json", self.special_tokens)

    @property
    def vocab_size(self) -> int:
        """One more than the largest id that can be written: the rows that an embedding table needs."""
        return max(*self._id_of.values(), *self._special_ids.values()) + 1

    @property
    def tokenizer_id(self) -> str:
        """SHA-256 of vocabulary, merges and special tokens: equal ids mean equal encodings."""
        content = [
            sorted((token_id, token.hex()) for token, token_id in self._id_of.items()),
            [(left.hex(), right.hex()) for left, right in self.merges],
            self._special_ids,
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def special_id(self, token: str) -> int | None:
        """The id of a special token; None if it is not one."""
        return self._special_ids.get(token)

    def _find_special(self, token: bytes) -> int:
        """A special token's id: if its bytes have several, the first that is not a plain byte's."""
        ids = [number for number, value in self.vocab.items() if value == token]
        return min(ids, key=lambda number: (number < 256, number))

    def encode(self, text: str) -> list[int]:
        """Text to ids.

        Special tokens are cut out first, the longest where they overlap; each pre-token of the rest starts as bytes and
        the applicable merge that was learnt earliest is made, the leftmost first, until none applies.
        """
        ids: list[int] = []
        for place, piece in enumerate(split_specials(text, self._special_pattern)):
            if place % 2:
                ids.append(self._special_ids[piece])
            else:
                for pre_token in PRE_TOKEN.findall(piece):
                    cached = self._cache.get(pre_token)
                    ids += self._encode_pre_token(pre_token) if cached is None else cached
        return ids

    def encode_iterable(self, iterable: Iterable[str]) -> Iterator[int]:
        """Lazily encode a stream of text; the ids are those of the whole text, wherever the stream is cut."""
        for segment in independent_segments(iterable, self.special_tokens):
            yield from self.encode(segment)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Ids to bytes.

        Raises:
            ValueError: For an id that the vocabulary lacks.
        """
        ids = list(ids)
        try:
            return b"".join([self.vocab[token_id] for token_id in ids])
        except KeyError as error:
            raise ValueError(f"id {error.args[0]} is not in the vocabulary of {self.vocab_size}") from None

    def decode(self, ids: Iterable[int]) -> str:
        """Ids to text; bytes that are not UTF-8 (a character cut in two, say) become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def _encode_pre_token(self, pre_token: str) -> list[int]:
        ids = self._merge([self._byte_ids[byte] for byte in pre_token.encode()])
        if len(pre_token) <= _CACHE_LONGEST:
            if len(self._cache) >= _CACHE_ENTRIES:  # memory stays bounded; the common ones are soon back
                self._cache.clear()
            self._cache[pre_token] = ids
        return ids

    def _merge(self, ids: list[int]) -> list[int]:
        """Merge until no merge applies; a heap of candidates and a linked list keep it O(n log n)."""
        end = len(ids)
        following = list(range(1, end + 1))
        previous = list(range(-1, end - 1))
        candidates: list[tuple[int, int, int, int]] = []  # rank, position, left id, right id

        def propose(position: int) -> None:
            if position >= 0 and following[position] < end:
                left, right = ids[position], ids[following[position]]
                merge = self._merged.get((left, right))
                if merge is not None:
                    heapq.heappush(candidates, (merge[0], position, left, right))

        for position in range(end - 1):
            propose(position)
        while candidates:
            _, position, left, right = heapq.heappop(candidates)
            after = following[position]
            # Outdated: a neighbour merged since. A swallowed position holds -1 and matches nothing.
            if ids[position] != left or after >= end or ids[after] != right:
                continue
            ids[position] = self._merged[left, right][1]
            ids[after] = -1
            following[position] = following[after]
            if following[after] < end:
                previous[following[after]] = position
            propose(previous[position])
            propose(position)
        return [token_id for token_id in ids if token_id >= 0]
