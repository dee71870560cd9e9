"""Opening a trained run for generation."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.config import ModelConfig, from_dict
from core.inference.generate import generate
from core.model.transformer import Transformer
from core.tokenizer import Tokenizer
from core.tokenizer.pretokenize import END_OF_TEXT
from core.training import checkpoint
from core.training.folder import run_folder
from core.training.numerics import weight_dtype


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """A trained model, its tokenizer, and the text behind which a document of its corpus begins."""

    model: Transformer
    tokenizer: Tokenizer
    document_start: str

    def complete(
        self,
        prompt: str,
        max_new_tokens: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
    ) -> Iterator[int]:
        """Yield the ids that continue a prompt, up to the end of the document; an empty one begins a document.

        See `generate` for the options.
        """
        return generate(
            self.model,
            self.tokenizer.encode(prompt or self.document_start),
            max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            stop_id=self.tokenizer.special_id(END_OF_TEXT),
            num_ids=self.tokenizer.vocab_size,
            seed=seed,
        )


def load_run(
    data_dir: str | os.PathLike[str], run_id: str, device: str = "cpu", which: Literal["latest", "best"] = "latest"
) -> LoadedRun:
    """Open a run's checkpoint; where the run keeps a moving average of the weights, that is the model.

    Args:
        data_dir: Where the runs are.
        run_id: Which one.
        device: Where the model goes.
        which: The latest checkpoint, or the one with the lowest evaluation loss.

    Raises:
        ValueError: If there is no such run, it has no checkpoint yet, or the checkpoint is damaged.
    """
    folder = run_folder(data_dir, run_id)
    if not folder.path.is_dir():
        there = sorted(path.name for path in (Path(data_dir) / "runs").glob("*") if path.is_dir())
        raise ValueError(
            f"{folder.path}: no such run; there {'are' if len(there) > 1 else 'is'} {', '.join(there) or 'none'}"
        )
    path = folder.best_checkpoint() if which == "best" else folder.latest_checkpoint()
    if path is None:
        raise ValueError(f"{folder.path}: this run has no checkpoint yet")
    content = checkpoint.read_checkpoint(path)
    model = Transformer(from_dict(ModelConfig, content["config"]["model"]))
    model.to(device=device, dtype=weight_dtype(content["config"]["precision"]))
    checkpoint.load_weights(path, model, averaged=True)
    return LoadedRun(model, Tokenizer.load(folder.tokenizer), folder.description()["document_start"])
