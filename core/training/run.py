"""A run from its configuration to its rows in `results/`, resumable at every checkpoint.

While it runs, `DATA/runs/<run_id>/` grows: `records.jsonl` (a line per row, flushed), `checkpoints/`, `run.json` and a
copy of the tokenizer, so that the folder can generate text whatever becomes of the data set.

Several processes train one run alike (see `core.training.distributed`); the main one alone locks the folder, writes
and speaks. All of them must be able to read the folder.
"""

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

import torch

from core import accounting, results
from core.accounting.runs import run_account
from core.config import RunConfig, canonical_json, config_id
from core.corpus.dataset import Dataset
from core.provenance import utc_now
from core.records import RunRow, StepRow
from core.training import checkpoint, distributed
from core.training.allocator import keep_freed_memory
from core.training.batches import check_long_enough
from core.training.device import device_name
from core.training.evaluation import evaluation_set
from core.training.folder import RunFolder, write_row
from core.training.lock import run_lock
from core.training.loop import Trainer, diverged
from core.training.numerics import check_numerics
from core.training.resume import resume
from core.training.sinks import Sink
from core.training.snapshot import BackgroundWriter, Snapshot, take_snapshot


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
    check_numerics(config)


def check_unchanged(dataset: Dataset) -> None:
    """Raise ValueError unless the token files are those that were written, byte for byte (1 to 2 GB/s).

    A run's name and its right to go on from a checkpoint rest on the digests beside the files, not on the files.
    """
    for part in (dataset.train, dataset.valid):
        with part.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != part.info.sha256:
            raise ValueError(
                f"{part.path}: changed since it was encoded (its SHA-256 is {digest[:10]}..., not "
                f"{part.info.sha256[:10]}...); prepare the data set anew"
            )


def train(
    config: RunConfig,
    dataset: Dataset,
    folder: RunFolder,
    results_dir: str | os.PathLike[str],
    *,
    sinks: Callable[[Trainer], Iterable[Sink]] = lambda trainer: (),
    should_stop: Callable[[], bool] = lambda: False,
    git_commit: str | None = None,
    parallel: distributed.Parallel = "ddp",
) -> RunRow:
    """Train from the latest checkpoint of the folder, or from the start, to the end.

    A latest checkpoint that is damaged is set aside and the one before it taken, with a warning: the steps since are
    made again and come out the same. Of several processes all call this, with equal arguments. On a CPU the process
    keeps freed memory from then on, see `allocator.keep_freed_memory`.

    Args:
        config: The run; its device must be resolved.
        dataset: What it is trained and evaluated on.
        folder: Where it lives; its name is the run's id.
        results_dir: Where its rows go at the end, be it finished, stopped or diverged.
        sinks: Given the trainer (at the step where it starts), what else takes the rows; asked in the main process.
        should_stop: Asked between steps, in the main process; True saves a checkpoint and ends the run as `stopped`.
        git_commit: Of the code, for the row.
        parallel: How several processes share the model, see `distributed.spread`.

    Raises:
        ValueError: If model and data do not fit, the data has changed, another process trains in the folder, or its
            checkpoints are all damaged, of another configuration or of other data.
        OSError: If a folder cannot be written, asked before training starts, or no longer; then the run goes on from
            its last checkpoint when the same call is made again.
    """
    check_fits(config, dataset)
    keep_freed_memory(config.device)
    main = distributed.is_main()
    if main:
        results.check_writable(results_dir)
        check_unchanged(dataset)
    with run_lock(folder) if main else contextlib.nullcontext():
        return _train(config, dataset, folder, results_dir, sinks, should_stop, git_commit, parallel)


