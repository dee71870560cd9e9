"""The fast engine as the rest of the tokenizer sees it: counting files, encoding texts and files, on all cores."""

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from core.tokenizer.fast.boundaries import PADDING
from core.tokenizer.fast.compiled import announced
from core.tokenizer.fast.counting import Counter
from core.tokenizer.fast.encoder import SHORT_TEXT, Encoder, NotUtf8
from core.tokenizer.fast.merging import Merges
from core.tokenizer.fast.specials import Specials
from core.tokenizer.fast.stream import Chunk, file_chunks, ordered, padded

MOST_COUNTED = 1 << 20
"""Distinct pre-tokens that a thread gathers before it hands them to the common table."""


def default_threads() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_files(
    paths: Iterable[str | os.PathLike[str]],
    specials: Sequence[str],
    pattern: str = "gpt2",
    *,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Counter:
    """How often each pre-token occurs in some files; none crosses from one into the next.

    Each thread counts for itself and hands over what it has when that is much, so that memory holds the distinct
    pre-tokens about once, however many threads there are.

    Args:
        paths: UTF-8 text, plain or compressed.
        specials: Special tokens; they cut the text and are not counted.
        pattern: A name in `PATTERNS`.
        threads: As many as cores if not given.
        progress: Called with the bytes counted so far.

    Raises:
        ValueError: If a file is missing, empty, damaged or not UTF-8.
    """
    threads = threads or default_threads()
    finder = Specials(specials, range(len(specials)))
    total = Counter(pattern)
    counters: queue.SimpleQueue[Counter] = queue.SimpleQueue()
    for _ in range(threads):
        counters.put(Counter(pattern))
    lock = threading.Lock()

    def hand_over(counter: Counter) -> None:
        with lock:
            total.add(*counter.words())
        counter.clear()

    def work(chunk: Chunk) -> int:
        counter = counters.get()
        try:
            rows = chunk.segments
            place = counter.count(chunk.buffer, rows[rows[:, 0] < rows[:, 1]])
            if place >= 0:
                raise chunk.not_utf8(place)
            if len(counter) > MOST_COUNTED:
                hand_over(counter)
        finally:
            counters.put(counter)
        return chunk.num_bytes

    done = 0
    with announced("counting"):
        for path in paths:
            for size in ordered(work, file_chunks(path, finder), threads):
                done += size
                if progress is not None:
                    progress(done)
    for _ in range(threads):
        hand_over(counters.get())
    return total


class FastEncoder:
    """A tokenizer's encoder for large inputs; safe to use from several threads.

    Args:
        merges: The tokenizer's.
        pattern: A name in `PATTERNS`.
        specials: Special tokens, text to id.
        vocab_size: One more than the largest id: up to 65,536 ids are uint16, else uint32.
        threads: As many as cores if not given.
    """

    def __init__(
        self, merges: Merges, pattern: str, specials: dict[str, int], vocab_size: int, threads: int | None = None
    ) -> None:
        self.threads = threads or default_threads()
        self._specials = Specials(list(specials), list(specials.values()))
        self.dtype = "uint16" if vocab_size <= 1 << 16 else "uint32"
        self._merges, self._pattern = merges, pattern
        self._encoders: deque[Encoder] = deque()  # its ends are safe to use from several threads

    def _new_encoder(self) -> Encoder:
        encoder = Encoder(self._merges, self._pattern, self.dtype)
        with announced("encoding"):
            encoder.encode(padded([b"a"], 1), np.array([[PADDING, PADDING + 1, -1]]))
        return encoder

    @contextmanager
    def _encoder(self) -> Iterator[Encoder]:
        try:
            encoder = self._encoders.pop()
        except IndexError:
            encoder = self._new_encoder()
        try:
            yield encoder
        finally:
            self._encoders.append(encoder)

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        data = text.encode()
        if len(data) <= SHORT_TEXT and not self._specials.occur(data):
            try:
                encoder = self._encoders.pop()
            except IndexError:
                encoder = self._new_encoder()
            ids = encoder.encode_short(data)
            self._encoders.append(encoder)  # a context manager would take a third of the time
            return ids
        buffer = padded([data], len(data))
        with self._encoder() as encoder:
            ids, _ = encoder.encode(buffer, self._specials.segments(buffer, PADDING, PADDING + len(data)))
            return ids.tolist()

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""
        pieces = [text.encode() for text in texts]
        buffer = padded(pieces, sum(map(len, pieces)))
        rows, lasts, place, count = [], [], PADDING, 0
        for piece in pieces:
            rows.append(self._specials.segments(buffer, place, place + len(piece)))
            place += len(piece)
            count += len(rows[-1])
            lasts.append(count - 1)
        if not rows:
            return []
        with self._encoder() as encoder:
            ids, ends = encoder.encode(buffer, np.concatenate(rows))
            return [part.tolist() for part in np.split(ids, ends[lasts][:-1])]

    def encode_file(self, path: str | os.PathLike[str]) -> Iterator[tuple[np.ndarray, Chunk]]:
        """The ids of a file, chunk by chunk in order, with the chunks.

        Raises:
            ValueError: If the file is missing, empty, damaged or not UTF-8.
        """

        def work(chunk: Chunk) -> tuple[np.ndarray, Chunk]:
            with self._encoder() as encoder:
                try:
                    ids, _ = encoder.encode(chunk.buffer, chunk.segments)
                except NotUtf8 as error:
                    raise chunk.not_utf8(error.place) from None
                return ids.copy(), chunk

        yield from ordered(work, file_chunks(path, self._specials), self.threads)
