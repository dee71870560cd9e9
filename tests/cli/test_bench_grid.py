import os
import signal
import subprocess
import sys
import time

import polars as pl
import pytest

from core.experiments import grid_run
from core.experiments.device_measure import default_device_id
from core.experiments.grid_rounds import Rounds
from core.experiments.grid_visit import Visit

SPEC = """
axes:
  batch_size: [2, 3]
  context_length: 5
  d_model: [6, 10]
  num_heads: 3
  num_layers: 1
  d_ff: [7, 11]
  vocab_size: 13
constraints:
  - batch_size * d_ff <= 22
visits: 1
more_visits: 0
"""
PARTS = """
name: two
seed: 3
visits: 1
more_visits: 0
parts:
  - axes: {batch_size: 2, context_length: 5, d_model: 6, num_heads: 3, num_layers: 1, d_ff: 7, vocab_size: 13}
    phases: [forward]
  - subject: softmax
    axes: {batch_size: [1, 2, 3], num_heads: 2, context_length: 7, precision: [float32, bfloat16]}
    sample: 2
"""


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture
def measured(monkeypatch):
    """Made-up times; the subjects that were measured."""
    subjects = []

    def visit(point, device, phases, reference, *, num_rounds, number):
        subjects.append(point.subject)
        rounds = range(num_rounds)
        return Visit(
            rounds={
                phase: Rounds(
                    seconds=tuple(1.0 + place + (2.0 * turn if phase == "forward" else 0.0) for turn in rounds),
                    reference_s=(0.5,) * num_rounds,
                    visits=(number,) * num_rounds,
                    num_blocks=num_rounds,
                )
                for place, phase in enumerate(phases)
            }
        )

    monkeypatch.setattr(grid_run, "visit_point", visit)
    return subjects


def test_a_grid_is_measured_once_and_summed_up(workbook, spec, measured, tmp_path):
    command = ["bench", "grid", spec, "--device", "cpu", "--results", tmp_path / "results", "--commit", "abc"]
    code, out, err = workbook(*command)
    assert (code, err) == (0, "")
    # Heads of a width of 2; 10 is not divisible by 3; 3 * 11 is too many.
    path = tmp_path / "results" / "benchmarks" / f"{default_device_id('cpu')}-mine.parquet"
    rows = pl.read_parquet(path)
    assert measured == ["model"] * 3
    assert rows.height == 15
    assert set(rows.select("batch_size", "d_ff", "d_head").rows()) == {(2, 7, 2), (2, 11, 2), (3, 7, 2)}
    assert rows["git_commit"].unique().to_list() == ["abc"]
    lines = out.splitlines()
    assert lines[0].startswith("4 combinations left out that no model can have (d_model 10 is not divisible by")
    assert "has not been measured (workbook device measure)" in lines[1]
    assert lines[3:6] == [
        "points: 3 ok",
        "noisy: 3 of 15 phases",
        "phases do not add up to the step within 5 %: 3 of 3",
    ]
    assert lines[6].split()[0] == "1.800"  # (2 + 3 + 4) / 5

    before = path.read_bytes()
    code, out, _ = workbook(*command)
    assert (code, path.read_bytes(), len(measured)) == (0, before, 3)
    assert "3 points stand (--fresh measures anew)" in out
    assert "points: 3 ok" in out
    assert workbook(*command, "--fresh")[0] == 0
    assert len(measured) == 6


def test_parts_phases_and_a_name(workbook, measured, tmp_path):
    (tmp_path / "any.yml").write_text(PARTS)
    command = ["bench", "grid", tmp_path / "any.yml", "--device", "cpu", "--results", tmp_path, "--out", "box"]
    assert workbook(*command)[0] == 0
    rows = pl.read_parquet(tmp_path / "benchmarks" / "box.parquet")
    assert sorted(measured) == ["model", "softmax", "softmax"]
    assert rows.filter(subject="model")["phase"].to_list() == ["forward"]
    assert workbook(*command[:-2])[0] == 0
    assert (tmp_path / "benchmarks" / f"{default_device_id('cpu')}-two.parquet").exists()


def test_listing_measures_nothing(workbook, spec, measured, tmp_path):
    code, out, err = workbook("bench", "grid", spec, "--device", "cpu", "--results", tmp_path / "r", "--list")
    assert (code, err, measured) == (0, "", [])
    assert not (tmp_path / "r").exists()
    assert sum(line.startswith("model batch ") for line in out.splitlines()) == 3
    assert out.splitlines()[-1] == "3 points, about 12.0 s"


def test_failures_are_shown_and_tried_again_when_asked_for(workbook, spec, monkeypatch, tmp_path):
    tried = []

    def fail(point, *_, **__):
        tried.append(point)
        return Visit(status="error", message="no kernel for this")

    monkeypatch.setattr(grid_run, "visit_point", fail)
    command = ["bench", "grid", spec, "--device", "cpu", "--results", tmp_path, "--out", "box"]
    code, out, _ = workbook(*command)
    assert (code, len(tried)) == (0, 3)
    assert "points: 3 error" in out
    assert out.count("error: model batch ") == out.count(": no kernel for this") == 3
    assert workbook(*command)[0] == 0
    assert len(tried) == 3
    assert workbook(*command, "--retry")[0] == 0
    assert len(tried) == 6


