"""Encoding in shards: n parts of a text, each a token file that any process on any machine may write, in any order.

A finished shard is known by its key, a hash of the tokenizer and of the very bytes that it was made from, and is not
made again.
"""

import dataclasses
import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from core.corpus.parts import file_name, split_inputs, text_id
from core.corpus.tokens import TokenFileInfo, read_info, write_info, write_tokens
from core.files import (
    Source,
    atomic_path,
    binary_blocks,
    file_size,
    file_stamp,
    folder_names,
    is_url,
    join_path,
    stored_blocks,
)
from core.outputs import check_output
from core.tokenizer import Tokenizer

_NAME = re.compile(r"shard-(\d{5})-of-(\d{5})\.bin")
_PLACE = ("name", "bytes", "begin", "end")
"""Fields that say which bytes of which file a part is."""


def shard_name(number: int, of: int) -> str:
    """The file name of a shard, counted from 0.

    >>> shard_name(3, 16)
    'shard-00003-of-00016.bin'
    """
    return f"shard-{number:05}-of-{of:05}.bin"


def encode_shard(
    inputs: Sequence[str | os.PathLike[str]],
    tokenizer: Tokenizer,
    folder: str | os.PathLike[str],
    number: int,
    of: int,
    progress: Callable[[int], None] | None = None,
    *,
    fresh: bool = False,
    engine: str = "auto",
    threads: int | None = None,
    part: Sequence[Source] | None = None,
) -> tuple[TokenFileInfo, bool]:
    """Encode part `number` of `of` of some texts to `FOLDER/shard-NUMBER-of-OF.bin`, unless that stands already.

    A shard stands if its bytes are those that its sidecar names, and its key is that of this part. The part's bytes are
    not read again for that where the files' sizes and times (or the tags that a store gives) are those of then; else
    they are hashed, so that copies are recognised.

    Args:
        inputs: All of the text files or URLs, in the same order for every shard.
        tokenizer: As in `encode_files`.
        folder: Local or a URL.
        number: From 0.
        of: How many shards there are.
        progress: Called with the text bytes encoded so far.
        fresh: Encode also what stands there.
        engine: As in `encode_files`.
        threads: As in `encode_files`.
        part: What `split_inputs` gives for this shard, if the caller wants to see how far it has been read.

    Returns:
        The sidecar, and whether the shard was encoded now.

    Raises:
        ValueError: If a shard of that name stands there that was made from other text or with another tokenizer.
    """
    sources = part if part is not None else split_inputs(inputs, number, of, tokenizer.special_tokens)
    if not is_url(folder) and Path(folder).is_file():
        raise ValueError(f"{folder}: a file; shards need a folder")
    path = join_path(folder, shard_name(number, of))
    standing = _standing(path)
    if standing is not None and not fresh:
        if _key(tokenizer.tokenizer_id, number, of, _known_parts(sources, standing)) == standing.shard["key"]:
            return standing, False
        raise ValueError(f"{path}: stands there, of other text or another tokenizer; --fresh replaces it")
    for source in sources:
        source.digest = hashlib.sha256()
    stamps = [file_stamp(source) for source in sources]
    info = write_tokens(sources, tokenizer, path, progress, engine=engine, threads=threads)
    parts = [_part(source, stamp, source.digest.hexdigest()) for source, stamp in zip(sources, stamps, strict=True)]
    record = {
        "number": number,
        "of": of,
        "text": text_id(inputs),
        "key": _key(tokenizer.tokenizer_id, number, of, parts),
        "parts": parts,
    }
    info = dataclasses.replace(info, shard=record)
    write_info(path, info)
    return info, True


def check_folder(
    folder: str | os.PathLike[str],
    inputs: Sequence[str | os.PathLike[str]],
    tokenizer: Tokenizer,
    of: int,
    *,
    fresh: bool = False,
) -> None:
    """Raise ValueError if shards of `inputs` cannot go to a folder: to be asked before the first one is encoded.

    Args:
        folder: Local or a URL.
        inputs: All of the texts.
        tokenizer: That encodes them.
        of: How many shards there are to be.
        fresh: Whether shards of other text or another tokenizer may stand there.

    Raises:
        ValueError: If the folder cannot be written or holds shards of another division, text or tokenizer.
    """
    check_output(folder, folder=True)
    names = set(folder_names(folder))
    found = sorted(name for name in names if _NAME.fullmatch(name))
    for name in found:
        if int(_NAME.fullmatch(name)[2]) != of:
            raise ValueError(
                f"{folder}: {name} lies there, and {of} shards are wanted; name another folder, or remove what is there"
            )
    standing = next((name for name in found if f"{name}.json" in names), None)
    if standing is None or fresh:
        return
    try:
        info = read_info(join_path(folder, standing))  # one tells: all that stand there were asked the same
    except ValueError:  # damaged: made again when its turn comes
        return
    text = info.shard["text"] if info.shard else None
    if (text, info.tokenizer_id) != (text_id(inputs), tokenizer.tokenizer_id):
        raise ValueError(f"{folder}: {standing} is of other text or another tokenizer; --fresh replaces it")


def _part(source: Source, stamp: tuple[int, str], sha256: str) -> dict[str, Any]:
    size, mark = stamp
    name = file_name(source)
    return {"name": name, "bytes": size, "begin": source.begin, "end": source.end, "sha256": sha256, "stamp": mark}


