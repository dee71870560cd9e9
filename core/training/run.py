"""A run from its configuration to its rows in `results/`, resumable at every checkpoint.

While it runs, `DATA/runs/<run_id>/` grows: `records.jsonl` (a line per row, flushed), `checkpoints/`, `run.json` and a
copy of the tokenizer, so that the folder can generate text whatever becomes of the data set.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable

import torch

from core import accounting, results
from core.config import RunConfig, canonical_json, config_id
from core.corpus.dataset import Dataset
from core.provenance import utc_now
from core.records import RunRow, StepRow
from core.training import checkpoint
from core.training.batches import check_long_enough
from core.training.device import check_precision, device_name
from core.training.evaluation import evaluation_set
from core.training.folder import RunFolder, to_line
from core.training.loop import Trainer, diverged
from core.training.sinks import Sink


def run_id_of(config: RunConfig, dataset: Dataset) -> str:
    """Name, and a hash of configuration and data: the same of both is the same run."""
    digest = hashlib.sha256(f"{config_id(config)}{dataset.dataset_id}".encode()).hexdigest()
    return f"{config.name}-{digest[:10]}"


def check_fits(config: RunConfig, dataset: Dataset) -> None:
    """Raise ValueError unless the model can be trained on the data set."""
    if config.model.vocab_size < dataset.tokenizer.vocab_size:
        raise ValueError(
            f"model.vocab_size is {config.model.vocab_size}, but {dataset.folder} was encoded with "
            f"{dataset.tokenizer.vocab_size} ids: set model.vocab_size={dataset.tokenizer.vocab_size}"
        )
    check_long_enough(dataset.train.info.num_tokens, config.model.context_length, str(dataset.train.path))
    check_long_enough(dataset.valid.info.num_tokens, 1, str(dataset.valid.path))  # shorter windows do for evaluation
    check_precision(config.precision, config.device)


def train(
    config: RunConfig,
    dataset: Dataset,
    folder: RunFolder,
    results_dir: str | os.PathLike[str],
    *,
    sinks: Callable[[Trainer], Iterable[Sink]] = lambda trainer: (),
    should_stop: Callable[[], bool] = lambda: False,
    git_commit: str | None = None,
) -> RunRow:
    """Train from the latest checkpoint of the folder, or from the start, to the end.

    Args:
        config: The run; its device must be resolved.
        dataset: What it is trained and evaluated on.
        folder: Where it lives; its name is the run's id.
        results_dir: Where its rows go at the end, be it finished, stopped or diverged.
        sinks: Given the trainer (at the step where it starts), what else takes the rows.
        should_stop: Asked between steps; True saves a checkpoint and ends the run as `stopped`.
        git_commit: Of the code, for the row.

    Raises:
        ValueError: If model and data do not fit, or the folder's checkpoint is damaged or of another configuration.
        OSError: If a folder cannot be written; asked before training starts.
    """
    check_fits(config, dataset)
    results.check_writable(results_dir)
    evaluation = evaluation_set(dataset, config.data.eval_tokens)
    trainer = Trainer(config, dataset.train.tokens, evaluation, folder.path.name)

    rows = _resume(trainer, folder, dataset.dataset_id)
    dataset.tokenizer.save(folder.tokenizer)
    folder.write_description(config, dataset.document_start, evaluation.floor_loss_nats)
    watchers = list(sinks(trainer))
    status = "finished"
    with folder.records.open("a") as records:
        for row in trainer.rows():
            rows.append(row)
            records.write(to_line(row))
            records.flush()
            for sink in watchers:
                sink.row(row)
            if diverged(row):
                status = "diverged"
                break
            stopping = row.step < config.num_steps and should_stop()
            due = row.step > 0 and row.step % config.checkpoint_every == 0
            if stopping or due or row.step == config.num_steps or _is_best(rows):
                _save(trainer, folder, dataset.dataset_id)
            if stopping:
                status = "stopped"
                break

    run = _run_row(config, dataset, trainer, rows, status, git_commit)
    results.write_rows(results_dir, "steps", run.run_id, rows)
    results.write_rows(results_dir, "runs", run.run_id, [run])  # last: a run that has a row has all of them
    for sink in watchers:
        sink.finish(run)
    return run


def _is_best(rows: list[StepRow]) -> bool:
    """Whether the last row holds the lowest evaluation loss of the trained model so far."""
    losses = [row.eval_loss_nats for row in rows if row.step > 0 and row.eval_loss_nats is not None]
    return rows[-1].eval_loss_nats is not None and rows[-1].step > 0 and losses[-1] == min(losses)


def _resume(trainer: Trainer, folder: RunFolder, dataset_id: str) -> list[StepRow]:
    """Put the trainer where the latest checkpoint left it; the rows up to there are returned."""
    path = folder.latest_checkpoint()
    if path is None:
        folder.path.mkdir(parents=True, exist_ok=True)
        return folder.truncate(-1)
    content = checkpoint.read_checkpoint(path)
    checkpoint.check_same_config(path, content, trainer.config)
    if content["extra"]["dataset_id"] != dataset_id:
        raise ValueError(
            f"{path}: a checkpoint of training on other data than data set {trainer.config.data.dataset!r}"
        )
    checkpoint.load_weights(path, trainer.model)
    checkpoint.load_optimizer(path, content, trainer.model, trainer.optimizer)
    trainer.step = content["step"]
    trainer.elapsed_s = content["extra"]["elapsed_s"]
    trainer.segment = content["extra"]["segment"] + 1
    return folder.truncate(trainer.step)


def _save(trainer: Trainer, folder: RunFolder, dataset_id: str) -> None:
    """Write a checkpoint; remove all but the latest ones and the one that evaluated best."""
    config = trainer.config
    extra = {"elapsed_s": trainer.elapsed_s, "segment": trainer.segment, "dataset_id": dataset_id}
    path = folder.checkpoint(trainer.step)
    checkpoint.save_checkpoint(path, trainer.step, trainer.model, trainer.optimizer, trainer.config, extra)
    best = folder.best_checkpoint()
    for step in folder.checkpoint_steps()[: -config.keep_checkpoints]:
        if folder.checkpoint(step) != best:
            shutil.rmtree(folder.checkpoint(step))


def _run_row(
    config: RunConfig, dataset: Dataset, trainer: Trainer, rows: list[StepRow], status: str, git_commit: str | None
) -> RunRow:
    evaluated = [row for row in rows if row.eval_loss_nats is not None]
    losses = [row.eval_loss_nats for row in evaluated]
    evaluation = trainer.evaluation
    return RunRow(
        run_id=trainer.run_id,
        name=config.name,
        config_id=config_id(config),
        config_json=canonical_json(config),
        dataset_id=dataset.dataset_id,
        tokenizer_id=dataset.tokenizer.tokenizer_id,
        seed=config.seed,
        status=status,
        steps=trainer.step,
        tokens=trainer.step * config.batch_tokens,
        elapsed_s=trainer.elapsed_s,
        parameters=accounting.parameters(config.model),
        model_flop=rows[-1].model_flop,
        eval_tokens=len(evaluation.tokens),
        eval_bytes=evaluation.num_bytes,
        eval_loss_nats=losses[-1] if losses else None,
        eval_step=evaluated[-1].step if evaluated else None,
        best_eval_loss_nats=min(losses, default=None),
        eval_bits_per_byte=evaluation.bits_per_byte(losses[-1]) if losses else None,
        floor_loss_nats=evaluation.floor_loss_nats,
        device=config.device,
        device_name=device_name(config.device),
        num_threads=torch.get_num_threads(),
        torch_version=torch.__version__,
        git_commit=git_commit,
        utc=utc_now(),
    )