def test_a_request_to_stop_ends_after_the_point_at_hand(workbook, spec, monkeypatch, tmp_path):
    def stop(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)
        return Visit(status="error", message="stopped")

    monkeypatch.setattr(grid_run, "visit_point", stop)
    code, out, err = workbook("bench", "grid", spec, "--device", "cpu", "--results", tmp_path, "--out", "box")
    assert (code, err) == (0, "")
    assert "stopped with 2 of 3 points to measure, or to visit once more; what is measured is saved" in out
    assert pl.read_parquet(tmp_path / "benchmarks" / "box.parquet")["point_id"].n_unique() == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("axes: [", "neither YAML nor JSON"),
        ("- 3", "fields and their values were expected, not list"),
        (SPEC.replace("d_ff:", "d_fff:"), "axis of model is 'd_fff': there is batch_size"),
        (SPEC.replace("constraints:", "constrains:"), "there is no field 'constrains'"),
        (PARTS.replace("sample", "smaple"), "there is no field 'smaple'"),
        (PARTS.replace("sample: 2", "sample: two"), "parts.2.sample is 'two'"),
        (SPEC.replace("<= 22", "<= 2"), "none of 8 combinations is feasible: "),
        (SPEC.replace("<= 22", "<="), "constraint 'batch_size * d_ff <=' is no SQL expression"),
        ("parts: 3", "parts is 3"),
        (SPEC.replace("visits: 1", "visits: 0", 1), "visits is 0"),
        ("name: x\nparts: []", "grid x has no parts"),
        ("seed: 1", "axes: missing"),
        (SPEC + "precision: float32", "there is no field 'precision'"),
        (SPEC.replace("vocab_size: 13", "vocab_size: 13\n  precision: tf32"), "precision is tf32, which only CUDA has"),
    ],
)
def test_bad_specs_are_one_line(workbook, measured, tmp_path, text, message):
    (tmp_path / "mine.yaml").write_text(text)
    results = tmp_path / "results"
    code, _, err = workbook("bench", "grid", tmp_path / "mine.yaml", "--device", "cpu", "--results", results)
    assert (code, err.count("\n"), measured) == (2, 1, [])
    assert message in err
    assert not results.exists()


def test_other_refusals_are_one_line(workbook, measured, spec, tmp_path):
    (tmp_path / "file").write_text("")
    foreign = tmp_path / "foreign" / "benchmarks" / "box.parquet"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("no parquet")
    theirs = tmp_path / "theirs" / "benchmarks" / "theirs.parquet"
    theirs.parent.mkdir(parents=True)
    pl.DataFrame({"a": [1]}).write_parquet(theirs)
    cases = {
        "'smoek' is neither a grid nor a file; did you mean smoke": ["smoek"],
        "gone.yaml": [tmp_path / "gone.yaml"],
        "device is 'tpu': this machine has": [spec, "--device", "tpu"],
        "out is '../x': it must be a plain name": [spec, "--out", "../x"],
        "theirs.parquet: not the rows of a grid": [spec, "--results", tmp_path / "theirs", "--out", "theirs"],
        "cannot be read": [spec, "--results", tmp_path / "foreign", "--out", "box"],
        "file": [spec, "--results", tmp_path / "file"],
    }
    for message, words in cases.items():
        code, _, err = workbook("bench", "grid", "--device", "cpu", "--results", tmp_path / "r", *words)
        assert (code, err.count("\n"), measured) == (2, 1, []), message
        assert message in err
    assert pl.read_parquet(theirs).columns == ["a"]


@pytest.mark.slow
def test_interrupted_for_real_it_goes_on_where_it_stopped(tmp_path):
    command = [sys.executable, "-m", "core", "bench", "grid", "smoke", "--device", "cpu", "--commit", "x"]
    command += ["--results", str(tmp_path), "--out", "box"]
    path = tmp_path / "benchmarks" / "box.parquet"
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while not path.exists() and running.poll() is None:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    out, _ = running.communicate(timeout=120)
    assert running.returncode == 0
    done = pl.read_parquet(path)
    assert 1 <= done["point_id"].n_unique() < 9
    assert "what is measured is saved" in out
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"{done['point_id'].n_unique()} points stand" in finished.stdout
    assert "points: 9 ok" in finished.stdout
    rows = pl.read_parquet(path)
    assert rows.height == rows.select("point_id", "phase").n_unique()
    assert rows[: done.height].equals(done)
    steps = rows.filter(phase="step")
    assert (steps["peak_bytes"] / steps["predicted_peak_bytes"] - 1).abs().max() < 0.05
