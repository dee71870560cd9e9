"""Ours and other libraries' tokenizers behind one face: the same files and ids in, the same files and ids out.

Each is used in the way that was found fastest. A class names in `package` what must be installed, and has of the
methods `train`, `encode_file`, `encode`, `decode` and `decode_bytes` those that its library can do.
"""

import base64
import importlib.metadata
import importlib.util
import itertools
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from core.corpus.tokens import encode_files, token_dtype
from core.files import text_blocks
from core.tokenizer import Tokenizer, train_bpe
from core.tokenizer.formats import unspell
from core.tokenizer.huggingface import write_huggingface
from core.tokenizer.pretokenize import END_OF_TEXT, PATTERNS, independent_segments
from core.tokenizer.ranks import write_ranks

END_OF_TEXT_ID = 256
"""The first after the bytes, as in every vocabulary that `train_bpe` makes with this one special token."""
SEGMENT_BYTES = 1 << 16
"""Text is handed in pieces of this size to libraries that take no files."""
SEGMENTS = 64
"""So many pieces at once."""


class Ours:
    """This project's fast engine, whatever the size."""

    package = "lm-workbook"
    engine = "fast"

    def __init__(self, folder: Path | None, vocab_size: int, num_threads: int) -> None:
        if self.engine == "fast" and importlib.util.find_spec("numba"):
            # As the others, imported before the clock starts: Numba imports most of itself when a loop is first called,
            # and what other packages have it import (awkward, which gigatoken brings). `process_s` has it all.
            from numba.core import entrypoints, registry

            entrypoints.init_all()
            registry.cpu_target.target_context.refresh()
        self._tokenizer = Tokenizer.load(folder) if folder else None

    def train(self, corpus: Path, vocab_size: int) -> Any:
        """Train on a text file."""
        return train_bpe(corpus, vocab_size, [END_OF_TEXT], engine=self.engine)

    def tokens(self, trained: Any) -> list[bytes]:
        """What the merges made, in order."""
        return [left + right for left, right in trained[1]]

    def save(self, trained: Any, folder: Path) -> None:
        """Write the tokenizer in every format that the others read."""
        tokenizer = Tokenizer(*trained, [END_OF_TEXT])
        tokenizer.save(folder)
        write_huggingface(folder / "tokenizer.json", tokenizer)
        write_ranks(folder / "ranks.tiktoken", tokenizer)

    def encode_file(self, corpus: Path, out: Path) -> float | None:
        """Encode a text file to a token file; seconds before the writing, where that comes last."""
        encode_files([corpus], self._tokenizer, out, engine=self.engine)
        return None

    def encode(self, text: str) -> list[int]:
        """Encode a string, as a program that encodes many: the engine is loaded, as after the first few megabytes."""
        self._tokenizer.fast_encoder()
        return self._tokenizer.encode(text)

    def decode(self, ids: list[int]) -> str:
        """Decode a list of ids to text."""
        return self._tokenizer.decode(ids)

    def decode_bytes(self, ids: np.ndarray) -> bytes:
        """Decode an array of ids to bytes."""
        return self._tokenizer.decode_bytes(ids)


class OursReference(Ours):
    """This project's engine in plain Python."""

    engine = "reference"
    decode = decode_bytes = None  # the tokenizer chooses

    def encode(self, text: str) -> list[int]:
        """Encode a string."""
        return self._tokenizer.encode_reference(text)


