import subprocess
import sys

import polars as pl
import pytest
import typer

import core.cli.app
from core.cli import bench
from core.config import ModelConfig
from core.experiments import memory_bench, tokenizer_bench
from core.experiments.device_measure import default_device_id, slug
from core.experiments.memory_bench import MemoryCase
from core.records import TokenizerSpeedRow
from core.training.device import device_name

TINY = ModelConfig(vocab_size=53, context_length=11, d_model=22, num_layers=2, num_heads=11, d_ff=29)
CASES = [
    MemoryCase(name="one", model=TINY, batch_size=3),
    MemoryCase(name="other", model=TINY, batch_size=1, workload={"precision": "bfloat16-autocast"}),
]


@pytest.fixture
def workbook(monkeypatch, capsys):
    """Run `workbook bench ...` in this process; returns exit code, standard output, standard error."""
    root = typer.Typer()
    root.add_typer(bench.app, name="bench")
    monkeypatch.setattr(core.cli.app, "app", root)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["workbook", "bench", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            core.cli.app.main()
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return run


@pytest.fixture
def tiny(monkeypatch):
    """Two cases that take no time, the first alone if quick."""
    monkeypatch.setattr(memory_bench, "memory_cases", lambda quick: CASES[: 1 if quick else 2])


def test_memory_writes_rows_and_shows_them(workbook, tiny, tmp_path):
    command = ["memory", "--results", tmp_path, "--out", "box", "--commit", "abc"]
    code, out, err = workbook(*command)
    assert (code, err) == (0, "")
    path = tmp_path / "memory" / "box.parquet"
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]
    rows = pl.read_parquet(path)
    assert rows.select("case", "precision", "bench_id", "git_commit").rows() == [
        ("one", "float32", "box", "abc"),
        ("other", "bfloat16-autocast", "box", "abc"),
    ]
    differences = dict(zip(rows["case"], rows["predicted_bytes"] / rows["measured_bytes"] - 1, strict=True))
    for case, difference in differences.items():
        line = next(line for line in out.splitlines() if line.startswith(case))
        assert f"{difference:+.3%}" in line
    worst = max(differences, key=lambda case: abs(differences[case]))
    assert f"worst of 2: {differences[worst]:+.3%} ({worst}, " in out
    assert out.splitlines()[-1] == "saved bytes: 2 of 2 equal"

    before = path.read_bytes()
    code, out, _ = workbook(*command)
    assert (code, path.read_bytes()) == (0, before)
    assert "--fresh measures anew" in out
    assert "worst of 2" in out
    code, out, _ = workbook(*command, "--fresh", "--quick")
    assert code == 0
    assert pl.read_parquet(path)["case"].to_list() == ["one"]


def test_the_default_name_is_the_devices_and_says_what_is_quick(workbook, tiny, tmp_path):
    assert workbook("memory", "--results", tmp_path, "--commit", "abc")[0] == 0
    assert workbook("memory", "--results", tmp_path, "--commit", "abc", "--quick")[0] == 0
    name = default_device_id("cpu")
    assert {file.stem for file in (tmp_path / "memory").iterdir()} == {name, f"{name}-quick"}


