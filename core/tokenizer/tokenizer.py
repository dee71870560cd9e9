"""Encoding text into ids and back: the reference engine, in plain Python, and the way to the fast one."""

import hashlib
import heapq
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from core.files import read_json, write_json
from core.tokenizer import formats
from core.tokenizer.engines import choose
from core.tokenizer.pretokenize import (
    check_special_tokens,
    independent_segments,
    pre_token_pattern,
    special_pattern,
    split_specials,
)

if TYPE_CHECKING:
    import numpy as np

    from core.tokenizer.fast.decoding import Decoder
    from core.tokenizer.fast.engine import FastEncoder

FILES = ("vocab.json", "merges.txt", "special_tokens.json", "pre_tokenization.json")
"""What `Tokenizer.save` writes to a folder."""
_CACHE_ENTRIES = 1 << 17
_CACHE_LONGEST = 64
_SHORT_WORD = 32
"""Bytes up to which looking through all pairs is quicker than keeping a heap."""
_MANY_IDS = 25
"""Ids from which a fast decoder that is loaded already is worth its call."""


class _Cache(dict[str, list[int]]):
    """Pre-token to ids: what is missing is encoded, and kept unless it is long."""

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        super().__init__()
        self._encode = encode

    def __missing__(self, pre_token: str) -> list[int]:
        ids = self._encode(pre_token)
        if len(pre_token) <= _CACHE_LONGEST:
            if len(self) >= _CACHE_ENTRIES:  # memory stays bounded; the common ones are soon back
                self.clear()
            self[pre_token] = ids
        return ids


