"""Our tokenizer beside others', in turns: rows of the table `tokenizer_speed`."""

import dataclasses
import hashlib
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.corpus.longtail import write_longtail
from core.experiments.tokenizer_contestants import CONTESTANTS, can, installed, package_version
from core.experiments.tokenizer_measure import Job, Measurement, run_job, turns
from core.experiments.tokenizer_ratios import OURS
from core.files import atomic_path, binary_blocks
from core.provenance import utc_now
from core.records import TokenizerSpeedRow
from core.training.device import device_name

WORKS: dict[str, list[str]] = {
    "train": ["train"],
    "encode": ["encode_file"],
    "short": ["encode"],
    "decode": ["decode", "decode_bytes"],
}
"""What can be measured, and what an engine must be able to do for it."""
REFERENCE_BYTES = 3_000_000
"""The reference engine takes part on texts up to this size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """A plain text file to measure on."""

    path: Path
    name: str
    num_bytes: int
    sha256: str


def open_corpus(path: Path, folder: Path) -> Corpus:
    """A text as a plain file, in `folder` if it is compressed; it is read once, so that all find it in memory.

    Raises:
        ValueError: If the file is missing, empty, a folder, or its compression is damaged.
    """
    digest, num_bytes = hashlib.sha256(), 0
    name = path.name
    if path.suffix in (".gz", ".zst"):
        name = path.stem
        with atomic_path(folder / name) as temporary, temporary.open("wb") as file:
            file.writelines(binary_blocks(path))
        path = folder / name
    for block in binary_blocks(path):
        digest.update(block)
        num_bytes += len(block)
    if num_bytes == 0:
        raise ValueError(f"{path}: the file is empty")
    return Corpus(path=path.resolve(), name=name, num_bytes=num_bytes, sha256=digest.hexdigest())


def contestants(against: Sequence[str] | None = None) -> tuple[list[str], list[str]]:
    """The engines that take part, ours first, and those that would if they were installed.

    Args:
        against: Names of other engines; all if None.

    Raises:
        ValueError: For a name that is none.
    """
    wanted = [engine for engine in CONTESTANTS if engine != OURS] if against is None else list(dict.fromkeys(against))
    for engine in wanted:
        if engine not in CONTESTANTS or engine == OURS:
            names = ", ".join(name for name in CONTESTANTS if name != OURS)
            raise ValueError(f"against is {engine!r}: it must be one of {names}")
    return [OURS, *filter(installed, wanted)], [engine for engine in wanted if not installed(engine)]


def tokenizer_rows(
    corpora: Sequence[Corpus],
    folder: Path,
    *,
    bench_id: str,
    vocab_sizes: Sequence[int],
    works: Sequence[str],
    engines: Sequence[str],
    repeats: int,
    num_threads: int,
    calls: int = 3000,
    git_commit: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    on_problem: Callable[[str], None] = lambda line: None,
) -> list[TokenizerSpeedRow]:
    """Measure everything asked for, the engines in turns; each training and encoding has a fresh process.

    Args:
        corpora: What is trained on and encoded.
        folder: For vocabularies and token files; there must be room for a few of the size of the corpora.
        bench_id: Name of the rows' file.
        vocab_sizes: Ids in all.
        works: Keys of `WORKS`.
        engines: As `contestants` gives them.
        repeats: Of every measurement.
        num_threads: For every engine; a process is kept to as many cores.
        calls: Strings of each length, for `short`.
        git_commit: Of the code, for the rows.
        progress: Called with (processes done, processes in all).
        on_problem: Given a line about another engine that fails; its rows are missing then.

    Raises:
        ValueError: If our own engine fails (the text may not be UTF-8, say), or texts bear the same name.
    """
    names = [corpus.name for corpus in corpora]
    if len(set(names)) < len(names):
        raise ValueError(f"texts are called {', '.join(names)}: each needs a name of its own")
    tiny = open_corpus(write_longtail(folder / "tiny.txt", 100_000), folder)
    common = {"folder": folder, "num_threads": num_threads, "repeats": repeats, "calls": calls}
    jobs = [(tiny, 0, _job("compile", [OURS], tiny, 300, **common))]
    for corpus in corpora:
        for vocab_size in vocab_sizes:
            jobs += [(corpus, *job) for job in _jobs(corpus, vocab_size, works, engines, repeats, common)]

    found: list[tuple[Corpus, int, Job, Measurement]] = []
    failed: set[tuple[Corpus, str, str]] = set()
    for done, (corpus, repeat, job) in enumerate(jobs):
        progress(done, len(jobs))
        if (corpus, job.work, job.engines[0]) in failed:
            continue
        try:
            measurements = run_job(job)
        except ValueError as error:
            if OURS in job.engines:
                raise
            failed.add((corpus, job.work, job.engines[0]))
            on_problem(str(error))
        else:
            found += [(corpus, measurement.repeat + repeat, job, measurement) for measurement in measurements]
    progress(len(jobs), len(jobs))

    def key(corpus: Corpus, repeat: int, job: Job, measurement: Measurement) -> tuple:
        same_input = repeat if measurement.work.startswith("short") else None
        return corpus, job.vocab_size, measurement.work, same_input

    ours = {key(*item): item[3].sha256 for item in reversed(found) if item[3].engine == OURS}
    shared = {
        "bench_id": bench_id,
        "num_threads": num_threads,
        "device_name": device_name("cpu"),
        "python_version": platform.python_version(),
        "numba_version": package_version("numba"),
        "git_commit": git_commit,
        "utc": utc_now(),
    }
    return [
        _row(*item, agrees=ours[key(*item)] == item[3].sha256, shared=shared)
        for item in found
        if item[2].work != "vocabulary"
    ]


def _jobs(
    corpus: Corpus,
    vocab_size: int,
    works: Sequence[str],
    engines: Sequence[str],
    repeats: int,
    common: Mapping[str, Any],
) -> Iterator[tuple[int, Job]]:
    """Repeat and job, for one corpus and vocabulary."""
    if set(works) - {"train"}:
        yield 0, _job("vocabulary", [OURS], corpus, vocab_size, **common)
    for work in works:
        able = [engine for engine in engines if all(can(engine, method) for method in WORKS[work])]
        if corpus.num_bytes > REFERENCE_BYTES and work != "short":
            able = [engine for engine in able if engine != "ours-reference"]
        if work in ("short", "decode"):
            yield 0, _job(work, able, corpus, vocab_size, **common)
            continue
        for repeat in range(repeats):
            for engine in turns(able, repeat):
                yield repeat, _job(work, [engine], corpus, vocab_size, **common)


def _job(work: str, engines: list[str], corpus: Corpus, vocab_size: int, *, folder: Path, **common: int) -> Job:
    own = folder / f"{corpus.sha256[:16]}-{vocab_size}"
    own.mkdir(exist_ok=True)
    return Job(
        work=work, engines=engines, corpus=str(corpus.path), vocab_size=vocab_size, folder=str(own.resolve()), **common
    )


def _row(
    corpus: Corpus, repeat: int, job: Job, measurement: Measurement, agrees: bool, shared: Mapping[str, Any]
) -> TokenizerSpeedRow:
    values = dataclasses.asdict(measurement)
    del values["sha256"]
    return TokenizerSpeedRow(
        **values | shared | {"repeat": repeat},
        corpus=corpus.name,
        corpus_bytes=corpus.num_bytes,
        corpus_sha256=corpus.sha256,
        vocab_size=job.vocab_size,
        agrees=agrees,
        package_version=package_version(CONTESTANTS[measurement.engine].package),
    )