def _key(tokenizer_id: str, number: int, of: int, parts: Sequence[dict[str, Any]]) -> str:
    """What a shard is made of: its number, the tokenizer, the files' names, the ranges and their content."""
    content = [[part[field] for field in (*_PLACE, "sha256")] for part in parts]
    return _hash([tokenizer_id, number, of, content])


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _standing(path: str) -> TokenFileInfo | None:
    """The sidecar of a shard that is whole; None if there is none, or its token file is missing or damaged."""
    try:
        info = read_info(path)
        size = file_size(path)
    except ValueError:
        return None
    width = 2 if info.dtype == "uint16" else 4
    known = info.shard is not None and {"key", "parts"} <= info.shard.keys()
    whole = known and size == info.num_tokens * width and _sha256(Source(path)) == info.sha256
    return info if whole else None


def _known_parts(sources: Sequence[Source], standing: TokenFileInfo) -> list[dict[str, Any]]:
    """The parts as they are now; only those are read again that are of the same place but bear another stamp."""
    parts = []
    for source, old in zip(sources, standing.shard["parts"], strict=False):
        part = _part(source, file_stamp(source), "")
        if all(part[field] == old[field] for field in _PLACE):
            same_stamp = part["stamp"] and part["stamp"] == old["stamp"]
            part["sha256"] = old["sha256"] if same_stamp else _sha256(source)
        parts.append(part)
    return parts


def _sha256(source: Source) -> str:
    digest = hashlib.sha256()
    for block in stored_blocks(source):
        digest.update(block)
    return digest.hexdigest()


def join_shards(
    folder: str | os.PathLike[str], out: str | os.PathLike[str], progress: Callable[[int, int], None] | None = None
) -> TokenFileInfo:
    """Concatenate all shards in a folder to one token file, as if the text had been encoded at once.

    Args:
        folder: Local or a URL.
        out: Token file to write, local or a URL; the sidecar goes beside it.
        progress: Called with (bytes written, bytes in all).

    Raises:
        ValueError: If a shard is missing, damaged, or of another text or tokenizer than the first; it is named. Also if
            `out` cannot be written, or is one of the shards.
    """
    paths = _shard_paths(folder)
    check_output(out, [name for path in paths for name in (path, f"{path}.json")], sidecar=True)
    infos = [read_info(path) for path in paths]
    _check_alike(folder, paths, infos)
    width = 2 if infos[0].dtype == "uint16" else 4
    total = sum(info.num_tokens for info in infos) * width
    digest, done = hashlib.sha256(), 0
    with atomic_path(out) as temporary, temporary.open("wb") as file:
        for number, (path, info) in enumerate(zip(paths, infos, strict=True)):
            own = hashlib.sha256()
            for block in binary_blocks(path):
                file.write(block)
                own.update(block)
                digest.update(block)
                done += len(block)
                if progress is not None:
                    progress(done, total)
            if own.hexdigest() != info.sha256:
                raise ValueError(
                    f"{path}: damaged, its bytes are not those that its sidecar names; the command that encoded it "
                    f"makes it again with --shard {number}/{len(paths)} --fresh"
                )
    joined = dataclasses.replace(
        infos[0],
        num_tokens=sum(info.num_tokens for info in infos),
        num_bytes=sum(info.num_bytes for info in infos),
        num_documents=sum(info.num_documents for info in infos),
        sha256=digest.hexdigest(),
        shard=None,
        text=infos[0].shard["text"],
    )
    write_info(out, joined)
    return joined


def _shard_paths(folder: str | os.PathLike[str]) -> list[str]:
    """The token files of all shards, in order."""
    names = set(folder_names(folder))
    found = [match for name in names if (match := _NAME.fullmatch(name.removesuffix(".json")))]
    counts = sorted({int(match[2]) for match in found})
    if not counts:
        raise ValueError(f"{folder}: no shards there ({shard_name(0, 4)} for one)")
    if len(counts) > 1:
        raise ValueError(f"{folder}: shards of {counts[0]} and of {counts[1]} lie there; remove those of one division")
    of = counts[0]
    expected = [shard_name(number, of) for number in range(of)]
    missing = [f"{number}/{of}" for number, name in enumerate(expected) if not {name, f"{name}.json"} <= names]
    if missing:
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise ValueError(f"{folder}: not finished: shard {', '.join(missing[:8])}{more}")
    return [join_path(folder, name) for name in expected]


def _check_alike(folder: str | os.PathLike[str], paths: Sequence[str], infos: Sequence[TokenFileInfo]) -> None:
    """Raise ValueError unless the shards are of one text and one tokenizer, each in its place, without a gap."""
    for number, (path, info) in enumerate(zip(paths, infos, strict=True)):
        if info.shard is None or (info.shard["number"], info.shard["of"]) != (number, len(infos)):
            raise ValueError(f"{path}: its sidecar is not that of shard {number}/{len(infos)}")
        for kind, same in (
            ("another tokenizer", info.tokenizer_id == infos[0].tokenizer_id),
            ("other text", info.shard["text"] == infos[0].shard["text"]),
        ):
            if not same:
                raise ValueError(f"{path}: of {kind} than {paths[0]}")
    parts = [(path, part) for path, info in zip(paths, infos, strict=True) for part in info.shard["parts"]]
    if parts[0][1]["begin"] != 0 or parts[-1][1]["end"] != parts[-1][1]["bytes"]:
        raise ValueError(f"{folder}: the shards are not the whole text: it changed between them; encode it --fresh")
    for (path, part), (next_path, following) in itertools.pairwise(parts):
        goes_on = part["name"] == following["name"] and part["end"] == following["begin"]
        is_next = part["end"] == part["bytes"] and following["begin"] == 0
        if not (goes_on or is_next):
            raise ValueError(
                f"{next_path}: does not begin where {path} ends: the text changed between them; encode both --fresh"
            )
