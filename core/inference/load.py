"""Opening a trained run for generation."""

import os
from pathlib import Path

import torch

from core.config import ModelConfig
from core.model.transformer import Transformer
from core.tokenizer import Tokenizer
from core.training import checkpoint
from core.training.folder import RunFolder, run_folder


def load_run(data_dir: str | os.PathLike[str], run_id: str, device: str = "cpu") -> tuple[Transformer, Tokenizer]:
    """The latest checkpoint's model and its tokenizer.

    Args:
        data_dir: Where the runs are.
        run_id: Which one.
        device: Where the model goes.

    Raises:
        ValueError: If there is no such run, it has no checkpoint yet, or the checkpoint is damaged.
    """
    folder = run_folder(data_dir, run_id)
    if not folder.path.is_dir():
        there = sorted(path.name for path in (Path(data_dir) / "runs").glob("*") if path.is_dir())
        raise ValueError(f"{folder.path}: no such run; there {'are' if there else 'is'} {', '.join(there) or 'none'}")
    return load_checkpoint(folder, device), Tokenizer.load(folder.tokenizer)


def load_checkpoint(folder: RunFolder, device: str = "cpu") -> Transformer:
    """The model of a run's latest checkpoint."""
    path = folder.latest_checkpoint()
    if path is None:
        raise ValueError(f"{folder.path}: this run has no checkpoint yet")
    content = checkpoint.read_checkpoint(path)
    model = Transformer(ModelConfig(**content["config"]["model"]))
    model.to(device=device, dtype=getattr(torch, content["config"]["dtype"]))
    checkpoint.load_weights(path, model)
    return model
