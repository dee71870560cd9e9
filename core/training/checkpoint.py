"""Checkpoints: a folder with weights, optimizer state and average as safetensors and the rest as JSON.

A checkpoint is written under a hidden name, forced to the disk and then renamed, and removed the other way round: what
carries a checkpoint's name is whole, wherever a process is killed or the power goes. Its JSON holds digests of the
tensor files and of itself, so what was cut or changed later is noticed, never loaded.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core.config import RunConfig, to_dict
from core.files import read_json, write_json
from core.optim.average import WeightAverage
from core.records import StepRow
from core.training import distributed
from core.training.folder import RunFolder, best_step, sync_folder
from core.training.snapshot import Snapshot

WEIGHTS = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
AVERAGE = "average.safetensors"
_JSON = "checkpoint.json"


def write_checkpoint(path: Path, snapshot: Snapshot) -> None:
    """Write a checkpoint.

    A folder cannot be replaced by renaming. Therefore one that stands there whole, of the same step and configuration,
    is left as it is: a step's state follows from the configuration. Anything else there is removed first.

    Args:
        path: Folder to write.
        snapshot: What goes into it.

    Raises:
        OSError: If it cannot be written; nothing is left behind then. The message names path and cause.
    """
    if path.exists():
        if _holds(path, snapshot):
            return
        remove_checkpoint(path)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        _write(temporary, snapshot)
        temporary.rename(path)
        sync_folder(path.parent)
    except (OSError, SafetensorError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise OSError(f"{path}: this checkpoint cannot be written ({cause}); those before it stand") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint; killed on the way, it is either whole or no longer under its name."""
    hidden = path.with_name(f".{path.name}.removed")
    shutil.rmtree(hidden, ignore_errors=True)
    path.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def prune(folder: RunFolder, evaluated: Iterable[StepRow], keep: int) -> None:
    """Remove all checkpoints of a run but the `keep` latest ones and the one that evaluated best."""
    steps = folder.checkpoint_steps()
    best = best_step(evaluated, steps)
    for step in steps[:-keep]:
        if step != best:
            remove_checkpoint(folder.checkpoint(step))


def set_aside(path: Path, other: Path) -> None:
    """Take a damaged checkpoint's name from it; what it held stays on the disk for whoever wants to look at it."""
    shutil.rmtree(other, ignore_errors=True)
    path.rename(other)


ADVICE = "remove the folder to use an earlier one"
"""What a reader of a damaged checkpoint can do; a run that resumes does it by itself."""


def remove_leftovers(checkpoints: Path) -> None:
    """Remove what processes that were killed while they wrote or removed checkpoints have left in their folder."""
    for path in [*checkpoints.glob(".*.partial"), *checkpoints.glob(".*.removed")]:
        shutil.rmtree(path, ignore_errors=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Verify a checkpoint and return its JSON.

    Raises:
        ValueError: If it is missing, cut off or changed since it was written.
    """
    if not path.is_dir():
        raise ValueError(f"{path}: no such checkpoint")
    if not (path / _JSON).exists():
        raise ValueError(f"{path}: damaged checkpoint, {_JSON} is missing; {ADVICE}")
    try:
        content = read_content(path)
        digest = content.pop("content_sha256")
    except (ValueError, KeyError, TypeError, AttributeError):  # no JSON, or another
        digest, content = None, {}
    if digest != _json_digest(content):
        raise ValueError(f"{path}: damaged checkpoint, {_JSON} is not what was written; {ADVICE}")
    for name, digest in content["sha256"].items():
        if not (path / name).exists():
            raise ValueError(f"{path}: damaged checkpoint, {name} is missing; {ADVICE}")
        if _digest(path / name) != digest:
            raise ValueError(
                f"{path}: damaged checkpoint, {name} ({(path / name).stat().st_size} bytes) is not what was written; "
                f"{ADVICE}"
            )
    return content


def read_content(path: Path) -> dict[str, Any]:
    """The JSON of a checkpoint that has been verified."""
    return read_json(path / _JSON)


def load_weights(path: Path, model: nn.Module, *, averaged: bool = False) -> None:
    """Load a verified checkpoint's weights into a model of the same architecture, sharded or not, in place.

    Args:
        path: The checkpoint.
        model: Takes the weights.
        averaged: Load their moving average instead, where the checkpoint holds one.

    Raises:
        ValueError: If the checkpoint's model has other parameters.
    """
    name = AVERAGE if averaged and (path / AVERAGE).exists() else WEIGHTS
    _assign(path, load_file(path / name), dict(model.named_parameters()))


def load_optimizers(
    path: Path, content: dict[str, Any], model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]
) -> None:
    """Load a verified checkpoint's optimizer state, in place, each parameter's into the optimizer that has it."""
    saved = {**load_file(path / OPTIMIZER), **content["optimizer_numbers"]}
    owners = {
        parameter: optimizer
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for name, parameter in model.named_parameters():
        prefix = f"{name}."
        keys = [key for key in saved if key.startswith(prefix) and "." not in key.removeprefix(prefix)]
        if keys:
            owners[parameter].state[parameter] = {
                key.removeprefix(prefix): _like(parameter, saved[key]) for key in keys
            }


def load_average(path: Path, content: dict[str, Any], average: WeightAverage) -> None:
    """Load a verified checkpoint's moving average of the weights, in place."""
    _assign(path, load_file(path / AVERAGE), average.weights)
    average.step = content["average_step"]


def check_same_config(path: Path, content: dict[str, Any], config: RunConfig) -> None:
    """Raise ValueError naming the first field in which a checkpoint's configuration differs from `config`."""
    saved, wanted = _flat(content["config"]), _flat(to_dict(config))
    for key in [*wanted, *saved]:
        if saved.get(key) != wanted.get(key):
            raise ValueError(
                f"{path}: a checkpoint of another configuration: its {key} is {saved.get(key)}, not {wanted.get(key)}"
            )


def _write(folder: Path, snapshot: Snapshot) -> None:
    """Every file of a checkpoint, on the disk when this returns."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tensors = {WEIGHTS: snapshot.weights, OPTIMIZER: snapshot.optimizer}
    if snapshot.average is not None:
        tensors[AVERAGE] = snapshot.average
    for name, content in tensors.items():
        save_file(content, folder / name)
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    content = {
        "step": snapshot.step,
        "config": to_dict(snapshot.config),
        "optimizer_numbers": snapshot.numbers,
        "average_step": snapshot.average_step,
        "sha256": {name: _digest(folder / name) for name in tensors},
        "extra": snapshot.extra,
    }
    write_json(folder / _JSON, {**content, "content_sha256": _json_digest(content)})
    sync_folder(folder)


def _holds(path: Path, snapshot: Snapshot) -> bool:
    try:
        content = read_checkpoint(path)
    except (ValueError, OSError):
        return False
    return (content["step"], content["config"]) == (snapshot.step, to_dict(snapshot.config))


def _assign(path: Path, saved: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    if set(wanted) != set(saved):
        raise ValueError(
            f"{path}: a checkpoint of another architecture: {', '.join(sorted(set(wanted) ^ set(saved)))} differ"
        )
    for name, tensor in wanted.items():
        distributed.assign(tensor, saved[name])


def _like(parameter: Tensor, value: Any) -> Any:
    """A saved value of a parameter's state: what has its shape is laid out as the parameter is."""
    if not isinstance(value, Tensor):
        return value
    value = value.clone()  # what was loaded may be a view of the file, which is pruned some day
    return distributed.like(parameter, value) if value.shape == parameter.shape else value.to(parameter.device)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json_digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat
