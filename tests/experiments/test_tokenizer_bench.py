import dataclasses
import gzip
import hashlib
import importlib.util
import subprocess
import sys

import numpy as np
import psutil
import pytest

from core.corpus.longtail import write_longtail
from core.corpus.tokens import encode_files
from core.experiments import tokenizer_bench
from core.experiments.tokenizer_bench import Corpus, contestants, open_corpus, tokenizer_rows
from core.experiments.tokenizer_contestants import CONTESTANTS, END_OF_TEXT_ID, Ours, can
from core.experiments.tokenizer_measure import Job, Measurement, measure, peak_rss_bytes, run_job, turns
from core.experiments.tokenizer_ratios import Ratio, ratios
from core.records import TokenizerSpeedRow
from core.results import read_rows, write_rows
from core.tokenizer import Tokenizer
from core.tokenizer.pretokenize import END_OF_TEXT

VOCAB_SIZE = 400


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with a small text, and the vocabulary that ours makes of it."""
    folder = tmp_path_factory.mktemp("bench")
    corpus = write_longtail(folder / "small.txt", 60_000)
    ours = CONTESTANTS["ours-reference"](None, VOCAB_SIZE, 2)
    ours.save(ours.train(corpus, VOCAB_SIZE), folder)
    return folder


def contestant(name, folder):
    if not name.startswith("ours"):
        pytest.importorskip(CONTESTANTS[name].package)
    return CONTESTANTS[name](folder, VOCAB_SIZE, 2)


def job(folder, work, *engines, **fields):
    own = {"vocab_size": VOCAB_SIZE, "num_threads": 2, "corpus": str(folder / "small.txt"), "folder": str(folder)}
    return Job(work=work, engines=list(engines), **own | fields)


@pytest.mark.parametrize("name", [name for name in CONTESTANTS if can(name, "encode_file")])
def test_every_engine_writes_the_same_token_file(name, small, tmp_path):
    tokenizer = Tokenizer.load(small)
    encode_files([small / "small.txt"], tokenizer, tmp_path / "ours.bin")
    seconds = contestant(name, small).encode_file(small / "small.txt", tmp_path / "theirs.bin")
    assert (tmp_path / "theirs.bin").read_bytes() == (tmp_path / "ours.bin").read_bytes()
    assert (seconds is not None) == (name == "gigatoken")
    ids = np.fromfile(tmp_path / "ours.bin", "<u2")
    assert tokenizer.special_id(END_OF_TEXT) == END_OF_TEXT_ID
    assert np.count_nonzero(ids == END_OF_TEXT_ID) == (small / "small.txt").read_text().count(END_OF_TEXT) > 5


@pytest.mark.parametrize("name", [name for name in CONTESTANTS if can(name, "encode")])
def test_every_engine_encodes_strings_alike(name, small):
    text = "Don't tan\n\n  the 12 Öfen 🙂\t"
    assert contestant(name, small).encode(text) == Tokenizer.load(small).encode(text)


@pytest.mark.parametrize("name", [name for name in CONTESTANTS if can(name, "decode")])
def test_every_engine_decodes_alike(name, small):
    text = f"Don't tan\n\n  the 12 Öfen 🙂{END_OF_TEXT}"
    ids = Tokenizer.load(small).encode(text)
    assert contestant(name, small).decode(ids) == text
    assert contestant(name, small).decode_bytes(np.array(ids, np.uint16)) == text.encode()


@pytest.mark.parametrize("name", [name for name in CONTESTANTS if can(name, "train")])
def test_every_engine_learns_the_same_where_no_counts_are_equal(name, tmp_path):
    corpus = tmp_path / "text.txt"
    corpus.write_text(("ab." * 9 + "cd." * 7 + "ef." * 5 + END_OF_TEXT) * 3, newline="")
    engine = contestant(name, None)
    assert engine.tokens(engine.train(corpus, 260)) == [b"ab", b"cd", b"ef"]


def test_a_job_in_a_process_of_its_own(small):
    (train,) = run_job(job(small, "train", "ours-reference"))
    tokens = [left + right for left, right in Tokenizer.load(small).merges]
    assert train.tokens == len(tokens) == VOCAB_SIZE - 257
    assert train.sha256 == hashlib.sha256(b"".join(len(t).to_bytes(4, "little") + t for t in tokens)).hexdigest()
    assert train.text_bytes == (small / "small.txt").stat().st_size
    assert 0 < train.wall_s < train.process_s
    assert train.peak_rss_bytes > 20_000_000


def test_a_job_that_fails_says_why(small):
    (small / "bad.txt").write_bytes(b"abc\xff")
    with pytest.raises(ValueError, match=r"^ours-reference, train: .*bad\.txt: not UTF-8 at byte 3"):
        run_job(job(small, "train", "ours-reference", corpus=str(small / "bad.txt")))


def test_encoding_is_measured_cold_and_warm(small):
    cold, warm = measure(job(small, "encode", "ours-reference"))
    assert (cold.work, warm.work) == ("encode_cold", "encode_warm")
    ids = np.array(Tokenizer.load(small).encode((small / "small.txt").read_bytes().decode()), "<u2")
    assert cold.tokens == warm.tokens == ids.size
    assert cold.sha256 == warm.sha256 == hashlib.sha256(ids[ids != END_OF_TEXT_ID].tobytes()).hexdigest()
    assert cold.process_s > 0
    assert warm.process_s is None
    assert not list(small.glob("*.bin"))


def test_strings_are_the_same_for_all_and_new_in_each_repeat(small, monkeypatch):
    seen = []
    monkeypatch.setattr(Ours, "encode", lambda self, text: seen.append(text) or self._tokenizer.encode(text))
    monkeypatch.setitem(CONTESTANTS, "other", type("Other", (Ours,), {}))
    found = measure(job(small, "short", "ours", "other", repeats=2, calls=7))
    expected = [("ours", 0), ("other", 0), ("other", 1), ("ours", 1)]
    works = ("short_50", "short_200", "short_1000")
    assert [(m.work, m.engine, m.repeat) for m in found] == [(work, *place) for work in works for place in expected]
    assert {len(text) for text in seen} == {50, 200, 1000}
    assert all(m.calls == 7 for m in found)
    for work in works:
        digests = [m.sha256 for m in found if m.work == work]
        assert digests[0] == digests[1] != digests[2] == digests[3]
    assert END_OF_TEXT not in "".join(seen)


def test_decoding_starts_from_the_same_ids(small, monkeypatch):
    monkeypatch.setitem(CONTESTANTS, "wrong", type("Wrong", (Ours,), {"decode": lambda self, ids: "?"}))
    found = measure(job(small, "decode", "ours", "wrong", repeats=2))
    data = (small / "small.txt").read_bytes()
    assert len(found) == 8
    for m in found:
        right = (m.engine, m.work) != ("wrong", "decode")
        assert (m.sha256 == hashlib.sha256(data).hexdigest(), m.text_bytes) == (right, len(data) if right else 1)


def test_peak_memory_is_at_least_what_is_held_now():
    held = psutil.Process().memory_info().rss
    assert held * 0.9 < peak_rss_bytes() < psutil.virtual_memory().total


def test_turns_let_each_begin():
    assert [turns(["a", "b", "c"], repeat) for repeat in (0, 1, 5)] == [list("abc"), list("bca"), list("cab")]


def test_opening_a_corpus(tmp_path):
    text = b"one\ntwo" * 99
    (tmp_path / "plain.txt").write_bytes(text)
    (tmp_path / "packed.txt.gz").write_bytes(gzip.compress(text))
    (tmp_path / "empty.txt").touch()
    (tmp_path / "out").mkdir()
    plain = open_corpus(tmp_path / "plain.txt", tmp_path / "out")
    packed = open_corpus(tmp_path / "packed.txt.gz", tmp_path / "out")
    assert (plain.path, plain.name, plain.num_bytes) == (tmp_path / "plain.txt", "plain.txt", len(text))
    assert (packed.path, packed.name) == (tmp_path / "out" / "packed.txt", "packed.txt")
    assert packed.path.read_bytes() == text
    assert plain.sha256 == packed.sha256 == hashlib.sha256(text).hexdigest()
    for name, message in (("empty.txt", "the file is empty"), ("gone.txt", "no such file"), ("out", "a folder")):
        with pytest.raises(ValueError, match=f"{name}: {message}"):
            open_corpus(tmp_path / name, tmp_path / "out")


def test_contestants_that_are_not_installed_are_named(monkeypatch):
    find = importlib.util.find_spec
    gone = ("rustbpe", "tiktoken")
    # The others are there, whether this environment has them or not.
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in gone else find(name) or object())
    present, missing = contestants()
    assert (present[:2], missing) == (["ours", "ours-reference"], ["tiktoken", "rustbpe"])
    assert contestants(["tiktoken"]) == (["ours"], ["tiktoken"])
    for name in ("sentencepiece", "ours"):
        with pytest.raises(ValueError, match=f"against is '{name}': it must be one of ours-reference, tokenizers"):
            contestants([name])


@pytest.fixture
def measured(monkeypatch):
    """Instead of processes, measurements in which engines take 1, 2, 3 ... seconds; `tiktoken` cannot encode."""
    jobs = []

    def run(job):
        jobs.append(job)
        if job.work == "encode" and job.engines == ["tiktoken"]:
            raise ValueError("tiktoken, encode: no memory")
        works = {"encode": ["encode_cold", "encode_warm"], "short": ["short_50"], "decode": ["decode"]}
        return [
            Measurement(
                work=work,
                engine=engine,
                repeat=repeat,
                wall_s=float(len(jobs)),
                cpu_s=1.0,
                text_bytes=5,
                tokens=3,
                sha256=engine[:4] + str(repeat) * (work == "short_50"),
            )
            for work in works.get(job.work, [job.work])
            for repeat in range(job.repeats if job.work in ("short", "decode") else 1)
            for engine in job.engines
        ]

    monkeypatch.setattr(tokenizer_bench, "run_job", run)
    return jobs


def test_engines_take_turns_and_their_rows_say_what_was_what(measured, tmp_path):
    corpus = Corpus(path=tmp_path / "x.txt", name="x.txt", num_bytes=10, sha256="ab" * 32)
    problems, progress = [], []
    rows = tokenizer_rows(
        [corpus],
        tmp_path,
        bench_id="box",
        vocab_sizes=[300, 500],
        works=["train", "encode", "short", "decode"],
        engines=["ours", "ours-reference", "tiktoken", "rustbpe"],
        repeats=2,
        num_threads=3,
        git_commit="abc",
        progress=lambda done, total: progress.append((done, total)),
        on_problem=problems.append,
    )
    before, after = ["vocabulary", *["train"] * 6], ["short", "decode"]
    # Of the six encodings the second by tiktoken is not tried, and neither are those of the other vocabulary.
    expected = ["compile", *before, *["encode"] * 5, *after, *before, *["encode"] * 4, *after]
    assert [job.work for job in measured] == expected
    trained = [job.engines[0] for job in measured if job.work == "train"][:6]
    assert trained == ["ours", "ours-reference", "rustbpe", "ours-reference", "rustbpe", "ours"]
    able = [job.engines for job in measured if job.work in ("short", "decode")]
    assert able == 2 * [["ours", "ours-reference", "tiktoken"], ["ours", "tiktoken"]]
    assert {job.num_threads for job in measured} == {3}
    assert len({job.folder for job in measured}) == 3  # one for each vocabulary
    assert problems == ["tiktoken, encode: no memory"]
    assert progress[-1] == (len(expected) + 3, len(expected) + 3)

    assert {row.work for row in rows} == {"compile", "train", "encode_cold", "encode_warm", "short_50", "decode"}
    train = [row for row in rows if row.work == "train" and row.vocab_size == 500]
    assert sorted((row.engine, row.repeat, row.agrees) for row in train) == [
        ("ours", 0, True),
        ("ours", 1, True),
        ("ours-reference", 0, True),
        ("ours-reference", 1, True),
        ("rustbpe", 0, False),
        ("rustbpe", 1, False),
    ]
    assert {(row.corpus, row.corpus_bytes) for row in rows if row.work != "compile"} == {("x.txt", 10)}
    assert {(row.bench_id, row.num_threads, row.git_commit) for row in rows} == {("box", 3, "abc")}
    write_rows(tmp_path, "tokenizer_speed", "box", rows)
    assert [TokenizerSpeedRow(**row) for row in read_rows(tmp_path, "tokenizer_speed", "box")] == rows


def test_our_own_failure_stops_everything(measured, tmp_path, monkeypatch):
    def fail(job):
        raise ValueError("ours, compile: no compiler")

    monkeypatch.setattr(tokenizer_bench, "run_job", fail)
    arguments = {"bench_id": "box", "vocab_sizes": [300], "works": ["train"], "engines": ["ours"], "repeats": 1}
    corpus = Corpus(path=tmp_path / "x.txt", name="x.txt", num_bytes=10, sha256="ab" * 32)
    with pytest.raises(ValueError, match="no compiler"):
        tokenizer_rows([corpus], tmp_path, num_threads=1, **arguments)
    with pytest.raises(ValueError, match=r"texts are called x\.txt, x\.txt: each needs a name of its own"):
        tokenizer_rows([corpus, corpus], tmp_path, num_threads=1, **arguments)


def test_the_reference_engine_is_left_out_on_large_texts(measured, tmp_path):
    corpus = Corpus(path=tmp_path / "x.txt", name="x.txt", num_bytes=10**8, sha256="ab" * 32)
    arguments = {"bench_id": "box", "vocab_sizes": [300], "works": ["train"], "repeats": 1, "num_threads": 1}
    rows = tokenizer_rows([corpus], tmp_path, engines=["ours", "ours-reference", "rustbpe"], **arguments)
    assert [row.engine for row in rows if row.work == "train"] == ["ours", "rustbpe"]


def test_ratios_are_of_the_same_repeat(measured, tmp_path):
    corpus = Corpus(path=tmp_path / "x.txt", name="x.txt", num_bytes=10, sha256="ab" * 32)
    arguments = {"bench_id": "box", "vocab_sizes": [300], "works": ["train"], "repeats": 1, "num_threads": 1}
    row = tokenizer_rows([corpus], tmp_path, engines=["ours"], **arguments)[-1]

    def rows(engine, seconds):
        return [
            dataclasses.replace(row, engine=engine, repeat=repeat, wall_s=wall_s) for repeat, wall_s in seconds.items()
        ]

    given = [*rows("ours", {0: 2.0, 1: 4.0, 2: 1.0}), *rows("rustbpe", {0: 5.0, 1: 6.0, 2: 9.0})]
    found = ratios([*given, *rows("gigatoken", {1: 2.0, 7: 9.0}), *rows("tokenizers", {5: 1.0})])
    assert found == {
        ("x.txt", 300, "train", "ours"): Ratio(median=1.0, lowest=1.0, highest=1.0),
        ("x.txt", 300, "train", "rustbpe"): Ratio(median=2.5, lowest=1.5, highest=9.0),
        ("x.txt", 300, "train", "gigatoken"): Ratio(median=0.5, lowest=0.5, highest=0.5),
    }


def test_a_measuring_process_loads_no_torch():
    code = "import sys, core.experiments.tokenizer_measure\n"
    code += "print([name for name in ('torch', 'polars', 'tiktoken', 'numba') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
