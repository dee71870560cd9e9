"""Text from files in chunks that can be tokenised one by one, and threads that do so, in order."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from core.files import binary_blocks
from core.tokenizer.fast.blocks import last_safe_cut
from core.tokenizer.fast.boundaries import PADDING
from core.tokenizer.fast.classes import character_classes
from core.tokenizer.fast.specials import Specials

CHUNK = 1 << 22

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a file whose tokens do not depend on what stands around it."""

    buffer: np.ndarray
    """uint8, with `PADDING` zero bytes at both ends."""
    segments: np.ndarray
    """Rows (begin, end, id): ordinary text, and the special token behind it, -1 without."""
    path: str
    offset: int
    """Of its first byte in the file, after decompression."""

    @property
    def num_bytes(self) -> int:
        """Bytes of text, special tokens and all."""
        return len(self.buffer) - 2 * PADDING

    def not_utf8(self, place: int) -> ValueError:
        """The error for a byte of the buffer that begins no character, in the words of the reference engine."""
        try:
            bytes(self.buffer[place : min(place + 4, len(self.buffer) - PADDING)]).decode()
            reason = "unexpected end of data"
        except UnicodeDecodeError as error:
            reason = error.reason
        return ValueError(f"{self.path}: not UTF-8 at byte {self.offset + place - PADDING} ({reason})")


def file_chunks(path: str | os.PathLike[str], specials: Specials, chunk_bytes: int = CHUNK) -> Iterator[Chunk]:
    """A file in chunks of about `chunk_bytes`; a longer one where the text offers no place to cut.

    Raises:
        ValueError: If the file is missing, empty or cut off inside its compression.
    """
    blocks = binary_blocks(path)
    pieces: list[bytes] = []
    first = offset = getattr(path, "begin", 0)  # of a `Source`, a range of a file
    size, want, last = 0, chunk_bytes, False
    while not last:
        while size < want and not last:
            block = next(blocks, b"")
            pieces.append(block)
            size += len(block)
            last = not block
        buffer = padded(pieces, size)
        rows, end = _cut(buffer, PADDING + size, specials, last)
        if end == PADDING:
            pieces, want = [buffer[PADDING : PADDING + size].tobytes()], 2 * want
            continue
        pieces = [buffer[end : PADDING + size].tobytes()]
        size, want = len(pieces[0]), chunk_bytes
        buffer = buffer[: end + PADDING]
        buffer[end:] = 0
        yield Chunk(buffer, rows, os.fspath(path), offset)
        offset += end - PADDING
    if offset == first:
        raise ValueError(f"{path}: the file is empty")


def padded(pieces: Iterable[bytes], size: int) -> np.ndarray:
    """Bytes one after another, `size` in all, with `PADDING` zeros at both ends.

    Raises:
        ValueError: If they are 2 GiB or more, which the loops cannot address.
    """
    if size + 2 * PADDING >= 1 << 31:
        raise ValueError(f"{size} bytes in one piece: the fast engine takes less than 2 GiB; give it a file, or cut it")
    buffer = np.empty(size + 2 * PADDING, np.uint8)
    buffer[:PADDING] = buffer[PADDING + size :] = 0
    place = PADDING
    for piece in pieces:
        buffer[place : place + len(piece)] = np.frombuffer(piece, np.uint8)
        place += len(piece)
    return buffer


def _cut(buffer: np.ndarray, filled: int, specials: Specials, last: bool) -> tuple[np.ndarray, int]:
    """The segments of a chunk and where it ends: all of it if it is the last, else up to the last place that is safe.

    A special token may go on beyond what was read, so none is trusted that could be the start of a longer one.
    """
    rows = specials.segments(buffer, PADDING, filled)
    if last:
        return rows, filled
    limit = filled - max(specials.longest, 4)
    classes = character_classes()
    for row in range(len(rows) - 1, -1, -1):
        begin, end, special = (int(value) for value in rows[row])
        if special >= 0 and row + 1 < len(rows) and rows[row + 1, 0] <= limit:
            return rows[: row + 1], int(rows[row + 1, 0])
        if begin < limit:
            cut = int(last_safe_cut(buffer, begin, min(end, limit), classes))
            if cut > begin:
                rows = rows[: row + 1].copy()
                rows[row, 1:] = cut, -1
                return rows, cut
    return rows, PADDING


def ordered(work: Callable[[Chunk], Result], chunks: Iterable[Chunk], threads: int) -> Iterator[Result]:
    """The results of each chunk, in order; a few chunks are in memory at a time.

    An error while reading comes after the results of, or an error in, what was read before it.
    """
    pending: deque[Future[Result]] = deque()
    remaining = iter(chunks)
    unreadable: ValueError | None = None
    with ThreadPoolExecutor(threads) as pool:
        try:
            while True:
                try:
                    chunk = next(remaining, None)
                except ValueError as error:
                    chunk, unreadable = None, error
                if chunk is None:
                    break
                pending.append(pool.submit(work, chunk))
                if len(pending) > 2 * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
            if unreadable is not None:
                raise unreadable
        finally:
            for future in pending:
                future.cancel()