class Tokenizer:
    """Byte-level byte-pair encoding with a fixed vocabulary.

    Args:
        vocab: Id to bytes; must hold all 256 single bytes.
        merges: Pairs in the order they were learnt; earlier ones are applied first.
        special_tokens: Text that is always one token; those the vocabulary lacks get the next free ids.
        pattern: How text is cut into pre-tokens, a name in `core.tokenizer.pretokenize.PATTERNS`.

    Raises:
        ValueError: If a byte is missing, or a merge names tokens that the vocabulary lacks.
    """

    def __init__(
        self,
        vocab: dict[int, bytes],
        merges: Sequence[tuple[bytes, bytes]],
        special_tokens: Sequence[str] | None = None,
        *,
        pattern: str = "gpt2",
    ) -> None:
        self.pattern = pattern
        self._find_pre_tokens = pre_token_pattern(pattern).findall
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
        self._cache = _Cache(lambda pre_token: self._merge([self._byte_ids[byte] for byte in pre_token.encode()]))
        self._met: float = 0
        self._fast: FastEncoder | None = None
        self._decoder: Decoder | None = None

    @classmethod
    def from_files(
        cls,
        vocab_path: str | os.PathLike[str],
        merges_path: str | os.PathLike[str],
        special_tokens: Sequence[str] | None = None,
        *,
        pattern: str = "gpt2",
    ) -> "Tokenizer":
        """Read GPT-2's `vocab.json` and `merges.txt`."""
        return cls(formats.read_vocab(vocab_path), formats.read_merges(merges_path), special_tokens, pattern=pattern)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "Tokenizer":
        """Read what `save` wrote.

        A folder without `special_tokens.json` has no special tokens, one without `pre_tokenization.json` is GPT-2's.
        """
        folder = Path(folder)
        if folder.is_file():
            raise ValueError(f"{folder}: a file; a tokenizer is a folder that `workbook tokenizer train` wrote")
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such tokenizer folder; `workbook tokenizer train` makes one")
        missing = [name for name in FILES[:2] if not (folder / name).exists()]
        if missing:
            raise ValueError(f"{folder}: not a tokenizer folder (no {' and no '.join(missing)})")
        specials_path = folder / "special_tokens.json"
        special_tokens = read_json(specials_path) if specials_path.exists() else []
        if not isinstance(special_tokens, list) or not all(isinstance(token, str) for token in special_tokens):
            raise ValueError(f"{specials_path}: a list of strings was expected")
        pattern_path = folder / "pre_tokenization.json"
        content = read_json(pattern_path) if pattern_path.exists() else {"pattern": "gpt2"}
        pattern = content.get("pattern") if isinstance(content, dict) else content
        return cls.from_files(folder / "vocab.json", folder / "merges.txt", special_tokens, pattern=pattern)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `vocab.json`, `merges.txt`, `special_tokens.json` and `pre_tokenization.json`."""
        folder = Path(folder)
        formats.write_vocab(folder / "vocab.json", self.vocab, self._special_ids.values())
        formats.write_merges(folder / "merges.txt", self.merges)
        write_json(folder / "special_tokens.json", self.special_tokens)
        write_json(folder / "pre_tokenization.json", {"pattern": self.pattern})

    @property
    def vocab_size(self) -> int:
        """One more than the largest id that can be written: the rows that an embedding table needs."""
        return max(*self._id_of.values(), *self._special_ids.values()) + 1

    @property
    def tokenizer_id(self) -> str:
        """SHA-256 of vocabulary, merges, special tokens and pattern: equal ids mean equal encodings."""
        content = [
            sorted((token_id, token.hex()) for token, token_id in self._id_of.items()),
            [(left.hex(), right.hex()) for left, right in self.merges],
            self._special_ids,
        ]
        if self.pattern != "gpt2":
            content.append(self.pattern)
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

        Once a few megabytes have come, in one text or in many, the fast engine is loaded and does the rest.
        """
        fast = self._fast_if_worth(len(text))
        return self.encode_reference(text) if fast is None else fast.encode(text)

    def encode_reference(self, text: str) -> list[int]:
        """`encode` by the reference engine, whatever the size."""
        ids_of = self._cache.__getitem__
        if self._special_pattern is None or self._special_pattern.search(text) is None:
            return list(chain.from_iterable(map(ids_of, self._find_pre_tokens(text))))
        ids: list[int] = []
        for place, piece in enumerate(split_specials(text, self._special_pattern)):
            if place % 2:
                ids.append(self._special_ids[piece])
            else:
                ids += chain.from_iterable(map(ids_of, self._find_pre_tokens(piece)))
        return ids

    def _worth_loading(self, size: int) -> bool:
        """Whether a fast engine would have saved more by now, with a text of so many characters, than it costs."""
        self._met += size
        return choose("auto", self._met, "encoding") == "fast"

    def _fast_if_worth(self, size: int) -> "FastEncoder | None":
        if self._fast is None and self._worth_loading(size):
            try:
                self.fast_encoder()
            except ValueError:  # it cannot hold this vocabulary
                self._met = -math.inf
        return self._fast

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""
        fast = self._fast_if_worth(sum(map(len, texts)))
        return [self.encode_reference(text) for text in texts] if fast is None else fast.encode_batch(texts)

    def fast_encoder(self, threads: int | None = None) -> "FastEncoder":
        """The compiled engine with this vocabulary; it keeps what it has met, and `threads` of an earlier call.

        Raises:
            ValueError: If the vocabulary is larger than the engine holds.
            ImportError: Where Numba or NumPy is missing.
        """
        if self._fast is None or (threads is not None and threads != self._fast.threads):
            from core.tokenizer.fast.engine import FastEncoder
            from core.tokenizer.fast.merging import merge_tables

            merges = merge_tables(self._byte_ids, self._merged, len(self.merges))
            self._fast = FastEncoder(merges, self.pattern, self._special_ids, self.vocab_size, threads)
        return self._fast

    def encode_iterable(self, iterable: Iterable[str]) -> Iterator[int]:
        """Lazily encode a stream of text; the ids are those of the whole text, wherever the stream is cut."""
        for segment in independent_segments(iterable, self.special_tokens, self.pattern):
            yield from self.encode(segment)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Ids to bytes.

        Raises:
            ValueError: For an id that the vocabulary lacks.
        """
        return bytes(self._decode(ids))

    def _decode(self, ids: Iterable[int]) -> "bytes | np.ndarray":
        ids = ids if hasattr(ids, "__len__") else list(ids)
        if len(ids) >= _MANY_IDS and (self._decoder or self._fast or self._worth_loading(4 * len(ids))):
            if self._decoder is None:
                from core.tokenizer.fast.decoding import Decoder

                self._decoder = Decoder(self.vocab)
            return self._decoder.decode(ids)
        if hasattr(ids, "tolist"):  # of an array, whose own numbers are slow keys
            ids = ids.tolist()
        try:
            return b"".join(map(self.vocab.__getitem__, ids))
        except KeyError as error:
            raise ValueError(f"id {error.args[0]} is not in the vocabulary of {self.vocab_size}") from None

    def decode(self, ids: Iterable[int]) -> str:
        """Ids to text; bytes that are not UTF-8 (a character cut in two, say) become U+FFFD."""
        return str(self._decode(ids), "utf-8", errors="replace")

    def _merge(self, ids: list[int]) -> list[int]:
        """Merge until no merge applies: the earliest learnt first, of its places the leftmost."""
        if len(ids) > _SHORT_WORD:
            return self._merge_long(ids)
        find = self._merged.get
        while True:
            best, place = None, 0
            for position, pair in enumerate(pairwise(ids)):
                merge = find(pair)
                if merge is not None and (best is None or merge < best):
                    best, place = merge, position
            if best is None:
                return ids
            ids[place : place + 2] = [best[1]]

    def _merge_long(self, ids: list[int]) -> list[int]:
        """`_merge` in O(n log n): a heap of candidates and a linked list."""
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
