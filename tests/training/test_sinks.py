"""Weights & Biases as a mirror: offline it writes its file, without a key it says so in one line."""

import os
import subprocess
import sys
import time

import pytest

from core.training.folder import run_folder
from core.training.run import train
from core.training.sinks import WandbSink


@pytest.mark.filterwarnings("ignore")  # wandb's own
def test_offline_run_holds_rows_and_configuration(tiny_config, dataset, tmp_path):
    folder = run_folder(tmp_path, "r")

    def sinks(trainer):
        return [WandbSink(tiny_config, "r", "offline", "project", str(folder.path))]

    train(tiny_config, dataset, folder, tmp_path / "results", sinks=sinks)
    (file,) = folder.path.glob("wandb/offline-run-*/run-r.wandb")
    wanted = [b"train_loss_nats", b"eval_loss_nats", b"grad_norm", b"floor_loss_nats", b"weight_decay"]
    wanted.append(repr(folder.rows()[-1].eval_loss_nats).encode())
    deadline = time.monotonic() + 60  # wandb writes in a process of its own, which may lag behind
    while missing := [name for name in wanted if name not in file.read_bytes()]:
        assert time.monotonic() < deadline, missing
        time.sleep(0.2)


def test_online_without_a_key_is_one_line(own_data, tmp_path):
    command = [sys.executable, "-m", "core", "train", "quickstart", "--wandb", "online", "--data", str(own_data)]
    command += ["--results", str(tmp_path / "results"), "model.vocab_size=400", "device=cpu", "--run-id", "online"]
    keyless = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    done = subprocess.run(
        command, capture_output=True, text=True, env=keyless | {"HOME": str(tmp_path)}, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 2
    assert "Weights & Biases cannot start: No API key configured" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("workbook: ")
