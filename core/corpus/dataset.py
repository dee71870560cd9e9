"""Data sets: a folder with a tokenizer and the token files of a training and a validation part."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.config import check_name
from core.corpus.download import DATASETS
from core.corpus.stories import grammar_id, write_stories
from core.corpus.tokens import TokenFile, encode_files, open_tokens
from core.files import atomic_path, read_json, text_blocks, write_json
from core.tokenizer import Tokenizer
from core.tokenizer.pretokenize import END_OF_TEXT
from core.tokenizer.train import train_bpe_files

Progress = Callable[[str, int, int], None]
"""Called with the stage's name, the work done and the work in all."""

STORIES_CORPUS = "stories"


@dataclass(frozen=True, slots=True)
class Dataset:
    """An opened data set."""

    folder: Path
    recipe: dict[str, Any]
    tokenizer: Tokenizer
    train: TokenFile
    valid: TokenFile

    @property
    def dataset_id(self) -> str:
        """SHA-256 of tokenizer and tokens: equal ids mean equal data."""
        parts = (self.tokenizer.tokenizer_id, self.train.info.sha256, self.valid.info.sha256)
        return hashlib.sha256("".join(parts).encode()).hexdigest()

    @property
    def is_stories(self) -> bool:
        """Whether the text comes from the built-in grammar as it is today, so that its cross-entropy floor is known."""
        return self.recipe.get("grammar_id") == grammar_id()

    @property
    def document_start(self) -> str:
        """The text behind which a document begins: the end marker, or a newline where markers do not separate any."""
        has_marker = self.train.info.end_of_text_id is not None and self.train.info.num_documents > 1
        return END_OF_TEXT if has_marker else "\n"


def dataset_folder(data_dir: str | os.PathLike[str], name: str) -> Path:
    """Where a data set of this name lies.

    Raises:
        ValueError: If the name is not one folder's.
    """
    check_name(name, "data set")
    return Path(data_dir) / "datasets" / name


def open_dataset(folder: str | os.PathLike[str]) -> Dataset:
    """Open a data set.

    Raises:
        ValueError: If there is none, or its files do not fit together.
    """
    folder = Path(folder)
    if not (folder / "dataset.json").exists():
        raise ValueError(
            f"{folder}: no data set there; make one with `workbook data prepare FILE --name {folder.name}` from your "
            f"own text, or with `workbook data stories --name {folder.name}` from the built-in stories"
            + (f"; `workbook data download {folder.name}` fetches the public text" if folder.name in DATASETS else "")
        )
    dataset = Dataset(
        folder,
        read_json(folder / "dataset.json"),
        Tokenizer.load(folder / "tokenizer"),
        open_tokens(folder / "train.bin"),
        open_tokens(folder / "valid.bin"),
    )
    for part in (dataset.train, dataset.valid):
        if part.info.tokenizer_id != dataset.tokenizer.tokenizer_id:
            raise ValueError(
                f"{part.path}: encoded with another tokenizer than {folder / 'tokenizer'}; prepare it anew"
            )
    return dataset


def prepare_stories(
    folder: str | os.PathLike[str],
    *,
    train_bytes: int,
    valid_bytes: int,
    vocab_size: int,
    seed: int = 0,
    replace: bool = False,
    progress: Progress | None = None,
) -> tuple[Dataset, bool]:
    """Make the built-in corpus and its data set; see `prepare` for what is returned."""
    folder = Path(folder)
    recipe = {
        "corpus": STORIES_CORPUS,
        "grammar_id": grammar_id(),
        "train_bytes": train_bytes,
        "valid_bytes": valid_bytes,
        "vocab_size": vocab_size,
        "seed": seed,
    }

    def make_text(folder: Path) -> tuple[list[Path], list[Path]]:
        parts = []
        # The two parts draw from different random streams.
        for name, num_bytes, part_seed in (
            ("train.txt", train_bytes, 2 * seed),
            ("valid.txt", valid_bytes, 2 * seed + 1),
        ):
            parts.append([write_stories(folder / name, num_bytes, part_seed, _tick(progress, "stories", num_bytes))])
        return parts[0], parts[1]

    return _prepare(folder, recipe, make_text, vocab_size, None, replace, progress)


def prepare_files(
    folder: str | os.PathLike[str],
    files: Sequence[str | os.PathLike[str]],
    *,
    valid_files: Sequence[str | os.PathLike[str]] = (),
    valid_fraction: float = 0.05,
    vocab_size: int = 4096,
    tokenizer: Tokenizer | None = None,
    replace: bool = False,
    progress: Progress | None = None,
) -> tuple[Dataset, bool]:
    """Make a data set from text files.

    Args:
        folder: Where it goes.
        files: UTF-8 text (`.gz`, `.zst` too), documents separated by `<|endoftext|>`.
        valid_files: The validation part; without any it is split off `files`: every n-th document where there are
            enough, else the end of the text.
        valid_fraction: How much is split off.
        vocab_size: Size of the tokenizer to train on the training part.
        tokenizer: Use this one and train none.
        replace: Put the new data set in the place of another one of this name.
        progress: Told of every stage.

    Returns:
        The data set, and whether it was made now (False: it stood already, made from the same files in the same way).

    Raises:
        ValueError: For files that cannot be read as text, nothing left to validate on, or another data set of this
            name; what stood there stays as it was.
    """
    if not files:
        raise ValueError("no files were given: name at least one text file")
    if not 0 < valid_fraction <= 0.5:
        raise ValueError(f"valid_fraction is {valid_fraction}: it must be above 0 and at most 0.5")
    folder = Path(folder)
    recipe = {
        "files": [_stamp(path) for path in files],
        "valid_files": [_stamp(path) for path in valid_files],
        "valid_fraction": None if valid_files else valid_fraction,
        "vocab_size": None if tokenizer else vocab_size,
        "tokenizer_id": tokenizer.tokenizer_id if tokenizer else None,
    }

    def make_text(folder: Path) -> tuple[list[Path], list[Path]]:
        if valid_files:
            return [Path(path) for path in files], [Path(path) for path in valid_files]
        split(files, folder / "train.txt", folder / "valid.txt", valid_fraction)
        return [folder / "train.txt"], [folder / "valid.txt"]

    return _prepare(folder, recipe, make_text, vocab_size, tokenizer, replace, progress)


