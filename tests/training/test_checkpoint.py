import dataclasses
import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from core.optim.adamw import AdamW
from core.optim.muon import Muon
from core.training import checkpoint
from core.training.checkpoint import read_checkpoint, remove_checkpoint, remove_leftovers, write_checkpoint
from core.training.loop import Trainer
from core.training.snapshot import Snapshot, take_snapshot


@pytest.fixture
def trainer(tiny_config, dataset, replace) -> Trainer:
    """Two optimizers and a moving average, three steps into the run."""
    from core.training.evaluation import evaluation_set

    config = replace(tiny_config, optimizer__kind="muon", ema_decay=0.7, eval_every=100)
    trainer = Trainer(config, dataset.train.tokens, evaluation_set(dataset, 700), "r")
    for row in trainer.rows():
        if row.step == 3:
            break
    return trainer


def snapshot_of(trainer: Trainer, **extra) -> Snapshot:
    return take_snapshot(
        trainer.model, trainer.optimizers, trainer.average, step=trainer.step, config=trainer.config, extra=extra
    )


def state(trainer: Trainer) -> dict:
    """Everything that decides how training goes on, by name."""
    values = {}
    for name, parameter in trainer.model.named_parameters():
        values[name] = parameter.detach()
        for optimizer in trainer.optimizers:
            values |= {f"{name}.{key}": value for key, value in optimizer.state.get(parameter, {}).items()}
        values[f"{name} averaged"] = trainer.average.weights[name]
    return values | {"updates averaged": trainer.average.step}


def equal(one: dict, other: dict) -> bool:
    same = [torch.equal(one[k], v) if isinstance(v, torch.Tensor) else one[k] == v for k, v in other.items()]
    return set(one) == set(other) and all(same)


def test_what_is_loaded_is_what_was_written(trainer, dataset, tmp_path):
    path = tmp_path / "step-00000003"
    write_checkpoint(path, snapshot_of(trainer, seconds=0.1))
    assert sorted(file.name for file in path.iterdir()) == [
        "average.safetensors",
        "checkpoint.json",
        "model.safetensors",
        "optimizer.safetensors",
    ]
    content = read_checkpoint(path)
    assert (content["step"], content["extra"]) == (3, {"seconds": 0.1})
    fresh = Trainer(trainer.config, dataset.train.tokens, None, "r")
    checkpoint.load_weights(path, fresh.model)
    checkpoint.load_optimizers(path, content, fresh.model, fresh.optimizers)
    checkpoint.load_average(path, content, fresh.average)
    assert len(trainer.optimizers) == 2
    assert equal(state(fresh), state(trainer))
    assert all(isinstance(optimizer, AdamW | Muon) and optimizer.state for optimizer in fresh.optimizers)
    loaded = Trainer(trainer.config, dataset.train.tokens, None, "r").model
    checkpoint.load_weights(path, loaded, averaged=True)
    assert equal(dict(loaded.named_parameters()), trainer.average.weights)


def test_what_is_loaded_does_not_hang_on_the_files(trainer, dataset, tmp_path):
    path = tmp_path / "step-00000003"
    write_checkpoint(path, snapshot_of(trainer))
    fresh = Trainer(trainer.config, dataset.train.tokens, None, "r")
    checkpoint.load_optimizers(path, read_checkpoint(path), fresh.model, fresh.optimizers)
    kept = state(fresh)
    for value in kept.values():
        if isinstance(value, torch.Tensor):
            value.add_(1)
    read_checkpoint(path)  # the files are as they were


def test_weights_of_another_architecture_are_refused(trainer, dataset, tmp_path, replace):
    write_checkpoint(tmp_path / "step-00000003", snapshot_of(trainer))
    other = Trainer(replace(trainer.config, model__num_layers=1), dataset.train.tokens, None, "r")
    with pytest.raises(ValueError, match=r"another architecture: blocks\.1\."):
        checkpoint.load_weights(tmp_path / "step-00000003", other.model)


def test_every_bit_of_the_json_counts(trainer, tmp_path):
    path = tmp_path / "step-00000003"
    write_checkpoint(path, snapshot_of(trainer, elapsed_s=12.5))
    file = path / "checkpoint.json"
    was = file.read_text()
    for now in (was.replace("12.5", "12.4"), was.replace('"step": 3', '"step": 7'), "[1]", "{}", was[:-9], "\xff"):
        assert now != was
        file.write_text(now, encoding="latin-1")
        with pytest.raises(ValueError, match=r"step-00000003: damaged checkpoint, checkpoint.json is not what was"):
            read_checkpoint(path)


