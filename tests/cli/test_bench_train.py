import dataclasses
import sys

import polars as pl
import pytest
import typer

import core.cli.app
from core.cli import bench
from core.config import canonical_json
from core.experiments import train_bench, train_cases, train_measure
from core.experiments.device_measure import default_device_id
from core.presets import preset
from core.records import TrainSpeedRow

TINY = ["model.vocab_size=53", "model.context_length=11", "model.d_model=22", "model.num_layers=1"]
TINY += ["model.num_heads=11", "model.d_ff=29"]
SECONDS = {
    "ours": [7.0, 2.0, 4.0, 1.0],
    "huggingface": [3.0, 4.0, 6.0, 3.0],
    "torch": [2.0, 1.0, 5.0, 2.0],
}
"""The first round warms up; then huggingface takes 2, 1.5 and 3 times as long as ours, torch 0.5, 1.25 and 2 times."""


@pytest.fixture
def workbook(monkeypatch, capsys):
    """Run `workbook bench train ...` in this process; returns exit code, standard output, standard error."""
    root = typer.Typer()
    root.add_typer(bench.app, name="bench")
    monkeypatch.setattr(core.cli.app, "app", root)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["workbook", "bench", "train", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            core.cli.app.main()
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return run


@pytest.fixture
def timed(monkeypatch):
    """Rows of made-up times instead of measurements; the calls' arguments."""
    calls = []

    def rows(cases, *, bench_id, git_commit, peak_flop_per_s, progress, on_problem, **arguments):
        calls.append({"cases": cases, **arguments})
        progress(1, 1)
        on_problem("jax float32: no memory")
        return [
            TrainSpeedRow(
                bench_id=bench_id,
                case=case.name,
                contestant=case.contestant,
                precision=case.config.precision,
                compiled=case.config.compile,
                optimizer="adamw",
                batch_size=case.config.batch_size,
                context_length=case.config.model.context_length,
                config_json=canonical_json(case.config),
                parameters=22_696_448,
                round=number,
                warm_up=number == 0,
                steps=1,
                step_s=step_s,
                optimizer_s=step_s / 8 if case.contestant == "ours" else None,
                batch_s=0.5,
                step_tokens=2048,
                model_flop=12e9,
                gemm_flop_per_s=8e9,
                peak_flop_per_s=peak_flop_per_s("float32"),
                loss_nats=4.0,
                agrees=case.contestant != "torch",
                peak_bytes=2**20 if case.contestant == "torch" else None,
                predicted_peak_bytes=3 * 2**20 if case.contestant == "ours" else None,
                device="cpu",
                device_name="box",
                num_threads=2,
                torch_version="2",
                transformers_version="5",
                git_commit=git_commit,
                utc="now",
            )
            for case in cases
            for number, step_s in enumerate(SECONDS[case.contestant])
        ]

    monkeypatch.setattr(train_bench, "speed_rows", rows)
    monkeypatch.setattr(train_cases, "installed", lambda name: True)
    monkeypatch.setattr(train_cases, "bfloat16_is_fast", lambda device: False)
    return calls


def test_rows_are_written_and_shown(workbook, timed, tmp_path):
    command = ["--results", tmp_path, "--out", "box", "--commit", "abc", "--device", "cpu"]
    code, out, err = workbook(*command, "--peak", "rtx-4090")
    assert (code, err) == (0, "")
    path = tmp_path / "train_speed" / "box.parquet"
    rows = pl.read_parquet(path)
    assert rows.select("case", "round", "step_s", "git_commit").row(5) == ("huggingface float32", 1, 4.0, "abc")
    assert rows["peak_flop_per_s"].unique().to_list() == [82.6e12]
    lines = [" ".join(line.split()) for line in out.splitlines()]
    no_bfloat16 = "this CPU has no instructions for it (--precision bfloat16-autocast measures it still)"
    assert lines[0] == f"left out: bfloat16-autocast: {no_bfloat16}"
    assert lines[-9:] == [
        "left out: jax float32: no memory",
        f"{path}: box, 2 threads, torch 2",
        "22.7 M parameters, batch 8 x 256, matrix products float32 8.00 GFLOP/s",
        "step tokens/s of products of peak optimizer memory predicted to start",
        "ours float32 2.00 s 1,024 75.0% 0.0% 12.5% 3.00 MiB 5.0 s",
        "huggingface float32 4.00 s 512 37.5% 0.0% 0.0 s",
        "torch float32 2.00 s 1,024 75.0% 0.0% 1.00 MiB 0.0 s other losses",
        "ours float32 is 2.00x (1.75-2.50) as fast as huggingface float32, 3 rounds",
        "ours float32 is 1.25x (0.88-1.62) as fast as torch float32, 3 rounds",
    ]

    code, out, _ = workbook(*command)
    assert (code, len(timed)) == (0, 1)
    assert "--fresh measures anew" in out
    assert "2.00x (1.75-2.50)" in out
    assert workbook(*command, "--fresh")[0] == 0
    assert len(timed) == 2
    assert pl.read_parquet(path)["peak_flop_per_s"].null_count() == 12
    code, out, err = workbook(*command, "--batch-size", 16)
    assert (code, len(timed), err.count("\n")) == (2, 2, 1)
    assert "box.parquet holds a measurement of something else: --fresh replaces it, --out NAME spares it" in err


def test_what_is_measured_is_what_was_asked_for(workbook, timed, tmp_path):
    command = ["--results", tmp_path, "--commit", "abc", "--device", "cpu"]
    assert workbook(*command)[0] == 0
    assert workbook("tinystories", *TINY, "batch_size=3", *command, "--compile", "--against", "torch")[0] == 0
    assert workbook(*command, "--quick", "--rounds", 5, "--batch-size", 7, "--precision", "float64")[0] == 0
    usual, tiny, quick = timed
    config = dataclasses.replace(preset("tinystories"), device="cpu", batch_size=8)
    assert [case.config for case in usual["cases"]] == [config] * 3
    assert {name: usual[name] for name in ("rounds", "warm_up", "steps")} == {"rounds": 10, "warm_up": 2, "steps": 1}
    assert [case.name for case in tiny["cases"]] == ["ours float32", "torch float32"]
    chosen = tiny["cases"][0].config
    assert (chosen.batch_size, chosen.compile, chosen.model.d_ff) == (3, True, 29)
    assert {name: quick[name] for name in ("rounds", "warm_up", "steps")} == {"rounds": 5, "warm_up": 1, "steps": 1}
    expected = dataclasses.replace(preset("quickstart"), device="cpu", batch_size=7, precision="float64")
    assert quick["cases"][0].config == expected
    name = default_device_id("cpu")
    assert {file.stem for file in (tmp_path / "train_speed").iterdir()} == {
        f"{name}-tinystories-batch-8",
        f"{name}-tinystories-batch-3",
        f"{name}-quickstart-batch-7-quick",
    }


def test_the_ladder_compares_each_step_with_the_one_before(workbook, timed, tmp_path, monkeypatch):
    monkeypatch.setattr("core.training.numerics.shutil.which", lambda name: None)
    command = ["--results", tmp_path, "--commit", "abc", "--device", "cpu", "--ladder", "--quick"]
    code, out, err = workbook(*command)
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert [line.partition(":")[0] for line in lines[:3]] == ["left out"] * 3
    assert lines[-3:] == [
        "fused attention is 1.00x (1.00-1.00) as fast as plain, 3 rounds",
        "loss in chunks is 1.00x (1.00-1.00) as fast as fused attention, 3 rounds",
        "checkpointing is 1.00x (1.00-1.00) as fast as loss in chunks, 3 rounds",
    ]
    (path,) = (tmp_path / "train_speed").iterdir()
    assert path.stem == f"{default_device_id('cpu')}-quickstart-batch-8-ladder-quick"


def test_a_real_measurement(workbook, tmp_path, monkeypatch):
    monkeypatch.setattr(train_measure, "GEMM_SIZES", {"cpu": (8, 16)})
    monkeypatch.setattr(train_measure, "ROUND_S", 1e-4)
    words = ["--against", "torch", "--precision", "float32", "--rounds", 2, "--warm-up", 1, "--device", "cpu"]
    code, out, err = workbook("quickstart", *TINY, *words, "--results", tmp_path, "--out", "box", "--commit", "abc")
    assert (code, err) == (0, "")
    rows = pl.read_parquet(tmp_path / "train_speed" / "box.parquet")
    assert rows["case"].to_list() == ["ours float32", "torch float32"] * 3
    assert rows["agrees"].to_list() == [True] * 6
    assert out.splitlines()[-1].startswith("ours float32 is ")


def test_errors_are_one_line(workbook, timed, tmp_path):
    (tmp_path / "file").write_text("")
    cases = {
        "'tinystorys' is neither a preset nor a file; did you mean tinystories?": ["tinystorys"],
        "there is no field 'd_ff'": ["tinystories", "d_ff=7"],
        "against is 'jax': it must be huggingface or torch": ["--against", "jax"],
        "precision is 'int8': it must be float32 or": ["--precision", "int8"],
        "precision is tf32, which only CUDA has": ["--precision", "tf32"],
        "device is 'tpu': it is not known": ["--peak", "tpu"],
        "device is 'abacus': this machine has": ["--device", "abacus"],
        "--ladder has its own precisions and compilation": ["--ladder", "--no-compile"],
        "feed_forward is 'gelu': core.model does not build that": ["tinystories", "model.feed_forward=gelu"],
        "out is '../x': it must be a plain name": ["--out", "../x"],
        "'--batch-size'": ["--batch-size", 0],
        "'--rounds'": ["--rounds", 0],
        "file": ["--results", tmp_path / "file"],
    }
    for message, words in cases.items():
        given = words if "--device" in words else [*words, "--device", "cpu"]
        given = given if "--results" in words else [*given, "--results", tmp_path / "results"]
        code, out, err = workbook(*given)
        assert (code, out, err.count("\n")) == (2, "", 1), words
        assert message in err
    assert timed == []
    assert not (tmp_path / "results").exists()