def _prepare(
    folder: Path,
    recipe: dict[str, Any],
    make_text: Callable[[Path], tuple[list[Path], list[Path]]],
    vocab_size: int,
    tokenizer: Tokenizer | None,
    replace: bool,
    progress: Progress | None,
) -> tuple[Dataset, bool]:
    """Text, tokenizer, tokens, built beside the folder and renamed to it when all of it stands."""
    if (folder / "dataset.json").exists():
        if read_json(folder / "dataset.json") == recipe:
            return open_dataset(folder), False
        if not replace:
            raise ValueError(
                f"{folder}: a data set made from other text or in another way stands there; choose another --name, or "
                f"say --replace"
            )
    building = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        train_files, valid_files = make_text(building)
        if tokenizer is None:
            vocab, merges = train_bpe_files(
                train_files, vocab_size, [END_OF_TEXT], on_merge=progress and (lambda n, of: progress("merges", n, of))
            )
            tokenizer = Tokenizer(vocab, merges, [END_OF_TEXT])
        tokenizer.save(building / "tokenizer")
        for name, paths in (("train", train_files), ("valid", valid_files)):
            size = sum(path.stat().st_size for path in paths)
            encode_files(paths, tokenizer, building / f"{name}.bin", _tick(progress, f"encode {name}", size))
        write_json(building / "dataset.json", recipe)
        shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return open_dataset(folder), True


def read_documents(files: Sequence[str | os.PathLike[str]]) -> Iterator[str]:
    """Documents of text files in order, without their end markers; what follows the last marker is one if not blank."""
    held = len(END_OF_TEXT) - 1  # so much of a block's end may be the beginning of a marker
    for path in files:
        parts, carry = [], ""
        for block in text_blocks(path):
            first, *others = (carry + block).split(END_OF_TEXT)
            if others:
                yield "".join([*parts, first])
                *complete, first = others
                yield from complete
                parts = []
            parts.append(first[:-held])
            carry = first[-held:]
        last = "".join([*parts, carry])
        if last.strip():
            yield last


def split(files: Sequence[str | os.PathLike[str]], train_path: Path, valid_path: Path, valid_fraction: float) -> None:
    """Write the documents of `files` into two files, a `valid_fraction` of them into the second.

    With n = 1 / fraction (rounded) and at least 2 n documents, every n-th goes to validation: parts that are alike even
    if the order means something. With fewer, the end of the text is split off, after a line's end or a space if there
    is one.
    """
    period = max(2, round(1 / valid_fraction))
    num_documents = num_characters = 0
    for document in read_documents(files):
        num_documents += 1
        num_characters += len(document)
    with atomic_path(train_path) as train, atomic_path(valid_path) as valid:
        with train.open("wb") as train_file, valid.open("wb") as valid_file:
            if num_documents >= 2 * period:
                for place, document in enumerate(read_documents(files)):
                    part = valid_file if place % period == period - 1 else train_file
                    part.write((document + END_OF_TEXT).encode())
            else:
                remaining = int(num_characters * (1 - valid_fraction))
                for block in _joined(files):
                    inside = 0 < remaining < len(block)
                    cut = _cut(block, remaining) if inside else max(0, min(remaining, len(block)))
                    train_file.write(block[:cut].encode())
                    valid_file.write(block[cut:].encode())
                    remaining -= len(block)
        if not train.stat().st_size or not valid.stat().st_size:
            raise ValueError(f"{files[0]}: too little text to split off a validation part of {valid_fraction:g}")


def _joined(files: Sequence[str | os.PathLike[str]]) -> Iterator[str]:
    """The text of all files, with an end marker between two of them where the first has none."""
    end = ""
    for place, path in enumerate(files):
        if place and not end.rstrip().endswith(END_OF_TEXT):
            yield END_OF_TEXT
        for block in text_blocks(path):
            yield block
            end = (end + block)[-100:]


def _cut(text: str, place: int) -> int:
    """The last place up to `place` after a line's end, a space or a marker; `place` itself if there is none."""
    signs = ("\n", " ", END_OF_TEXT)
    ends = [found + len(sign) for sign in signs if (found := text.rfind(sign, 0, place)) >= 0]
    marker = text.find(END_OF_TEXT, max(0, place - len(END_OF_TEXT) + 1), place + len(END_OF_TEXT) - 1)
    return max(ends) if ends else marker if marker > 0 else place


def _stamp(path: str | os.PathLike[str]) -> dict[str, Any]:
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: a folder; name files" if path.is_dir() else f"{path}: no such file")
    return {"path": str(path.resolve()), "bytes": path.stat().st_size, "modified_ns": path.stat().st_mtime_ns}


def _tick(progress: Progress | None, stage: str, total: int) -> Callable[[int], None] | None:
    return None if progress is None else lambda done: progress(stage, min(done, total), total)