def test_a_whole_checkpoint_of_the_step_stays_and_a_damaged_one_is_replaced(trainer, tmp_path):
    path = tmp_path / "step-00000003"
    write_checkpoint(path, snapshot_of(trainer, written=1))
    write_checkpoint(path, snapshot_of(trainer, written=2))
    assert read_checkpoint(path)["extra"] == {"written": 1}
    (path / "model.safetensors").write_bytes(b"")
    write_checkpoint(path, snapshot_of(trainer, written=3))
    assert read_checkpoint(path)["extra"] == {"written": 3}
    write_checkpoint(path, dataclasses.replace(snapshot_of(trainer, written=4), step=5))
    assert read_checkpoint(path)["step"] == 5


def test_files_and_names_are_on_the_disk_before_the_checkpoint_has_its_name(trainer, tmp_path, monkeypatch):
    events = []
    names = {}

    def fsync(descriptor: int) -> None:
        events.append(("fsync", os.fstat(descriptor).st_ino))

    def rename(self: Path, target: Path) -> Path:
        names.update({file.name: file.stat().st_ino for file in self.iterdir()}, folder=self.stat().st_ino)
        events.append(("rename", target.name))
        return Path(shutil.move(self, target))

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    write_checkpoint(tmp_path / "step-00000003", snapshot_of(trainer))
    at = events.index(("rename", "step-00000003"))
    assert set(names) == {
        "average.safetensors",
        "checkpoint.json",
        "folder",
        "model.safetensors",
        "optimizer.safetensors",
    }
    assert {inode for _, inode in events[:at]} >= set(names.values())
    assert events[at - 1] == ("fsync", names["folder"])
    assert events[at + 1 :] == [("fsync", tmp_path.stat().st_ino)]


@pytest.mark.parametrize("at", ["save_file", "write_json"])
def test_no_space_is_an_error_with_path_and_cause_and_leaves_nothing(trainer, tmp_path, monkeypatch, at):
    def full(*arguments) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint, at, full)
    with pytest.raises(OSError, match=r"step-00000003: this checkpoint cannot be written \(No space left on device\)"):
        write_checkpoint(tmp_path / "step-00000003", snapshot_of(trainer))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_the_system_refuses_to_grow_is_an_error_with_path_and_cause(trainer, tmp_path):
    """The library that writes tensors has an error of its own for it."""
    resource = pytest.importorskip("resource")
    snapshot, limits = snapshot_of(trainer), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_011, limits[1]))
    try:
        with pytest.raises(OSError, match=r"step-00000003: .* cannot be written \(.*File too large.*\)"):
            write_checkpoint(tmp_path / "step-00000003", snapshot)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
    write_checkpoint(tmp_path / "step-00000003", snapshot)
    assert read_checkpoint(tmp_path / "step-00000003")["step"] == 3


def test_removal_takes_the_name_first(trainer, tmp_path, monkeypatch):
    path = tmp_path / "step-00000003"
    write_checkpoint(path, snapshot_of(trainer))
    monkeypatch.setattr(shutil, "rmtree", lambda *arguments, **options: None)  # killed before anything is removed
    remove_checkpoint(path)
    assert [left.name for left in tmp_path.iterdir()] == [".step-00000003.removed"]
    read_checkpoint(tmp_path / ".step-00000003.removed")
    monkeypatch.undo()
    (tmp_path / ".step-00000005.partial").mkdir()
    (tmp_path / "damaged-step-00000007").mkdir()
    remove_leftovers(tmp_path)
    assert [left.name for left in tmp_path.iterdir()] == ["damaged-step-00000007"]
    remove_leftovers(tmp_path / "none")


def test_json_is_plain(trainer, tmp_path):
    write_checkpoint(tmp_path / "step-00000003", snapshot_of(trainer))
    content = json.loads((tmp_path / "step-00000003" / "checkpoint.json").read_text())
    assert content["average_step"] == 3
    assert set(content["optimizer_numbers"].values()) == {3}
