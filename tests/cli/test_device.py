import subprocess
import sys

import polars as pl
import pytest
import typer

import core.cli.app
from core.accounting.hardware import DEVICES
from core.cli import device
from core.experiments import device_measure


@pytest.fixture
def workbook(monkeypatch, capsys):
    """Run `workbook device ...` in this process; returns exit code, standard output, standard error."""
    root = typer.Typer()
    root.add_typer(device.app, name="device")
    monkeypatch.setattr(core.cli.app, "app", root)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["workbook", "device", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            core.cli.app.main()
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return run


@pytest.fixture
def tiny(monkeypatch):
    """Sizes that take no time."""
    monkeypatch.setattr(device_measure, "GEMM_SIZES", {"cpu": (13, 29)})
    monkeypatch.setattr(device_measure, "COPY_BYTES", {"cpu": 4 * 1009})
    monkeypatch.setattr(device_measure, "ROUNDS", 2)
    monkeypatch.setattr(device_measure, "MIN_RUN_TIME_S", 1e-3)


def test_measure_writes_rows_and_list_shows_them(workbook, tiny, tmp_path):
    command = ["measure", "--device", "cpu", "--results", tmp_path, "--name", "box", "--commit", "abc"]
    code, out, err = workbook(*command)
    assert (code, err) == (0, "")
    assert out.count("round ") == 2
    path = tmp_path / "devices" / "box.parquet"
    rows = pl.read_parquet(path)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]
    assert set(rows["quantity"]) == {"gemm", "copy", "launch", "memory"}
    assert rows["git_commit"].unique().to_list() == ["abc"]
    products = rows.filter(quantity="gemm", dtype="float32")
    assert f"{products['value'].max() / 1e9:,.2f} GFLOP/s" in out
    best = max(2 * size**3 / best_s for size, best_s in products.select("size", "best_s").rows())
    assert f" ({best / 1e9:,.2f})" in out

    code, out, _ = workbook("list", "--results", tmp_path)
    assert code == 0
    for name, known in DEVICES.items():
        assert f"{name}: {known.name}, " in out
    assert "bfloat16 accumulated in float32      989.4 TFLOP/s    295.3 FLOP/byte  published" in out
    line = next(line for line in out[out.index("\nbox: ") :].splitlines() if "float32 accumulated" in line)
    assert line.split()[-1] == "measured"
    assert float(line.split()[4]) == pytest.approx(best / 1e12, rel=1e-3)

    before = path.read_bytes()
    code, out, _ = workbook(*command)
    assert (code, path.read_bytes()) == (0, before)
    assert "--fresh measures anew" in out
    assert f" ({best / 1e9:,.2f})" in out
    code, out, _ = workbook(*command, "--fresh")
    assert "round 1 of 2" in out
    assert path.read_bytes() != before


def test_default_name_is_the_products(workbook, tiny, tmp_path):
    assert workbook("measure", "--device", "cpu", "--results", tmp_path)[0] == 0
    name = device_measure.default_device_id("cpu")
    assert [file.name for file in (tmp_path / "devices").iterdir()] == [f"{name}.parquet"]


def test_errors_are_one_line(workbook, tmp_path):
    (tmp_path / "file").write_text("")
    cases = {
        "device is 'tpu': this machine has": ["--device", "tpu"],
        "name is '../x': it must be a plain name": ["--name", "../x"],
        "name is '': it must be a plain name": ["--name", ""],
        "name is 'h200': the published figures have this name; choose another": ["--name", "h200"],
        "file": ["--results", tmp_path / "file"],
    }
    for message, words in cases.items():
        code, out, err = workbook("measure", "--device", "cpu", "--results", tmp_path / "results", *words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err
    assert not (tmp_path / "results").exists()


def test_list_names_files_that_cannot_be_read(workbook, tmp_path):
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "torn.parquet").write_bytes(b"PAR1")
    code, out, _ = workbook("list", "--results", tmp_path)
    assert code == 0
    assert "torn.parquet: cannot be read" in out.splitlines()[-1]


def test_importing_the_commands_imports_nothing_heavy():
    code = "import sys, core.cli.device\n"
    code += "print([name for name in ('torch', 'polars', 'numpy', 'psutil') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
