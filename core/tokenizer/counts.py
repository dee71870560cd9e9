"""Pre-token counts as files: counts of parts of a text add up, so that training can be spread over machines.

A file has a row for each distinct pre-token, sorted by bytes. Its sidecar `FILE.json` says how the text was cut; counts
that were cut differently are never mixed.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from core.files import (
    atomic_path,
    binary_blocks,
    is_url,
    read_sidecar,
    text_blocks,
    text_size,
    write_json,
)
from core.outputs import check_output
from core.tokenizer.engines import choose
from core.tokenizer.pretokenize import check_special_tokens, independent_segments, pre_token_pattern
from core.tokenizer.train import count_pre_tokens, learn_merges, merges_wanted, vocabulary_of

SCHEMA = {"pre_token": pl.Binary(), "count": pl.Int64()}
_AT_ONCE = 1 << 20
"""Pre-tokens that are handled as Python objects at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountsInfo:
    """The sidecar of a file of counts."""

    pattern: str
    """Of `core.tokenizer.pretokenize.PATTERNS`."""
    special_tokens: list[str]
    """They cut the text and are not counted."""
    num_bytes: int
    """Of the text that was counted, special tokens included."""
    num_pre_tokens: int
    num_distinct: int
    sha256: str
    """Of the file itself."""
    shard: dict[str, int | str] | None = None
    """`number` and `of` where only that part of a text was counted, and `text`, which is equal for all of its parts."""


def count_texts(
    inputs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    special_tokens: Sequence[str],
    pattern: str = "gpt2",
    progress: Callable[[int], None] | None = None,
    *,
    engine: str = "auto",
    threads: int | None = None,
    shard: dict[str, int | str] | None = None,
) -> CountsInfo:
    """Count the pre-tokens of text files and write them, sorted, as parquet.

    Args:
        inputs: UTF-8 text, plain, `.gz` or `.zst`; also URLs and `core.files.Source`. None at all counts nothing.
        out: File to write, also a URL; the sidecar goes beside it.
        special_tokens: They cut the text and are not counted.
        pattern: A name in `core.tokenizer.pretokenize.PATTERNS`.
        progress: Called with the text bytes counted so far.
        engine: `reference`, `fast`, or `auto`: whichever is quicker. They count the same.
        threads: Of the fast engine; one a core if not given.
        shard: What the sidecar notes if the inputs are a part of a text (`CountsInfo.shard`).

    Raises:
        ValueError: For bad special tokens, an input that is missing, empty or not UTF-8, or an `out` that cannot be
            written or is an input.
    """
    check_special_tokens(special_tokens)
    pre_token_pattern(pattern)
    check_output(out, inputs, sidecar=True)
    num_bytes = 0

    def note(done: int) -> None:
        nonlocal num_bytes
        num_bytes = done
        if progress is not None:
            progress(done)

    if choose(engine, text_size(inputs), "training") == "fast":
        from core.tokenizer.fast.engine import count_files

        frame = _frame(*count_files(inputs, special_tokens, pattern, threads=threads, progress=note).words())
    else:
        counts: Counter[str] = Counter()
        done = 0
        for path in inputs:
            for segment in independent_segments(text_blocks(path), special_tokens, pattern):
                counts.update(count_pre_tokens([segment], special_tokens, pattern))
                done += len(segment.encode())
                note(done)
        words = [word.encode() for word in counts]
        frame = pl.DataFrame({"pre_token": words, "count": list(counts.values())}, schema=SCHEMA)
    return _write(frame.lazy(), out, pattern, special_tokens, num_bytes, shard)


def _frame(text: np.ndarray, begin: np.ndarray, counts: np.ndarray) -> pl.DataFrame:
    """Words one after another as rows."""
    frames = [pl.DataFrame(schema=SCHEMA)]
    for first in range(0, len(counts), _AT_ONCE):
        places = begin[first : first + _AT_ONCE + 1].tolist()
        data = text[places[0] : places[-1]].tobytes()
        words = [data[a - places[0] : b - places[0]] for a, b in itertools.pairwise(places)]
        frames.append(pl.DataFrame({"pre_token": words, "count": counts[first : first + _AT_ONCE]}, schema=SCHEMA))
    return pl.concat(frames)


def _write(
    rows: pl.LazyFrame,
    out: str | os.PathLike[str],
    pattern: str,
    special_tokens: Sequence[str],
    num_bytes: int,
    shard: dict[str, int | str] | None = None,
) -> CountsInfo:
    with atomic_path(out) as temporary:
        rows.sort("pre_token").sink_parquet(temporary, compression="zstd")
        totals = pl.scan_parquet(temporary).select(pl.col("count").sum(), pl.len().alias("rows")).collect().row(0)
        digest = _sha256(temporary)
    info = CountsInfo(
        pattern=pattern,
        special_tokens=list(special_tokens),
        num_bytes=num_bytes,
        num_pre_tokens=totals[0],
        num_distinct=totals[1],
        sha256=digest,
        shard=shard,
    )
    write_json(f"{os.fspath(out)}.json", dataclasses.asdict(info))
    return info


def read_counts_info(path: str | os.PathLike[str]) -> CountsInfo:
    """Read the sidecar of a file of counts, also at a URL.

    Raises:
        ValueError: If the counts or their sidecar are missing, or that is none.
    """
    content = read_sidecar(path, "file of counts")
    try:
        return CountsInfo(**content)
    except TypeError:
        raise ValueError(f"{os.fspath(path)}.json: not the sidecar of a file of counts") from None


