"""Two gloo processes on the CPU against one: the same losses, and each resumes what the other began."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from core import results
from core.config import to_dict
from core.training import distributed

DRIVER = Path(__file__).parent / "spread_run.py"
ROOT = Path(__file__).parents[2]


def run(processes, config, data, results_dir, run_id, parallel="ddp", stop_after=99):
    """Train in so many processes; returns the rows of `steps`."""
    path = data / f"{run_id}.json"
    path.write_text(json.dumps(to_dict(config)))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    words = [path, data, results_dir, run_id, parallel, stop_after]
    command = [sys.executable, *(launcher if processes > 1 else []), DRIVER, *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return results.read_rows(results_dir, "steps", run_id)


def column(rows, name):
    return [row[name] for row in rows if row[name] is not None]


@pytest.fixture
def config(tiny_config):
    return dataclasses.replace(
        tiny_config, batch_size=6, micro_batch_size=1, num_steps=10, precision="float32", device="cpu", ema_decay=0.9
    )


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_give_the_losses_of_one_and_resume_each_other(config, own_data, tmp_path, parallel):
    one = run(1, config, own_data, tmp_path / "results", "one")
    two = run(2, config, own_data, tmp_path / "results", "two", parallel)
    for name in ("train_loss_nats", "eval_loss_nats", "grad_norm"):
        assert len(column(one, name)) == len(column(two, name)) > 0
        assert column(two, name) == pytest.approx(column(one, name), abs=1e-5, rel=1e-5)
    assert [row["step"] for row in two] == list(range(11))
    row = results.read_run(tmp_path / "results", "two")
    assert (row["world_size"], row["parallel"]) == (2, parallel)
    assert results.read_run(tmp_path / "results", "one")["parallel"] is None

    for first, then, run_id in ((2, 1, "shrunk"), (1, 2, "grown")):
        begun = run(first, config, own_data, tmp_path / "results", run_id, parallel, stop_after=4)
        assert [row["step"] for row in begun] == list(range(5))
        rows = run(then, config, own_data, tmp_path / "results", run_id, parallel)
        assert [row["step"] for row in rows] == list(range(11))
        assert {row["segment"] for row in rows} == {0, 1}
        assert column(rows, "train_loss_nats") == pytest.approx(column(one, "train_loss_nats"), abs=1e-5)
        assert column(rows, "eval_loss_nats") == pytest.approx(column(one, "eval_loss_nats"), abs=1e-5)


@pytest.mark.slow
def test_a_process_that_is_lost_is_named_in_one_line(tmp_path):
    script = (
        "import os, torch, torch.distributed as d\n"
        "from core.training import distributed\n"
        "with distributed.joined('cpu'):\n"
        "    distributed.wait_for_all()\n"
        "    if distributed.rank() == 1: os._exit(9)\n"
        "    try:\n"
        "        while True: distributed.agree(True)\n"
        "    finally: pass\n"
    )
    main = f"import sys\ntry:\n    exec({script!r})\nexcept ConnectionError as error:\n    sys.exit(f'SAID {{error}}')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", main],
            env={**environment, "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert processes[1].returncode == 9
    (line,) = [line for line in errors[0].splitlines() if line.startswith("SAID")]
    assert "another process of this run was lost; the same command goes on from the last checkpoint" in line
    assert "Traceback" not in errors[0]


def _free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.slow
def test_muon_orthogonalises_whole_matrices_though_they_are_divided(config, own_data, tmp_path):
    muon = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, kind="muon"))
    one = run(1, muon, own_data, tmp_path / "results", "one")
    two = run(2, muon, own_data, tmp_path / "results", "two", "fsdp")
    assert column(two, "train_loss_nats") == pytest.approx(column(one, "train_loss_nats"), abs=1e-4)


@pytest.mark.parametrize("places", [1, 2, 3, 5, 7, 11])
def test_parts_of_the_work_are_equally_long_and_leave_nothing_out(monkeypatch, places):
    items = list(range(7))
    monkeypatch.setattr(distributed, "world_size", lambda: places)
    parts = []
    for rank in range(places):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(distributed.share(items))
    assert {len(part) for part in parts} == {-(-7 // places)}
    assert {item for part in parts for item in part} == set(items)


@pytest.mark.parametrize(
    ("batch_size", "micro", "places", "expected"), [(12, None, 1, 12), (12, 4, 1, 4), (12, 4, 3, 4), (12, 6, 4, 3)]
)
def test_what_a_process_takes_at_once(monkeypatch, batch_size, micro, places, expected):
    monkeypatch.setattr(distributed, "world_size", lambda: places)
    assert distributed.check_divisible(batch_size, micro) == expected


def test_a_batch_that_can_not_be_dealt_out_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 5)
    with pytest.raises(ValueError, match="batch_size 12 is not a multiple of the 5 processes that share it"):
        distributed.check_divisible(12, None)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(ValueError, match="micro_batch_size 4 does not divide the 6 sequences that each of 2 gets"):
        distributed.check_divisible(12, 4)


def test_alone_nothing_is_exchanged():
    values = np.array([0.0, 2.0])
    assert distributed.put_together(values) is values
    assert distributed.agree(True)
    assert not distributed.agree(False)
    loss = torch.tensor(3.0)
    assert distributed.mean_of_all(loss) is loss
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    assert distributed.local_device("cuda") == "cuda"


@pytest.mark.parametrize("device", ["mps", "cuda:1", "cpu:0"])
def test_several_processes_need_a_device_each(monkeypatch, device):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(ValueError, match=f"device is {device}: several processes need"), distributed.joined(device):
        pass
