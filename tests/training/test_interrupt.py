"""Signals to a real process: Ctrl-C saves and exits cleanly, and the same command goes on as if nothing had been."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from tiny_run import TINY_FIELDS

from core.training.folder import RunFolder

ROOT = Path(__file__).parents[2]
TINY = [*TINY_FIELDS, "name=mini", "num_steps=400", "eval_every=50", "checkpoint_every=50"]


def start(data: Path, results: Path, run_id: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "core", "train", "quickstart", *TINY, "--run-id", run_id, "--samples", "0"]
    command += ["--data", str(data), "--results", str(results)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


def wait_for_step(folder: RunFolder, step: int, process: subprocess.Popen) -> None:
    while not any(row.step >= step for row in folder.rows()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def losses(folder: RunFolder) -> list[tuple]:
    return [(row.step, row.train_loss_nats, row.eval_loss_nats) for row in folder.rows()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_saves_and_the_same_command_resumes(own_data, tmp_path, number):
    data, results = own_data, tmp_path / "results"
    folder = RunFolder(data / "runs" / "x")
    process = start(data, results, "x")
    wait_for_step(folder, 60, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert all(line.startswith("  step ") for line in err.splitlines())  # evaluations, and no complaint
    assert "stopped after" in out
    assert "the same command resumes it" in out
    row = pl.read_parquet(results / "runs" / "x.parquet").row(0, named=True)
    assert row["status"] == "stopped"
    assert row["steps"] == folder.checkpoint_steps()[-1] == folder.rows()[-1].step

    process = start(data, results, "x")
    process.communicate(timeout=120)
    whole = start(data, results, "whole")
    whole.communicate(timeout=120)
    assert losses(folder) == losses(RunFolder(data / "runs" / "whole"))
    assert pl.read_parquet(results / "steps" / "x.parquet")["step"].to_list() == list(range(401))
