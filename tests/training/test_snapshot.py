import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from core.optim.adamw import AdamW
from core.presets import preset
from core.training.checkpoint import read_checkpoint, write_checkpoint
from core.training.snapshot import BackgroundWriter, Snapshot, take_snapshot

ROOT = Path(__file__).parents[2]


def a_step(model: nn.Module, optimizers: list) -> None:
    model(torch.ones(2, 3)).square().sum().backward()
    for optimizer in optimizers:
        optimizer.step()


def snapshot(model: nn.Module, optimizers: list) -> Snapshot:
    return take_snapshot(model, optimizers, None, step=1, config=preset("quickstart"), extra={})


def test_a_snapshot_stays_as_it_was_while_training_goes_on():
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 7))
    optimizers = [AdamW(model[0].parameters(), lr=0.1), torch.optim.SGD(model[1].parameters(), lr=0.1, momentum=0.9)]
    a_step(model, optimizers)
    taken = snapshot(model, optimizers)
    assert list(taken.weights) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert set(taken.optimizer) == {
        *("0.weight.mean", "0.weight.mean_square", "0.bias.mean", "0.bias.mean_square"),
        *("1.weight.momentum_buffer", "1.bias.momentum_buffer"),
    }
    assert taken.numbers == {"0.weight.step": 1, "0.bias.step": 1}
    was = {name: tensor.clone() for name, tensor in (taken.weights | taken.optimizer).items()}
    a_step(model, optimizers)
    assert all(torch.equal(tensor, was[name]) for name, tensor in (taken.weights | taken.optimizer).items())
    now = snapshot(model, optimizers)
    assert not any(torch.equal(tensor, was[name]) for name, tensor in (now.weights | now.optimizer).items())


def test_a_snapshot_makes_no_state_where_there_is_none():
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 7))
    optimizers = [AdamW(part.parameters(), lr=0.1) for part in model]
    taken = snapshot(model, optimizers)
    assert (taken.optimizer, taken.numbers, taken.average, taken.average_step) == ({}, {}, None, None)
    assert [len(optimizer.state) for optimizer in optimizers] == [0, 0]


def test_tied_weights_are_copied_once_and_strided_ones_in_order(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    model[0].weight.data = model[0].weight.data.t()
    taken = snapshot(model, [])
    assert list(taken.weights) == ["0.weight"]
    assert taken.weights["0.weight"].is_contiguous()
    assert torch.equal(taken.weights["0.weight"], model[0].weight)
    write_checkpoint(tmp_path / "step-00000001", taken)
    assert read_checkpoint(tmp_path / "step-00000001")["step"] == 1


def test_the_writer_does_not_hold_up_who_submits_and_writes_one_at_a_time():
    go, events = threading.Event(), []

    def slow() -> None:
        go.wait()
        events.append("first")

    with BackgroundWriter() as writer:
        writer.submit(slow)
        writer.check()  # nothing yet, and no waiting
        assert events == []
        threading.Timer(0.05, go.set).start()
        writer.submit(lambda: events.append("second"))
        assert events[0] == "first"  # so the submission waited
    assert events == ["first", "second"]


def test_an_error_of_the_writer_is_raised_once_where_it_is_asked_for():
    def fail() -> None:
        raise OSError("no space")

    with BackgroundWriter() as writer:
        writer.submit(fail)
        with pytest.raises(OSError, match="no space"):
            writer.wait()
        writer.check()
        writer.wait()
    with pytest.raises(OSError, match="no space"), BackgroundWriter() as writer:  # at the end of the run
        writer.submit(fail)


def test_an_error_on_its_way_is_not_hidden_by_the_writer_s():
    def fail_after(writer: BackgroundWriter) -> None:
        with writer:
            writer.submit(lambda: (_ for _ in ()).throw(OSError("no space")))
            raise KeyError("first")

    with pytest.raises(KeyError, match="first"):
        fail_after(BackgroundWriter())


def test_leaving_the_writer_waits_for_what_is_being_written():
    begun, go, done = threading.Event(), threading.Event(), []

    def write() -> None:
        begun.set()
        go.wait()
        done.append("written")

    def interrupted() -> None:
        with BackgroundWriter() as writer:
            writer.submit(write)
            begun.wait()
            threading.Timer(0.05, go.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == ["written"]


PROCESSES = """
import sys
from pathlib import Path
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from core.optim.adamw import AdamW
from core.presets import preset
from core.training import checkpoint
from core.optim.shards import full
from core.training.distributed import is_main
from core.training.snapshot import take_snapshot

def build(sharded):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 7))
    if sharded:
        mesh = init_device_mesh("cpu", (2,))
        fully_shard(model[0], mesh=mesh)
        fully_shard(model, mesh=mesh)  # keeps its own weights, the second part's, gathered after a forward
    return model, [AdamW(part.parameters(), lr=0.1) for part in model]

def advance(model, optimizers):
    model(torch.ones(2, 3)).square().sum().backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        model(torch.ones(2, 3))  # an evaluation, which may leave weights gathered

def save(path, model, optimizers):
    taken = take_snapshot(model, optimizers, None, step=1, config=preset("quickstart"), extra={})
    assert (taken is not None) == is_main()
    if taken is not None:
        checkpoint.write_checkpoint(path, taken)

def load(path, model, optimizers):
    checkpoint.load_weights(path, model)
    checkpoint.load_optimizers(path, checkpoint.read_content(path), model, optimizers)

folder = Path(sys.argv[1])
if sys.argv[2] == "alone":
    run = build(False)
    advance(*run)
    save(folder / "step-00000001", *run)
elif sys.argv[2] == "alone again":
    for name in ("step-00000002", "step-00000003"):  # what the two processes wrote: from one's, and their own
        run = build(False)
        load(folder / name, *run)
        advance(*run)
        save(folder / f"step-0000001{name[-1]}", *run)
else:
    distributed.init_process_group("gloo")
    run = build(True)
    load(folder / "step-00000001", *run)
    save(folder / "step-00000002", *run)
    run = build(True)
    advance(*run)
    save(folder / "step-00000003", *run)
    advance(*run)
    save(folder / "step-00000004", *run)
    distributed.destroy_process_group()
"""


def tensors(path: Path) -> dict:
    from safetensors.torch import load_file

    return load_file(path / "model.safetensors") | load_file(path / "optimizer.safetensors")


@pytest.mark.slow
def test_a_sharded_run_s_checkpoint_is_the_whole_run_s_and_each_resumes_the_other(tmp_path):
    (tmp_path / "script.py").write_text(PROCESSES)
    together = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for start, phase in (([], "alone"), (together, "together"), ([], "alone again")):
        command = [sys.executable, *start, str(tmp_path / "script.py"), str(tmp_path), phase]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    first, passed_on, sharded, sharded_on, from_one, from_two = (
        tensors(tmp_path / f"step-{step:08d}") for step in (1, 2, 3, 4, 12, 13)
    )
    assert first.keys() == passed_on.keys() == sharded.keys()
    assert len(first) == 4 * 3
    for name, tensor in first.items():
        assert torch.equal(passed_on[name], tensor), name
        torch.testing.assert_close(sharded[name], tensor)
        torch.testing.assert_close(from_two[name], from_one[name])
        torch.testing.assert_close(sharded_on[name], from_one[name])
