"""The training loop: it yields a row per step and knows no logger, no file and no clock but its own."""

import math
import time
from collections.abc import Iterator

import numpy as np

from core import accounting
from core.config import RunConfig
from core.model import functional
from core.model.transformer import Transformer
from core.optim.adamw import AdamW
from core.optim.clipping import clip_grad_norm
from core.records import StepRow
from core.schedules import learning_rate
from core.training.batches import batch, check_long_enough, stream_seed
from core.training.device import weight_dtype
from core.training.evaluation import EvaluationSet, evaluate


class Trainer:
    """A model, its optimizer and its place in the run.

    Args:
        config: The whole run; `device` must be resolved.
        train_tokens: What batches are drawn from.
        evaluation: The fixed evaluation set.
        run_id: Goes into every row.

    Raises:
        ValueError: If the data is shorter than a window.
    """

    def __init__(self, config: RunConfig, train_tokens: np.ndarray, evaluation: EvaluationSet, run_id: str) -> None:
        check_long_enough(len(train_tokens), config.model.context_length, "the training part")
        self.config = config
        self.train_tokens = train_tokens
        self.evaluation = evaluation
        self.run_id = run_id
        self.model = Transformer(config.model, stream_seed(config.seed, "init"))
        self.model.to(device=config.device, dtype=weight_dtype(config.precision))
        options = config.optimizer
        self.optimizer = AdamW(
            self.model.parameters(),
            lr=options.lr,
            betas=options.betas,
            eps=options.eps,
            weight_decay=options.weight_decay,
        )
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
        if self.step == 0 and self.segment == 0:  # a run resumed before its first step has that row
            yield self._row(eval_loss_nats=evaluate(self.model, self.evaluation))
        while self.step < self.config.num_steps:
            row = self._advance()
            yield row
            if diverged(row):
                return

    def _advance(self) -> StepRow:
        config = self.config
        began = time.perf_counter()
        inputs, targets = batch(
            self.train_tokens, config.model.context_length, config.batch_size, config.seed, self.step, config.device
        )
        lr = learning_rate(self.step, max_lr=config.optimizer.lr, num_steps=config.num_steps, schedule=config.schedule)
        self.optimizer.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(self.model(inputs), targets).mean()
        loss.backward()
        grad_norm = float(clip_grad_norm(self.model.parameters(), config.optimizer.max_grad_norm))
        loss_nats = float(loss.detach())
        if math.isfinite(loss_nats) and math.isfinite(grad_norm):
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            self.optimizer.step()
        self.step += 1
        seconds = time.perf_counter() - began
        self.elapsed_s += seconds
        is_due = self.step % config.eval_every == 0 or self.step == config.num_steps
        return self._row(
            train_loss_nats=loss_nats,
            eval_loss_nats=evaluate(self.model, self.evaluation) if is_due else None,
            lr=lr,
            grad_norm=grad_norm,
            tokens_per_s=config.batch_tokens / seconds,
        )

    def _row(
        self,
        *,
        train_loss_nats: float | None = None,
        eval_loss_nats: float | None = None,
        lr: float | None = None,
        grad_norm: float | None = None,
        tokens_per_s: float | None = None,
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
        )


def diverged(row: StepRow) -> bool:
    """Whether a row holds a loss or gradient norm that is not finite."""
    measured = (row.train_loss_nats, row.eval_loss_nats, row.grad_norm)
    return any(value is not None and not math.isfinite(value) for value in measured)
