"""`workbook tokenizer study`: vocabularies of every size from several corpora, on the held-out text of each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.cli.options import DEFAULT_RESULTS, Commit, Fresh, ResultsDir

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from core.records import CompressionRow

BUILT_IN_BYTES = 4_000_000


def study(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME=PATH",
            help="Corpora: UTF-8 text, plain, .gz or .zst; the built-in stories and generated long-tail text of 4 MB "
            "each if none is given.",
            show_default=False,
        ),
    ] = None,
    vocab_sizes: Annotated[
        str | None,
        typer.Option(
            help="Sizes without special tokens, from 256 (bytes alone), with commas. "
            "[default: the powers of two from 256 to 131072]",
            show_default=False,
        ),
    ] = None,
    limit_bytes: Annotated[
        int | None,
        typer.Option(
            min=1, help="Take so much from the beginning of each corpus; all if not given.", show_default=False
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="Name of the rows' files; from the corpora's if not given.", show_default=False)
    ] = None,
    fresh: Fresh = False,
    results: ResultsDir = DEFAULT_RESULTS,
    commit: Commit = None,
) -> None:
    """Measure compression in and across corpora, token frequencies and the growth of vocabularies."""
    import tempfile

    from core.cli.console import say, stage_progress
    from core.config import check_name
    from core.experiments.tokenizer_study import VOCAB_SIZES, open_corpus, study_rows
    from core.files import check_text
    from core.outputs import check_output
    from core.provenance import git_commit
    from core.records import CompressionRow
    from core.results import read_rows, table_path, write_rows

    sizes = VOCAB_SIZES if vocab_sizes is None else parse_sizes(vocab_sizes)
    paths = named_paths(inputs or [])
    kept = [] if limit_bytes is None else [f"{limit_bytes // 1000}kb"]
    name = "-".join([*(paths or ("stories", "longtail")), *kept]) if out is None else out
    check_name(name, "out")
    tables = "tokenizer_frequency", "tokenizer_growth", "tokenizer_compression"
    path = table_path(results, tables[-1], name)
    rows = [] if fresh else [CompressionRow(**row) for row in read_rows(results, tables[-1], name)]
    if rows:
        say(f"{path}: measured {rows[0].utc} (--fresh measures anew)")
    else:
        for table in tables:
            check_output(table_path(results, table, name), paths.values())
        for file in paths.values():
            check_text(file)
        commit = commit or git_commit()
        with tempfile.TemporaryDirectory(prefix="workbook-study-") as temporary, stage_progress() as progress:
            folder = Path(temporary)
            paths = paths or _built_in(folder, limit_bytes or BUILT_IN_BYTES)
            corpora = []
            for done, (corpus, file) in enumerate(paths.items()):
                progress("training", done, len(paths))
                corpora.append(open_corpus(corpus, file, folder, max(sizes), limit_bytes))
            progress("training", len(paths), len(paths))
            rows, frequency, growth = study_rows(corpora, sizes, study_id=name, git_commit=commit, progress=progress)
        for table, measured in zip(tables, (frequency, growth, rows), strict=True):
            write_rows(results, table, name, measured)  # that of the last one says that all stand
        say(f"{path}: {len(rows)} rows")
    for line in _table(rows):
        say(line)


def parse_sizes(text: str) -> list[int]:
    """Vocabulary sizes from `256,512,1024`.

    Raises:
        ValueError: For what is not a whole number from 256.
    """
    words = text.replace(",", " ").split()
    wrong = [word for word in words if not (word.isdecimal() and int(word) >= 256)]
    if wrong or not words:
        raise ValueError(f"--vocab-sizes is {text!r}: whole numbers from 256, such as 256,1024,4096")
    return [int(word) for word in words]


def named_paths(inputs: Sequence[str]) -> dict[str, Path]:
    """Files by the names given to them.

    Raises:
        ValueError: For what is not NAME=PATH, or two of one name.
    """
    from core.config import check_name

    paths: dict[str, Path] = {}
    for given in inputs:
        name, sign, path = given.partition("=")
        if not sign or not path:
            raise ValueError(f"{given!r}: name the corpus, as in stories={given}")
        check_name(name, "corpus")
        if name in paths:
            raise ValueError(f"{given!r}: another corpus is called {name}")
        paths[name] = Path(path)
    return paths


def _built_in(folder: Path, num_bytes: int) -> dict[str, Path]:
    from core.corpus.longtail import write_longtail
    from core.corpus.stories import write_stories

    return {
        "stories": write_stories(folder / "stories.source.txt", num_bytes, 0),
        "longtail": write_longtail(folder / "longtail.source.txt", num_bytes),
    }


def _table(rows: Iterable[CompressionRow]) -> Iterator[str]:
    """Bytes per token of held-out text: a line for each text and vocabulary, a column for each size."""
    rows = [row for row in rows if row.part == "held-out"]
    sizes = sorted({row.vocab_size for row in rows if row.vocab_size.bit_count() == 1}) or sorted(
        {row.vocab_size for row in rows}
    )
    found = {(row.encoded, row.trained_on, row.vocab_size): row.text_bytes / row.tokens for row in rows}
    yield "bytes per token of held-out text"
    yield f"{'text':<14}{'vocabulary of':<14}" + "".join(f"{size:>9,}" for size in sizes)
    for text, trained_on in dict.fromkeys((row.encoded, row.trained_on) for row in rows):
        values = (found.get((text, trained_on, size)) for size in sizes)
        cells = "".join(f"{'':>9}" if value is None else f"{value:>9.3f}" for value in values)
        yield f"{text:<14}{trained_on:<14}{cells}".rstrip()