def _train(
    config: RunConfig,
    dataset: Dataset,
    folder: RunFolder,
    results_dir: str | os.PathLike[str],
    sinks: Callable[[Trainer], Iterable[Sink]],
    should_stop: Callable[[], bool],
    git_commit: str | None,
    parallel: distributed.Parallel,
) -> RunRow:
    """`train` behind the lock."""
    main = distributed.is_main()
    evaluation = evaluation_set(dataset, config.data.eval_tokens)
    trainer = Trainer(config, dataset.train.tokens, evaluation, folder.path.name, parallel=parallel)
    if _is_cuda(config):
        torch.cuda.reset_peak_memory_stats(trainer.device)
    rows = resume(trainer, folder, dataset.dataset_id)
    if main:
        dataset.tokenizer.save(folder.tokenizer)
        folder.write_description(config, dataset.document_start, evaluation.floor_loss_nats)
    watchers = list(sinks(trainer)) if main else []
    status = "finished"
    evaluated = [row for row in rows if row.eval_loss_nats is not None]
    with (
        (folder.records if main else Path(os.devnull)).open("ab", buffering=0) as records,
        BackgroundWriter() as writer,
        contextlib.closing(trainer.rows()) as new_rows,
    ):
        for row in new_rows:
            rows.append(row)
            write_row(records, row)
            writer.check()
            for sink in watchers:
                sink.row(row)
            if diverged(row):
                status = "diverged"
                break
            if row.eval_loss_nats is not None:
                evaluated.append(row)
            stopping = row.step < config.num_steps and distributed.agree(main and should_stop())
            due = row.step > 0 and row.step % config.checkpoint_every == 0
            if distributed.agree(stopping or due or row.step == config.num_steps or _is_best(row, evaluated)):
                _save(trainer, folder, dataset.dataset_id, evaluated, records, writer)
            if stopping:
                status = "stopped"
                break

    run = _run_row(config, dataset, trainer, rows, status, git_commit, parallel)
    if main:
        results.write_rows(results_dir, "steps", run.run_id, rows)
        results.write_rows(results_dir, "runs", run.run_id, [run])  # last: a run that has a row has all of them
    for sink in watchers:
        sink.finish(run)
    return run


def _is_best(row: StepRow, evaluated: list[StepRow]) -> bool:
    """Whether a row holds the lowest evaluation loss of the trained model so far, itself among those evaluated."""
    losses = [row.eval_loss_nats for row in evaluated if row.step > 0]
    return row.step > 0 and row.eval_loss_nats is not None and row.eval_loss_nats == min(losses)


def _save(
    trainer: Trainer,
    folder: RunFolder,
    dataset_id: str,
    evaluated: list[StepRow],
    records: BinaryIO,
    writer: BackgroundWriter,
) -> None:
    """Copy the run's state and have it written; of several processes all must call it together."""
    writer.wait()  # one snapshot in memory, not two
    snapshot = take_snapshot(
        trainer.model,
        trainer.optimizers,
        trainer.average,
        step=trainer.step,
        config=trainer.config,
        extra={"elapsed_s": trainer.elapsed_s, "segment": trainer.segment, "dataset_id": dataset_id},
    )
    if snapshot is not None:
        writer.submit(functools.partial(_write, folder, snapshot, tuple(evaluated), records))


def _write(folder: RunFolder, snapshot: Snapshot, evaluated: Iterable[StepRow], records: BinaryIO) -> None:
    """Write a checkpoint; remove all but the latest ones and the one that evaluated best."""
    try:
        os.fsync(records.fileno())  # a checkpoint without the rows before it would be of no use
    except OSError as error:
        raise OSError(f"{folder.records}: cannot be written ({error.strerror})") from None
    checkpoint.write_checkpoint(folder.checkpoint(snapshot.step), snapshot)
    checkpoint.prune(folder, evaluated, snapshot.config.keep_checkpoints)


def _run_row(
    config: RunConfig,
    dataset: Dataset,
    trainer: Trainer,
    rows: list[StepRow],
    status: str,
    git_commit: str | None,
    parallel: distributed.Parallel,
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
        world_size=distributed.world_size(),
        parallel=parallel if distributed.world_size() > 1 else None,
        peak_bytes=torch.cuda.max_memory_allocated(trainer.device) if _is_cuda(config) else None,
        predicted_peak_bytes=_predicted_peak_bytes(config),
        num_threads=torch.get_num_threads(),
        torch_version=torch.__version__,
        git_commit=git_commit,
        utc=utc_now(),
    )


def _is_cuda(config: RunConfig) -> bool:
    return torch.device(config.device).type == "cuda"


def _predicted_peak_bytes(config: RunConfig) -> int | None:
    """What accounting says of a device's peak; None for what it does not model."""
    if distributed.world_size() > 1 or config.compile or config.ema_decay is not None:
        return None
    return accounting.peak(run_account(config)).total
