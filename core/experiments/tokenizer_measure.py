"""One measurement of a tokenizer in a process of its own, so that nothing is warm that ought to be cold.

    python -m core.experiments.tokenizer_measure JOB

does what `Job` says, given as JSON, and prints its measurements as the last line of its output.
"""

import dataclasses
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.corpus.tokens import token_dtype
from core.experiments.tokenizer_contestants import CONTESTANTS, END_OF_TEXT_ID
from core.files import text_blocks
from core.tokenizer.pretokenize import END_OF_TEXT

STRING_LENGTHS = (50, 200, 1000)
"""Characters of the strings that are encoded one by one."""
SAMPLE_CHARACTERS = 1 << 24
"""From the beginning of a corpus: what strings are cut out of, and half as much is decoded."""
WARM_UP_CALLS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one process measures."""

    work: str
    """`compile` (everything once), `vocabulary` (train and save), `train`, `encode`, `short` or `decode`."""
    engines: list[str]
    """One, but for `short` and `decode`, which take turns in one process."""
    corpus: str
    vocab_size: int
    num_threads: int
    folder: str
    """Of the tokenizer; token files are written there, too."""
    repeats: int = 1
    """Of `short` and `decode`."""
    calls: int = 3000
    """Of `short`: strings of each length."""
    started: float = 0.0
    """When the process was started, in seconds of `time.time`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What a process found out about one piece of work."""

    work: str
    engine: str
    repeat: int = 0
    wall_s: float
    cpu_s: float
    process_s: float | None = None
    """From the start of the process to the end of the work."""
    unwritten_s: float | None = None
    peak_rss_bytes: int | None = None
    text_bytes: int
    tokens: int
    calls: int = 1
    sha256: str
    """Of what came out, in a form in which equal results are equal."""


def run_job(job: Job) -> list[Measurement]:
    """Do a job in a fresh process.

    Raises:
        ValueError: If the process fails; names the engines and the reason.
    """
    root = Path(__file__).parents[2]
    threads = dict.fromkeys(
        ("RAYON_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "POLARS_MAX_THREADS"), str(job.num_threads)
    )
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, **threads, "TOKENIZERS_PARALLELISM": "true", "PYTHONPATH": path}
    job = dataclasses.replace(job, started=time.time())
    command = [sys.executable, "-m", __name__, json.dumps(dataclasses.asdict(job))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ValueError(f"{', '.join(job.engines)}, {job.work}: {reason}")
    return [Measurement(**result) for result in json.loads(done.stdout.splitlines()[-1])]  # libraries print, too


def measure(job: Job) -> list[Measurement]:
    """Do a job in this process."""
    works = {
        "compile": _compile,
        "vocabulary": _train,
        "train": _train,
        "encode": _encode,
        "short": _short,
        "decode": _decode,
    }
    return works[job.work](job)


def peak_rss_bytes() -> int:
    """The most memory that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the parent's memory at the moment of the fork, too
        (peak,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _timed(call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """A call's result and its costs, those of its child processes included."""
    before, start = os.times(), time.perf_counter()
    value = call()
    wall_s, after = time.perf_counter() - start, os.times()
    return value, {"wall_s": wall_s, "cpu_s": sum(after[:4]) - sum(before[:4])}


def _process(job: Job) -> dict[str, float | int]:
    """What can be said of the process as a whole when its work is done."""
    return {"process_s": time.time() - job.started, "peak_rss_bytes": peak_rss_bytes()}


def _contestant(job: Job, engine: str, load: bool = True) -> Any:
    return CONTESTANTS[engine](Path(job.folder) if load else None, job.vocab_size, job.num_threads)


def _compile(job: Job) -> list[Measurement]:
    """Everything once, so that what has to be compiled is."""
    (engine,) = job.engines
    corpus, folder = Path(job.corpus), Path(job.folder)
    trainer = _contestant(job, engine, load=False)

    def use() -> list[int]:
        trainer.save(trainer.train(corpus, job.vocab_size), folder)
        contestant = _contestant(job, engine)
        contestant.encode_file(corpus, folder / "compile.bin")
        ids = contestant.encode(_sample(job.corpus))
        contestant.decode(ids)
        contestant.decode_bytes(np.array(ids, token_dtype(job.vocab_size)))
        return ids

    ids, cost = _timed(use)
    cost |= _process(job) | {"text_bytes": corpus.stat().st_size, "tokens": len(ids)}
    return [Measurement(work=job.work, engine=engine, **cost, sha256=_sha256([np.array(ids, "<u4").tobytes()]))]


def _train(job: Job) -> list[Measurement]:
    (engine,) = job.engines
    contestant = _contestant(job, engine, load=False)
    corpus = Path(job.corpus)
    trained, cost = _timed(lambda: contestant.train(corpus, job.vocab_size))
    cost |= _process(job)
    tokens = contestant.tokens(trained)
    if job.work == "vocabulary":
        contestant.save(trained, Path(job.folder))
    cost |= {"text_bytes": corpus.stat().st_size, "tokens": len(tokens)}
    digest = _sha256(len(token).to_bytes(4, "little") + token for token in tokens)
    return [Measurement(work=job.work, engine=engine, **cost, sha256=digest)]


def _encode(job: Job) -> list[Measurement]:
    """Twice with one tokenizer: first it is cold, then it knows the text."""
    (engine,) = job.engines
    contestant = _contestant(job, engine)
    corpus = Path(job.corpus)
    outs = {work: Path(job.folder) / f"{engine}-{work}.bin" for work in ("encode_cold", "encode_warm")}
    costs = {}
    for work, out in outs.items():
        unwritten_s, cost = _timed(lambda out=out: contestant.encode_file(corpus, out))
        costs[work] = cost | _process(job) | {"unwritten_s": unwritten_s, "text_bytes": corpus.stat().st_size}
    costs["encode_warm"]["process_s"] = None
    measurements = []
    for work, out in outs.items():  # only now, when the clock stands
        ids = np.memmap(out, token_dtype(job.vocab_size), mode="r")
        blocks = (ids[start : start + (1 << 20)] for start in range(0, len(ids), 1 << 20))
        digest = _sha256(block[block != END_OF_TEXT_ID].tobytes() for block in blocks)
        measurements.append(Measurement(work=work, engine=engine, **costs[work], tokens=len(ids), sha256=digest))
        out.unlink()
    return measurements


def _short(job: Job) -> list[Measurement]:
    """Strings one by one, other ones in each repeat; the engines take turns."""
    contestants = {engine: _contestant(job, engine) for engine in job.engines}
    text = _sample(job.corpus).replace(END_OF_TEXT, "")
    draw = random.Random(0)
    measurements = []
    for length in STRING_LENGTHS:
        for contestant in contestants.values():
            for string in _strings(text, length, WARM_UP_CALLS, draw):
                contestant.encode(string)
        for repeat in range(job.repeats):
            strings = _strings(text, length, job.calls, draw)
            text_bytes = sum(len(string.encode()) for string in strings)
            for engine in turns(job.engines, repeat):
                encode = contestants[engine].encode
                lists, cost = _timed(lambda strings=strings, encode=encode: [encode(string) for string in strings])
                cost |= {"text_bytes": text_bytes, "tokens": sum(map(len, lists)), "calls": len(strings)}
                digest = _sha256(np.array([len(ids), *ids], "<u4").tobytes() for ids in lists)
                work = f"short_{length}"
                measurements.append(Measurement(work=work, engine=engine, repeat=repeat, **cost, sha256=digest))
    return measurements


def _decode(job: Job) -> list[Measurement]:
    """The corpus's own ids, from a list to text and from an array to bytes; the engines take turns."""
    contestants = {engine: _contestant(job, engine) for engine in job.engines}
    ids = contestants["ours"].encode(_sample(job.corpus, SAMPLE_CHARACTERS // 2))
    inputs = {"decode": ids, "decode_bytes": np.array(ids, token_dtype(job.vocab_size))}
    measurements = []
    for work, given in inputs.items():
        for repeat in range(-1, job.repeats):  # the first is to warm up
            for engine in turns(job.engines, repeat):
                decode = getattr(contestants[engine], work)
                made, cost = _timed(lambda given=given, decode=decode: decode(given))
                data = made.encode() if work == "decode" else made
                cost |= {"text_bytes": len(data), "tokens": len(ids)}
                measurements.append(
                    Measurement(work=work, engine=engine, repeat=repeat, **cost, sha256=_sha256([data]))
                )
    return [measurement for measurement in measurements if measurement.repeat >= 0]


def turns(engines: Sequence[str], repeat: int) -> list[str]:
    """The engines in the order of a repeat: each comes first once."""
    first = repeat % len(engines)
    return [*engines[first:], *engines[:first]]


def _sample(corpus: str, characters: int = SAMPLE_CHARACTERS) -> str:
    """The beginning of a corpus."""
    pieces, size = [], 0
    for block in text_blocks(corpus):
        pieces.append(block)
        size += len(block)
        if size >= characters:
            break
    return "".join(pieces)[:characters]


def _strings(text: str, length: int, count: int, draw: random.Random) -> list[str]:
    starts = (draw.randrange(max(1, len(text) - length)) for _ in range(count))
    return [text[start : start + length] for start in starts]


def _sha256(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def main() -> None:
    """Do the job that the command line gives."""
    job = Job(**json.loads(sys.argv[1]))
    if hasattr(os, "sched_setaffinity"):  # whatever a library makes of the environment
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job.num_threads])
    try:
        measurements = measure(job)
    except (ValueError, OSError, MemoryError) as error:
        sys.exit(f"{error or type(error).__name__}")
    print(json.dumps([dataclasses.asdict(measurement) for measurement in measurements]), flush=True)


if __name__ == "__main__":
    main()
