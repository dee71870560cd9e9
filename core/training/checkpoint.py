"""Checkpoints: a folder with weights and optimizer state as safetensors and the rest as JSON.

A checkpoint is written under a temporary name and renamed when it is whole. Its JSON holds the digest of both tensor
files, so a file that was cut or changed is noticed, never loaded.
"""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from core.config import RunConfig, to_dict
from core.files import read_json, write_json

_TENSOR_FILES = ("model.safetensors", "optimizer.safetensors")


def save_checkpoint(
    path: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: RunConfig,
    extra: dict[str, Any],
) -> None:
    """Write a checkpoint.

    Args:
        path: Folder to write; one that stands there is replaced.
        step: Optimizer steps done.
        model: Its parameters are saved under their names, tied ones once.
        optimizer: Its tensors are saved under `parameter.key`, its plain numbers in the JSON.
        config: Must be equal when the checkpoint is resumed.
        extra: What the run wants to find again, as JSON.

    Raises:
        OSError: If it cannot be written; nothing is left behind then.
    """
    temporary = path.with_name(".partial")  # one name: what a killed process left goes with the next checkpoint
    shutil.rmtree(temporary, ignore_errors=True)
    weights = {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}
    state, numbers = {}, {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items():
            if isinstance(value, torch.Tensor):
                state[f"{name}.{key}"] = value.contiguous()
            else:
                numbers[f"{name}.{key}"] = value
    try:
        temporary.mkdir(parents=True)
        for name, tensors in zip(_TENSOR_FILES, (weights, state), strict=True):
            save_file(tensors, temporary / name)
        write_json(
            temporary / "checkpoint.json",
            {
                "step": step,
                "config": to_dict(config),
                "optimizer_numbers": numbers,
                "sha256": {name: _digest(temporary / name) for name in _TENSOR_FILES},
                "extra": extra,
            },
        )
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Verify a checkpoint and return its JSON.

    Raises:
        ValueError: If it is missing, cut off or changed since it was written.
    """
    if not path.is_dir():
        raise ValueError(f"{path}: no such checkpoint")
    content = read_json(path / "checkpoint.json")
    digests = content.get("sha256") if isinstance(content, dict) else None
    if not digests:
        raise ValueError(f"{path}: damaged checkpoint, checkpoint.json lacks its digests; remove the folder")
    for name, digest in digests.items():
        if not (path / name).exists():
            raise ValueError(f"{path}: damaged checkpoint, {name} is missing; remove the folder to use an earlier one")
        if _digest(path / name) != digest:
            raise ValueError(
                f"{path}: damaged checkpoint, {name} ({(path / name).stat().st_size} bytes) is not what was written; "
                f"remove the folder to use an earlier one"
            )
    return content


def load_weights(path: Path, model: nn.Module) -> None:
    """Load a verified checkpoint's weights into a model of the same architecture, in place."""
    device = next(model.parameters()).device
    saved = load_file(path / "model.safetensors", device=str(device))
    wanted = {name for name, _ in model.named_parameters()}
    if wanted != set(saved):
        raise ValueError(
            f"{path}: a checkpoint of another architecture: {', '.join(sorted(wanted ^ set(saved)))} differ"
        )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(saved[name])


def load_optimizer(path: Path, content: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load a verified checkpoint's optimizer state, in place."""
    device = next(model.parameters()).device
    saved = {**load_file(path / "optimizer.safetensors", device=str(device)), **content["optimizer_numbers"]}
    for name, parameter in model.named_parameters():
        prefix = f"{name}."
        keys = [key for key in saved if key.startswith(prefix) and "." not in key.removeprefix(prefix)]
        if keys:
            optimizer.state[parameter] = {key.removeprefix(prefix): saved[key] for key in keys}


def check_same_config(path: Path, content: dict[str, Any], config: RunConfig) -> None:
    """Raise ValueError naming the first field in which a checkpoint's configuration differs from `config`."""
    saved, wanted = _flat(content["config"]), _flat(to_dict(config))
    for key in [*wanted, *saved]:
        if saved.get(key) != wanted.get(key):
            raise ValueError(
                f"{path}: a checkpoint of another configuration: its {key} is {saved.get(key)}, not {wanted.get(key)}"
            )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat
