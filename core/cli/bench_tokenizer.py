"""`workbook bench tokenizer`: our tokenizer beside others'."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.cli.options import DEFAULT_RESULTS, Commit, Fresh, ResultsDir

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core.experiments.tokenizer_ratios import Case
    from core.records import TokenizerSpeedRow

_OTHER = {"train": "other tokens", "encode": "other ids", "short": "other ids", "decode": "other text"}


class Work(StrEnum):
    """What can be measured."""

    TRAIN = "train"
    ENCODE = "encode"
    SHORT = "short"
    DECODE = "decode"


def tokenizer(
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="INPUT",
            help="UTF-8 texts to measure on, each by itself; generated text if none is given.",
            show_default=False,
        ),
    ] = None,
    num_bytes: Annotated[
        int | None,
        typer.Option("--bytes", min=1, help="Size of the generated text. [default: 150000000]", show_default=False),
    ] = None,
    vocab_size: Annotated[
        list[int] | None,
        typer.Option(min=257, help="May be given several times. [default: 10000 and 32000]", show_default=False),
    ] = None,
    work: Annotated[
        list[Work] | None, typer.Option(help="May be given several times. [default: all]", show_default=False)
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="tokenizers, tiktoken, rustbpe, gigatoken or ours-reference (on small texts); may be given several "
            "times. [default: all that are installed]",
            show_default=False,
        ),
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(min=1, help="Of each measurement. [default: 3]", show_default=False)
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="For each engine, and as many cores.")] = 2,
    out: Annotated[
        str | None,
        typer.Option(help="Name of the rows' file; from the CPU's and the text's if not given.", show_default=False),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Other defaults: 2 MB, one vocabulary of 1000, 1 repeat.")
    ] = False,
    fresh: Fresh = False,
    results: ResultsDir = DEFAULT_RESULTS,
    commit: Commit = None,
) -> None:
    """Measure training, encoding and decoding in turns with tokenizers, tiktoken, rustbpe and gigatoken."""
    import tempfile

    from core.cli.console import say, stage_progress
    from core.config import check_name
    from core.corpus.longtail import write_longtail
    from core.experiments.device_measure import slug
    from core.experiments.tokenizer_bench import WORKS, contestants, open_corpus, tokenizer_rows
    from core.files import check_text
    from core.outputs import check_output
    from core.provenance import git_commit
    from core.records import TokenizerSpeedRow
    from core.results import read_rows, table_path, write_rows
    from core.training.device import device_name

    if inputs and num_bytes is not None:
        raise ValueError(f"--bytes is {num_bytes}: it is the size of generated text, and a text is given")
    num_bytes = num_bytes or (2_000_000 if quick else 150_000_000)
    engines, missing = contestants(against)
    names = [slug(path.name.split(".")[0]) for path in inputs or []] or [f"longtail-{num_bytes // 1_000_000}mb"]
    name = "-".join([slug(device_name("cpu")), *names, *(["quick"] if quick else [])]) if out is None else out
    check_name(name, "out")
    path = table_path(results, "tokenizer_speed", name)
    rows = [] if fresh else [TokenizerSpeedRow(**row) for row in read_rows(results, "tokenizer_speed", name)]
    if rows:
        say(f"{path}: measured {rows[0].utc} (--fresh measures anew)")
    else:
        check_output(path, inputs or [])
        for text in inputs or []:
            check_text(text)
        commit = commit or git_commit()
        for engine in missing:
            say(f"{engine} is not installed and left out (pip install -e '.[bench]')")
        problems: list[str] = []
        with tempfile.TemporaryDirectory(prefix="workbook-bench-") as temporary, stage_progress() as progress:
            folder = Path(temporary)
            if not inputs:
                inputs = [folder / f"{names[0]}.txt"]
                write_longtail(inputs[0], num_bytes, progress=lambda done: progress("generating", done, num_bytes))
            rows = tokenizer_rows(
                [open_corpus(path, folder) for path in inputs],
                folder,
                bench_id=name,
                vocab_sizes=vocab_size or ([1000] if quick else [10_000, 32_000]),
                works=[each for each in WORKS if not work or each in work],
                engines=engines,
                repeats=repeats or (1 if quick else 3),
                num_threads=threads,
                calls=300 if quick else 3000,
                git_commit=commit,
                progress=lambda done, total: progress("measuring", done, total),
                on_problem=problems.append,
            )
        write_rows(results, "tokenizer_speed", name, rows)
        for line in problems:
            say(f"left out from there on: {line}")
        say(f"{path}: {rows[0].device_name}, {rows[0].num_threads} threads")
    for line in _table(rows):
        say(line)


def _table(rows: Sequence[TokenizerSpeedRow]) -> Iterator[str]:
    """A line an engine: its median rate, its time divided by ours, the most memory, whether the results agree."""
    from core.accounting.text import bytes_text
    from core.experiments.tokenizer_ratios import case, ratios

    cases: dict[Case, list[TokenizerSpeedRow]] = {}
    for row in rows:
        cases.setdefault(case(row), []).append(row)
    found = ratios(rows)
    head = f"  {'work':<13}{'vocabulary':>10}  {'engine':<15}{'median':>15}    {'time against ours':<21}{'memory':>9}"
    place = {key[:3]: number for number, key in enumerate(cases)}
    before = None
    for key in sorted(cases, key=lambda key: place[key[:3]]):
        corpus, vocab_size, work, engine = key
        repeated = cases[key]
        if work == "compile":
            yield f"first use of our compiled code: {repeated[0].wall_s:.1f} s"
            continue
        if corpus != before:
            yield f"{corpus}, {repeated[0].corpus_bytes:,} bytes"
            yield head
            before = corpus
        ratio = found.get(key) if engine != "ours" else None
        spread = f" ({ratio.lowest:.2f}-{ratio.highest:.2f})" if ratio and len(repeated) > 1 else ""
        times = f"{ratio.median:.2f}x{spread}" if ratio else ""
        peaks = [row.peak_rss_bytes for row in repeated if row.peak_rss_bytes is not None]
        memory = bytes_text(max(peaks)) if peaks else ""
        remark = "" if all(row.agrees for row in repeated) else f"  {_OTHER[work.partition('_')[0]]}"
        rate = _rate(work, repeated)
        yield f"  {work:<13}{vocab_size:>10,}  {engine:<15}{rate:>15}    {times:<21}{memory:>9}{remark}".rstrip()


def _rate(work: str, rows: Sequence[TokenizerSpeedRow]) -> str:
    """The median of the repeats."""
    from statistics import median

    if work.startswith("short"):
        return f"{median(row.wall_s / row.calls for row in rows) * 1e6:.1f} us/call"
    return f"{median(row.text_bytes / row.wall_s for row in rows) / 1e6:.1f} MB/s"