@contextlib.contextmanager
def open_counts(path: str | os.PathLike[str]) -> Iterator[tuple[pl.LazyFrame, CountsInfo]]:
    """A file of counts, also at a URL: its rows, which can be read as long as it is open, and its sidecar.

    Raises:
        ValueError: If the file or its sidecar is missing, or they do not belong together.
    """
    info = read_counts_info(path)
    with contextlib.ExitStack() as stack:
        local = Path(os.fspath(path))
        if is_url(path):
            local = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="workbook-"))) / "counts.parquet"
            with local.open("wb") as file:
                file.writelines(binary_blocks(path))
        if _sha256(local) != info.sha256:
            raise ValueError(f"{path}: not the file that its sidecar describes; count again")
        yield pl.scan_parquet(local), info


def merge_counts(inputs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> CountsInfo:
    """Add up files of counts; memory holds the distinct pre-tokens, not the files.

    Raises:
        ValueError: If a file is missing, is no file of counts, or was cut in another way than the first, or if some
            parts of a text are given but not all, or a file or a part twice, or if `out` cannot be written.
    """
    if not inputs:
        raise ValueError("no files of counts were given")
    places = [os.fspath(path) if is_url(path) else os.path.realpath(path) for path in inputs]
    for place, path in enumerate(inputs):
        if places[place] in places[:place]:
            raise ValueError(f"{path}: named twice, and would count twice")
    check_output(out, [name for path in inputs for name in (path, f"{os.fspath(path)}.json")], sidecar=True)
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(open_counts(path)) for path in inputs]
        first = opened[0][1]
        for path, (_, info) in zip(inputs, opened, strict=True):
            for field in ("pattern", "special_tokens"):
                own, wanted = getattr(info, field), getattr(first, field)
                if own != wanted:
                    raise ValueError(f"{path}: counted with {field} {own!r}, but {inputs[0]} with {wanted!r}")
        _check_complete(inputs, [info for _, info in opened])
        rows = pl.concat([rows for rows, _ in opened]).group_by("pre_token").agg(pl.col("count").sum())
        num_bytes = sum(info.num_bytes for _, info in opened)
        return _write(rows, out, first.pattern, first.special_tokens, num_bytes)


def _check_complete(inputs: Sequence[str | os.PathLike[str]], infos: Sequence[CountsInfo]) -> None:
    """Raise ValueError unless every text of which a part is given is given whole, each part once."""
    found: dict[tuple[int | str, ...], dict[int | str, str | os.PathLike[str]]] = {}
    for path, info in zip(inputs, infos, strict=True):
        if info.shard is not None:
            parts = found.setdefault((info.shard["text"], info.shard["of"]), {})
            number = info.shard["number"]
            if number in parts:
                of = info.shard["of"]
                raise ValueError(f"{path}: part {number}/{of} of a text that {parts[number]} holds already")
            parts[number] = path
    for (_, of), parts in found.items():
        missing = [f"{number}/{of}" for number in range(int(of)) if number not in parts]
        if missing:
            path = next(iter(parts.values()))
            raise ValueError(
                f"{path}: of its text these parts are missing: {', '.join(missing)} (merge-counts adds up all)"
            )


def train_on_counts(
    path: str | os.PathLike[str],
    vocab_size: int,
    *,
    engine: str = "auto",
    on_merge: Callable[[int, int], None] | None = None,
) -> tuple[dict[int, bytes], list[tuple[bytes, bytes]], CountsInfo]:
    """Train byte-pair encoding on counted text; pattern and special tokens are those of the counts.

    Args:
        path: File of counts, also at a URL.
        vocab_size: Ids in all.
        engine: As in `core.tokenizer.train_bpe`; `auto` goes by the size of the text that was counted.
        on_merge: Called with (merges made, merges wanted).

    Returns:
        Vocabulary and merges, those of `train_bpe` on the text itself, and the counts' sidecar.

    Raises:
        ValueError: For a vocabulary too small, what is no file of counts, or only a part of a text's.
    """
    with open_counts(path) as (rows, info):
        _check_complete([path], [info])
        num_merges = merges_wanted(vocab_size, info.special_tokens)
        frame = rows.collect()
        if choose(engine, info.num_bytes, "training") == "fast":
            from core.tokenizer.fast.learning import learn_merges as learn

            merges = learn(*_words(frame), num_merges, on_merge)
        else:
            words = (word.decode() for word in frame["pre_token"])
            merges = learn_merges(Counter(dict(zip(words, frame["count"], strict=True))), num_merges, on_merge)
    return vocabulary_of(merges, info.special_tokens), merges, info


def _words(frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows as the bytes of all words, where each begins and the last ends, and the counts."""
    begin = np.zeros(len(frame) + 1, np.int64)
    np.cumsum(frame["pre_token"].bin.size().to_numpy(), out=begin[1:])
    text = np.empty(begin[-1], np.uint8)
    for first in range(0, len(frame), _AT_ONCE):
        last = min(first + _AT_ONCE, len(frame))
        data = b"".join(frame["pre_token"][first:last])
        text[begin[first] : begin[last]] = np.frombuffer(data, np.uint8)
    return text, begin, frame["count"].to_numpy()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    for block in binary_blocks(path):
        digest.update(block)
    return digest.hexdigest()
