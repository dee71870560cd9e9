import subprocess
import sys

import polars as pl
import pytest
import typer

import core.cli.app
from core.cli import bench
from core.config import ModelConfig
from core.experiments import memory_bench
from core.experiments.device_measure import default_device_id
from core.experiments.memory_bench import MemoryCase

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
