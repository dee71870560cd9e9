"""The training loop: it yields a row per step and knows no logger, no file and no clock but its own."""

import contextlib
import math
import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from core import accounting
from core.config import RunConfig
from core.model.transformer import Transformer
from core.optim.average import WeightAverage
from core.optim.clipping import clip_grad_norm
from core.optim.groups import build_optimizers
from core.records import StepRow
from core.schedules import learning_rate
from core.training import distributed
from core.training.batches import Batch, batch, check_long_enough, prefetched, stream_seed
from core.training.evaluation import EvaluationSet, evaluate
from core.training.numerics import autocast, numerics, weight_dtype


class Trainer:
    """A model, its optimizers and its place in the run.

    Args:
        config: The whole run; `device` must be resolved.
        train_tokens: What batches are drawn from.
        evaluation: The fixed evaluation set.
        run_id: Goes into every row.
        parallel: How several processes share the run, see `distributed.spread`.

    Raises:
        ValueError: If the data is shorter than a window, or a batch can not be dealt out.
    """

    def __init__(
        self,
        config: RunConfig,
        train_tokens: np.ndarray,
        evaluation: EvaluationSet,
        run_id: str,
        *,
        parallel: distributed.Parallel = "ddp",
    ) -> None:
        check_long_enough(len(train_tokens), config.model.context_length, "the training part")
        self._micro_batch_size = distributed.check_divisible(config.batch_size, config.micro_batch_size)
        self.config = config
        self.device = distributed.local_device(config.device)
        self.train_tokens = train_tokens
        self.evaluation = evaluation
        self.run_id = run_id
        self.model = Transformer(config.model, stream_seed(config.seed, "init"))
        """Its parameters are the run's, whatever is wrapped around it."""
        self.model.activation_checkpointing = config.activation_checkpointing
        self.model.to(device=self.device, dtype=weight_dtype(config.precision))
        self._spread = distributed.spread(self.model, self.model.blocks, parallel)
        self._forward = torch.compile(self._spread) if config.compile else self._spread
        self.optimizers = build_optimizers(self.model, config.optimizer)
        self.average = WeightAverage(self.model, config.ema_decay) if config.ema_decay is not None else None
        self.step = 0
        """Optimizer steps done."""
        self.elapsed_s = 0.0
        self.segment = 0
        self._step_flop = accounting.training_step_flop(config.model, config.batch_size)

    def rows(self) -> Iterator[StepRow]:
        """Train from where the run stands to its end; between two rows the trainer may be saved, or left.

        Ends early after a row whose loss is not finite: the run has diverged. The update that would have followed a
        non-finite batch loss is not made.
        """
        with numerics(self.config), contextlib.closing(self._batches()) as batches:
            if self.step == 0 and self.segment == 0:  # a run resumed before its first step has that row
                yield self._row(eval_loss_nats=self._evaluate())
            began = time.perf_counter()
            for (inputs, targets), stall_s in batches:
                row = self._advance(inputs, targets, began, stall_s)
                yield row
                if diverged(row):
                    return
                began = time.perf_counter()

    def update(self, inputs: Tensor, targets: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Make one optimizer step with this process's share of a batch.

        The gradient is that of the mean over the whole batch: of micro-batches it is summed before the step, between
        processes averaged.

        Args:
            inputs: `batch seq`.
            targets: `batch seq`.
            step: Counted from 0; decides the learning rate.

        Returns:
            The mean loss over the whole batch before the update, in nats, and the gradient's norm before clipping; if
            either is not finite, no update was made.
        """
        config = self.config
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        parts = list(zip(inputs.split(self._micro_batch_size), targets.split(self._micro_batch_size), strict=True))
        total = inputs.new_zeros((), dtype=weight_dtype(config.precision))
        for place, part in enumerate(parts):
            with distributed.exchanging(self._spread, last=place == len(parts) - 1):
                with autocast(config):
                    objective, nats = self._forward(*part, chunk=config.loss_chunk, z_loss=config.z_loss)
                (objective / len(parts)).backward()
            total += nats
        loss_nats = distributed.mean_of_all(total / len(parts))
        grad_norm = clip_grad_norm(self.model.parameters(), config.optimizer.max_grad_norm)
        if bool(torch.isfinite(loss_nats + grad_norm)):
            fraction = self._learning_rate(step) / config.optimizer.lr
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["peak_lr"] * fraction
                optimizer.step()
            if self.average is not None:
                self.average.update()
        return loss_nats, grad_norm

    def _batches(self) -> Iterator[tuple[Batch, float]]:
        config = self.config
        place = {"rank": distributed.rank(), "world_size": distributed.world_size()}

        def make(step: int) -> Batch:
            length = config.model.context_length
            return batch(self.train_tokens, length, config.batch_size, config.seed, step, self.device, **place)

        return prefetched(make, range(self.step, config.num_steps))

    def _learning_rate(self, step: int) -> float:
        config = self.config
        return learning_rate(step, max_lr=config.optimizer.lr, num_steps=config.num_steps, schedule=config.schedule)

    def _evaluate(self) -> float:
        with self.average.swapped() if self.average is not None else contextlib.nullcontext():
            loss_nats = evaluate(self.model, self.evaluation)
            distributed.divide_again(self.model)
        return loss_nats

    def _advance(self, inputs: Tensor, targets: Tensor, began: float, stall_s: float) -> StepRow:
        config = self.config
        loss_nats, grad_norm = map(float, self.update(inputs, targets, self.step))
        lr = self._learning_rate(self.step)
        self.step += 1
        seconds = time.perf_counter() - began
        self.elapsed_s += seconds
        is_due = self.step % config.eval_every == 0 or self.step == config.num_steps
        return self._row(
            train_loss_nats=loss_nats,
            eval_loss_nats=self._evaluate() if is_due else None,
            lr=lr,
            grad_norm=grad_norm,
            tokens_per_s=config.batch_tokens / seconds,
            stall_s=stall_s,
        )

    def _row(
        self,
        *,
        train_loss_nats: float | None = None,
        eval_loss_nats: float | None = None,
        lr: float | None = None,
        grad_norm: float | None = None,
        tokens_per_s: float | None = None,
        stall_s: float | None = None,
    ) -> StepRow:
        return StepRow(
            run_id=self.run_id,
            step=self.step,
            tokens=self.step * self.config.batch_tokens,
            elapsed_s=self.elapsed_s,
            model_flop=float(self.step * self._step_flop),
            train_loss_nats=train_loss_nats,
            eval_loss_nats=eval_loss_nats,
            lr=lr,
            grad_norm=grad_norm,
            tokens_per_s=tokens_per_s,
            segment=self.segment,
            stall_s=stall_s,
        )


def diverged(row: StepRow) -> bool:
    """Whether a row holds a loss or gradient norm that is not finite."""
    measured = (row.train_loss_nats, row.eval_loss_nats, row.grad_norm)
    return any(value is not None and not math.isfinite(value) for value in measured)
