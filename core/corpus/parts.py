"""Dividing texts into n parts that can be encoded or counted apart, on any machines, and put together again.

The parts are runs of whole files; a large file that is not compressed is cut behind an end-of-text token. Which bytes a
part holds follows from the files alone, so that nobody has to hand out the work.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import PurePosixPath

from core.files import Source, file_size, is_compressed, stored_blocks
from core.tokenizer.pretokenize import END_OF_TEXT

MOST_PARTS = 99_999
"""The names of shards have five digits."""
FEW_PARTS = 16
"""So many may be small, to try things out."""
SMALL_PART_BYTES = 1 << 16


def split_inputs(
    inputs: Sequence[str | os.PathLike[str]], number: int, of: int, special_tokens: Sequence[str]
) -> list[Source]:
    """Part `number` of `of` of some files; the parts, one after another, are the files.

    The files' stored bytes are divided evenly. Where a border falls into a file it moves to the nearer end of the file;
    in one that is plain text and at least a quarter of a part, behind the next end-of-text token. A part may be empty.

    Args:
        inputs: Text files or URLs, in order.
        number: From 0.
        of: How many parts there are.
        special_tokens: Of the tokenizer; without `END_OF_TEXT` among them files are not cut.

    Raises:
        ValueError: If there is no such part, or a file is missing or empty.
    """
    if of < 1 or not 0 <= number < of:
        raise ValueError(f"shard {number}/{of}: with {of} shards it must be one of 0/{of} to {of - 1}/{of}")
    if not inputs:
        raise ValueError("no files were given: name at least one text file")
    sizes = [file_size(path) for path in inputs]
    for path, size in zip(inputs, sizes, strict=True):
        if not size:
            raise ValueError(f"{path}: the file is empty")
    begin, end = (_border(inputs, sizes, place, of, special_tokens) for place in (number, number + 1))
    parts, start = [], 0
    for path, size in zip(inputs, sizes, strict=True):
        low, high = max(begin - start, 0), min(end - start, size)
        if low < high:
            parts.append(Source(path, low, high))
        start += size
    return parts


def _border(
    inputs: Sequence[str | os.PathLike[str]], sizes: Sequence[int], place: int, of: int, special_tokens: Sequence[str]
) -> int:
    """Where part `place` begins, in the stored bytes of all files."""
    total = sum(sizes)
    target = total * place // of
    start = 0
    for path, size in zip(inputs, sizes, strict=True):  # noqa: B007, used behind the loop
        if start + size > target:
            break
        start += size
    else:
        return total
    inside = target - start
    if inside == 0:
        return target
    if 4 * of * size >= total and not is_compressed(path) and _cuts_cleanly(special_tokens):
        return start + _behind_marker(path, inside, size)
    return start if 2 * inside < size else start + size


def _cuts_cleanly(special_tokens: Sequence[str]) -> bool:
    """Whether every end-of-text marker in a text is that token: no other one can hold or overlap it."""
    if END_OF_TEXT not in special_tokens:
        return False
    return not any(
        END_OF_TEXT in other or other.endswith(END_OF_TEXT[:size]) or END_OF_TEXT.endswith(other[:size])
        for other in special_tokens
        if other != END_OF_TEXT
        for size in range(1, min(len(other), len(END_OF_TEXT)) + 1)
    )


def _behind_marker(path: str | os.PathLike[str], inside: int, size: int) -> int:
    """The first place from `inside` on that lies behind an end-of-text marker; the end if there is none."""
    marker = END_OF_TEXT.encode()
    place = max(0, inside - len(marker))
    tail = b""
    for block in stored_blocks(Source(path, place, size), 1 << 16):
        window = tail + block
        found = window.find(marker)
        if found >= 0:
            return place - len(tail) + found + len(marker)
        place += len(block)
        tail = window[-len(marker) + 1 :]
    return size


def check_division(inputs: Sequence[str | os.PathLike[str]], of: int) -> None:
    """Raise ValueError for more parts than make sense: beyond 99,999, or more than 16 of less than 64 KiB each."""
    size = sum(file_size(path) for path in inputs)
    most = min(MOST_PARTS, max(FEW_PARTS, size // SMALL_PART_BYTES))
    if of > most:
        raise ValueError(f"{of:,} shards of {size:,} bytes: at most {most:,} make sense here")


def file_name(path: str | os.PathLike[str]) -> str:
    """A path without its folders, which differ from machine to machine."""
    return PurePosixPath(os.fspath(path).replace(os.sep, "/")).name


def text_id(inputs: Sequence[str | os.PathLike[str]]) -> str:
    """A hash of the names and sizes of all files: equal in all shards of a text."""
    names = [[file_name(path), file_size(path)] for path in inputs]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()
