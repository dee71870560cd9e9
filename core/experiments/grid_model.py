"""The phases of a training step to time: each by itself, none by subtraction."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from core.config import DataConfig, ModelConfig, RunConfig
from core.experiments.grid_points import GridPoint
from core.experiments.memory_measure import OPTIMIZERS
from core.model.transformer import Transformer
from core.optim.clipping import clip_grad_norm
from core.training.numerics import autocast, numerics, weight_dtype


def run_config(point: GridPoint, device: str) -> RunConfig:
    """The run whose step a point is; of a single operation one that only computes in the same way."""
    nothing = {"vocab_size": 1, "context_length": 1, "d_model": 2, "num_layers": 1, "num_heads": 1, "d_ff": 1}
    return RunConfig(
        name="grid",
        model=point.model or ModelConfig(**nothing),
        data=DataConfig(dataset="none"),
        batch_size=point.batch_size or 1,
        num_steps=1,
        device=device,
        precision="float32" if point.precision == "bfloat16" else point.precision,
        compile=point.compiled,
    )


class TrainingPhases:
    """A model, one batch and an optimizer, and the phases of a training step as `core.training.loop` makes it.

    The learning rate is 0, which changes no kernel: the weights stand still, so that every run does the same.

    Args:
        point: Of the subject `model`.
        device: That is there.
    """

    def __init__(self, point: GridPoint, device: str) -> None:
        self.config = run_config(point, device)
        self.model = Transformer(self.config.model).to(device=device, dtype=weight_dtype(self.config.precision))
        self._forward = torch.compile(self.model, dynamic=False) if point.compiled else self.model
        self.optimizers = OPTIMIZERS[point.optimizer or "adamw"](self.model)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = 0.0
        shape = (2, point.batch_size, point.context_length)
        ids = torch.randint(point.vocab_size, shape, generator=torch.Generator().manual_seed(0))
        self.inputs, self.targets = (half.to(device, copy=True) for half in ids)
        self._parameters = list(self.model.parameters())

    def forward(self) -> Tensor:
        """To the logits, without gradients."""
        with torch.no_grad(), autocast(self.config):
            return self._forward(self.inputs)

    def forward_loss(self) -> Tensor:
        """To the loss; what the backward needs is kept, and the head's gradients are formed along with it."""
        with autocast(self.config):
            return self._forward(self.inputs, self.targets)[0]

    def backward(self, loss: Tensor) -> None:
        """All gradients of a loss whose graph stays."""
        self._forget_gradients()
        torch.autograd.backward(loss, retain_graph=True)

    def update(self) -> None:
        """Clip the gradients that there are, and update."""
        clip_grad_norm(self._parameters, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()

    def step(self) -> None:
        """All of it."""
        self._forget_gradients()
        self.forward_loss().backward()
        self.update()

    def call(self, phase: str) -> Callable[[], Any]:
        """What to time for a phase, with all that must be there before."""
        if phase == "backward":
            loss = self.forward_loss()
            return lambda: self.backward(loss)
        if phase == "optimizer":
            if any(parameter.grad is None for parameter in self._parameters):
                self.forward_loss().backward()
            return self.update
        return {"forward": self.forward, "forward_loss": self.forward_loss, "step": self.step}[phase]

    def _forget_gradients(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None


@contextlib.contextmanager
def computing(point: GridPoint, device: str) -> Iterator[None]:
    """In it torch computes as a point wants.

    A compiled backward may normally reuse its inputs' memory, and then runs only once per forward: that is switched
    off, or no compiled backward could be timed by itself. Every point compiles anew, for its own sizes.
    """
    on_cuda = torch.device(device).type == "cuda"
    with contextlib.ExitStack() as stack:
        stack.enter_context(numerics(run_config(point, device)))
        if on_cuda:
            stack.enter_context(torch.cuda.device(device))
        if point.compiled:
            from torch._functorch import config as functorch_config

            torch._dynamo.reset()
            stack.callback(torch._dynamo.reset)  # it would keep the model
            stack.enter_context(functorch_config.patch(donated_buffer=False))
        yield
