"""Where a run goes on: at the latest checkpoint that is whole, of this configuration and of this data."""

import logging
from pathlib import Path
from typing import Any

from core.config import RunConfig
from core.records import StepRow
from core.training import checkpoint, distributed
from core.training.folder import RunFolder
from core.training.loop import Trainer

_log = logging.getLogger(__name__)


def resume(trainer: Trainer, folder: RunFolder, dataset_id: str) -> list[StepRow]:
    """Put the trainer where the latest good checkpoint left it, and the run's folder in order.

    What killed processes left goes, damaged checkpoints are set aside with a warning, and rows past the checkpoint are
    dropped; of several processes the main one does so, and all call this together.

    Args:
        trainer: At its start.
        folder: The run's, locked.
        dataset_id: Of the data it is trained on.

    Returns:
        The rows up to the checkpoint; none if the run is at its start.

    Raises:
        ValueError: If all checkpoints are damaged, or the good one is of another configuration or other data; nothing
            has been changed then.
    """
    if distributed.is_main():
        checkpoint.remove_leftovers(folder.checkpoints)
        rows = folder.truncate(_settle(folder, trainer.config, dataset_id))
        checkpoint.prune(folder, rows, trainer.config.keep_checkpoints)
    distributed.wait_for_all()  # the others see the folder as it is now
    path = folder.latest_checkpoint()
    if path is None:
        return []
    content = checkpoint.read_content(path)
    checkpoint.load_weights(path, trainer.model)
    checkpoint.load_optimizers(path, content, trainer.model, trainer.optimizers)
    if trainer.average is not None:
        checkpoint.load_average(path, content, trainer.average)
    trainer.step = content["step"]
    trainer.elapsed_s = content["extra"]["elapsed_s"]
    trainer.segment = content["extra"]["segment"] + 1
    return folder.rows()


def _settle(folder: RunFolder, config: RunConfig, dataset_id: str) -> int:
    """Find the latest good checkpoint and set aside what is later; its step is returned, -1 if there is none at all."""
    rows = folder.rows()
    num_whole = next((place for place, row in enumerate(rows) if row.step != place), len(rows))
    damaged: list[tuple[Path, str]] = []
    for step in reversed(folder.checkpoint_steps()):
        path = folder.checkpoint(step)
        try:
            content = checkpoint.read_checkpoint(path)
            if num_whole <= step:
                raise ValueError(f"{path}: damaged run, {folder.records} lacks the row of step {num_whole}")
        except (ValueError, OSError) as error:
            damaged.append((path, str(error)))
            continue
        _check_same(path, content, config, dataset_id)
        for bad, reason in damaged:
            aside = bad.with_name(f"damaged-{bad.name}")
            said = reason.removesuffix(f"; {checkpoint.ADVICE}")
            _log.warning("%s (set aside as %s); going on from step %d", said, aside.name, step)
            checkpoint.set_aside(bad, aside)
        return step
    if damaged:
        raise ValueError(f"{damaged[0][1]}; no earlier one is whole, so --fresh is what remains")
    return -1


def _check_same(path: Path, content: dict[str, Any], config: RunConfig, dataset_id: str) -> None:
    checkpoint.check_same_config(path, content, config)
    if content["extra"]["dataset_id"] != dataset_id:
        raise ValueError(f"{path}: a checkpoint of training on other data than data set {config.data.dataset!r}")