class HuggingFace:
    """`tokenizers`. Trained from a file it reads lines, and does not cut out the end marker."""

    package = "tokenizers"

    def __init__(self, folder: Path | None, vocab_size: int, num_threads: int) -> None:
        import tokenizers

        self._library = tokenizers
        self._dtype = token_dtype(vocab_size)
        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")) if folder else None

    def train(self, corpus: Path, vocab_size: int) -> Any:
        """Train on a text file."""
        byte_level = self._library.pre_tokenizers.ByteLevel
        tokenizer = self._library.Tokenizer(self._library.models.BPE())
        tokenizer.pre_tokenizer = byte_level(add_prefix_space=False)
        trainer = self._library.trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=byte_level.alphabet(),
            show_progress=False,
        )
        tokenizer.train([str(corpus)], trainer)
        return tokenizer

    def tokens(self, trained: Any) -> list[bytes]:
        """What the merges made, in order."""
        return [unspell(left) + unspell(right) for left, right in json.loads(trained.to_str())["model"]["merges"]]

    def encode_file(self, corpus: Path, out: Path) -> float | None:
        """Encode a text file to a token file; seconds before the writing, where that comes last."""
        with out.open("wb") as file:
            for batch in _batches(corpus):
                for encoding in self._tokenizer.encode_batch_fast(batch, add_special_tokens=False):
                    np.array(encoding.ids, self._dtype).tofile(file)
        return None

    def encode(self, text: str) -> list[int]:
        """Encode a string."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids


class Tiktoken:
    """`tiktoken`, with the pattern that it ships for GPT-2, which is ours written for its engine."""

    package = "tiktoken"

    def __init__(self, folder: Path | None, vocab_size: int, num_threads: int) -> None:
        import tiktoken
        from tiktoken_ext.openai_public import r50k_pat_str

        self._dtype = token_dtype(vocab_size)
        self._num_threads = num_threads
        lines = (folder / "ranks.tiktoken").read_bytes().splitlines()
        ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}
        special_tokens = {END_OF_TEXT: END_OF_TEXT_ID}
        self._encoding = tiktoken.Encoding(
            "bench", pat_str=r50k_pat_str, mergeable_ranks=ranks, special_tokens=special_tokens
        )

    def encode_file(self, corpus: Path, out: Path) -> float | None:
        """Encode a text file to a token file; seconds before the writing, where that comes last."""

        def encode(segment: str) -> np.ndarray:
            return self._encoding.encode_to_numpy(segment, allowed_special="all").astype(self._dtype)

        with ThreadPoolExecutor(self._num_threads) as pool, out.open("wb") as file:
            for batch in _batches(corpus):
                for ids in pool.map(encode, batch):
                    ids.tofile(file)
        return None

    def encode(self, text: str) -> list[int]:
        """Encode a string without looking for special tokens in it."""
        return self._encoding.encode_ordinary(text)

    def decode(self, ids: list[int]) -> str:
        """Decode a list of ids to text."""
        return self._encoding.decode(ids)

    def decode_bytes(self, ids: np.ndarray) -> bytes:
        """Decode an array of ids to bytes."""
        return self._encoding.decode_bytes(ids.tolist())


class RustBPE:
    """`rustbpe`, which is for training."""

    package = "rustbpe"

    def __init__(self, folder: Path | None, vocab_size: int, num_threads: int) -> None:
        import rustbpe

        self._tokenizer = rustbpe.Tokenizer()

    def train(self, corpus: Path, vocab_size: int) -> Any:
        """Train on the documents of a text file."""
        segments = _segments(corpus)
        documents = itertools.chain.from_iterable(segment.split(END_OF_TEXT) for segment in segments)
        self._tokenizer.train_from_iterator(documents, vocab_size - 1, pattern=PATTERNS["gpt2"])
        return self._tokenizer

    def tokens(self, trained: Any) -> list[bytes]:
        """What the merges made, in order."""
        return [bytes(token) for token, rank in sorted(trained.get_mergeable_ranks(), key=_second) if rank >= 256]


class Gigatoken:
    """`gigatoken`, given whole files: told to split documents it is no faster, and leaves out their end markers."""

    package = "gigatoken"

    def __init__(self, folder: Path | None, vocab_size: int, num_threads: int) -> None:
        import awkward  # noqa: F401  # it would come with the first result
        import gigatoken

        self._library = gigatoken
        self._dtype = token_dtype(vocab_size)
        self._tokenizer = gigatoken.Tokenizer(str(folder / "tokenizer.json")) if folder else None

    def train(self, corpus: Path, vocab_size: int) -> Any:
        """Train on a text file."""
        return self._library.train_bpe(str(corpus), vocab_size, [END_OF_TEXT], separator=END_OF_TEXT.encode())

    def tokens(self, trained: Any) -> list[bytes]:
        """What the merges made, in order."""
        return [left + right for left, right in trained[1]]

    def encode_file(self, corpus: Path, out: Path) -> float | None:
        """Encode a text file to a token file; seconds before the writing, where that comes last."""
        start = time.perf_counter()
        (ids,) = self._tokenizer.encode_files(self._library.TextFileSource([str(corpus)]))
        unwritten_s = time.perf_counter() - start
        np.asarray(ids).astype(self._dtype).tofile(out)
        return unwritten_s

    def encode(self, text: str) -> list[int]:
        """Encode a string."""
        return self._tokenizer.encode(text).tolist()

    def decode(self, ids: list[int]) -> str:
        """Decode a list of ids to text."""
        return self._tokenizer.decode(ids).decode()

    def decode_bytes(self, ids: np.ndarray) -> bytes:
        """Decode an array of ids to bytes."""
        return self._tokenizer.decode(ids.astype(np.uint32))


CONTESTANTS: dict[str, type] = {
    "ours": Ours,
    "ours-reference": OursReference,
    "tokenizers": HuggingFace,
    "tiktoken": Tiktoken,
    "rustbpe": RustBPE,
    "gigatoken": Gigatoken,
}
"""By name of the engine."""


def can(engine: str, method: str) -> bool:
    """Whether an engine has a method of the face."""
    return getattr(CONTESTANTS[engine], method, None) is not None


def installed(engine: str) -> bool:
    """Whether what an engine needs is there."""
    package = CONTESTANTS[engine].package
    return package == Ours.package or importlib.util.find_spec(package) is not None


def package_version(package: str) -> str | None:
    """The version of an installed package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _segments(corpus: Path) -> Iterator[str]:
    return independent_segments(text_blocks(corpus, SEGMENT_BYTES), [END_OF_TEXT])


def _batches(corpus: Path) -> Iterator[list[str]]:
    """Pieces of a text file whose ids, one after another, are those of the whole."""
    segments = _segments(corpus)
    return iter(lambda: list(itertools.islice(segments, SEGMENTS)), [])


def _second(pair: tuple[Any, Any]) -> Any:
    return pair[1]