def test_errors_are_one_line(workbook, tiny, tmp_path):
    (tmp_path / "file").write_text("")
    cases = {
        "device is 'tpu': this machine has": ["--device", "tpu"],
        "out is '../x': it must be a plain name": ["--out", "../x"],
        "file": ["--results", tmp_path / "file"],
    }
    for message, words in cases.items():
        code, out, err = workbook("memory", "--results", tmp_path / "results", *words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err
    assert not (tmp_path / "results").exists()


def test_importing_the_command_imports_nothing_heavy():
    code = "import sys, core.cli.bench\n"
    code += "print([name for name in ('torch', 'polars', 'numpy', 'psutil') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.fixture
def timed(monkeypatch):
    """Rows of made-up times instead of measurements; the calls' arguments."""
    calls = []
    seconds = {("ours", 0): 2.0, ("ours", 1): 4.0, ("gigatoken", 0): 3.0, ("gigatoken", 1): 12.0}

    def rows(corpora, folder, *, on_problem, progress, **arguments):
        calls.append(arguments | {"texts": [corpus.path.read_bytes() for corpus in corpora]})
        progress(1, 1)
        on_problem("rustbpe, train: no memory")
        common = {
            **{name: arguments[name] for name in ("bench_id", "num_threads", "git_commit")},
            **{"device_name": "box", "python_version": "3", "numba_version": None, "utc": "now"},
            **{"package_version": "1", "corpus_sha256": "", "process_s": None, "unwritten_s": None, "cpu_s": 1.0},
            **{"corpus": corpora[0].name, "corpus_bytes": 8_000_000, "text_bytes": 8_000_000, "tokens": 7},
        }
        return [
            TokenizerSpeedRow(
                work=work,
                engine=engine,
                repeat=repeat,
                vocab_size=1000,
                wall_s=wall_s,
                calls=100_000 if work == "short_50" else 1,
                agrees=(engine, work) != ("gigatoken", "train"),
                peak_rss_bytes=None if work == "short_50" else (1 + repeat) * 2**20,
                **common,
            )
            for work in ("compile", "train", "short_50")
            for (engine, repeat), wall_s in seconds.items()
            if work != "compile" or (engine, repeat) == ("ours", 1)
        ]

    monkeypatch.setattr(tokenizer_bench, "tokenizer_rows", rows)
    return calls


def test_tokenizer_writes_rows_and_shows_them(workbook, timed, tmp_path):
    (tmp_path / "mine.txt").write_text("text")
    command = ["tokenizer", tmp_path / "mine.txt", "--results", tmp_path, "--out", "box", "--commit", "abc"]
    options = ["--vocab-size", 1000, "--work", "short", "--work", "train", "--against", "gigatoken", "--threads", 3]
    code, out, err = workbook(*command, *options)
    assert (code, err) == (0, "")
    (call,) = timed
    assert call.pop("engines")[0] == "ours"
    expected = {"vocab_sizes": [1000], "works": ["train", "short"], "repeats": 3, "num_threads": 3, "calls": 3000}
    assert call == expected | {"texts": [b"text"], "bench_id": "box", "git_commit": "abc"}
    rows = pl.read_parquet(tmp_path / "tokenizer_speed" / "box.parquet")
    assert rows.select("work", "engine", "repeat", "wall_s").row(4) == ("train", "gigatoken", 1, 12.0)
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[-9:] == [
        "left out from there on: rustbpe, train: no memory",
        f"{tmp_path}/tokenizer_speed/box.parquet: box, 3 threads",
        "first use of our compiled code: 4.0 s",
        "mine.txt, 8,000,000 bytes",
        "work vocabulary engine median time against ours memory",
        "train 1,000 ours 3.0 MB/s 2.00 MiB",
        "train 1,000 gigatoken 1.7 MB/s 2.25x (1.50-3.00) 2.00 MiB other tokens",
        "short_50 1,000 ours 30.0 us/call",
        "short_50 1,000 gigatoken 75.0 us/call 2.25x (1.50-3.00)",
    ]

    code, out, _ = workbook(*command)
    assert (code, len(timed)) == (0, 1)
    assert "--fresh measures anew" in out
    assert "2.25x (1.50-3.00)" in out
    assert workbook(*command, "--fresh")[0] == 0
    assert len(timed) == 2


def test_tokenizer_generates_its_text_and_names_what_it_measures(workbook, timed, tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizer_bench, "installed", lambda engine: engine != "tiktoken")
    code, out, _ = workbook("tokenizer", "--quick", "--bytes", 3000, "--results", tmp_path, "--commit", "abc")
    assert code == 0
    assert "tiktoken is not installed and left out" in out
    (call,) = timed
    (text,) = call["texts"]
    assert 3000 <= len(text) < 20_000
    assert text.endswith(b"<|endoftext|>")
    assert (call["vocab_sizes"], call["repeats"], call["calls"]) == ([1000], 1, 300)
    assert "tiktoken" not in call["engines"]
    (path,) = (tmp_path / "tokenizer_speed").iterdir()
    assert path.stem == f"{slug(device_name('cpu'))}-longtail-0mb-quick"


def test_tokenizer_errors_are_one_line(workbook, timed, tmp_path):
    (tmp_path / "empty.txt").touch()
    cases = {
        "--bytes is 9: it is the size of generated text, and a text is given": [tmp_path / "empty.txt", "--bytes", 9],
        "empty.txt: the file is empty": [tmp_path / "empty.txt"],
        "gone.txt: no such file": [tmp_path / "gone.txt"],
        "against is 'bert': it must be one of ours-reference, tokenizers": ["--against", "bert"],
        "'--work'": ["--work", "dream"],
        "'--vocab-size'": ["--vocab-size", 256],
        "out is '../x': it must be a plain name": ["--out", "../x"],
    }
    for message, words in cases.items():
        code, _, err = workbook("tokenizer", "--results", tmp_path / "results", *words)
        assert (code, err.count("\n")) == (2, 1), message
        assert message in err
    assert timed == []
    assert list(tmp_path.rglob("*.parquet")) == []
