"""A moving average of the weights, which often generalises better than the weights themselves."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from core.optim.shards import local


class WeightAverage:
    """Exponential moving average of a model's parameters, from its initial weights on.

        avg <- d avg + (1 - d) w,   d = min(decay, (1 + t) / (10 + t)),   t updates made before

    A decay of 0.999 remembers some thousand steps, and would for as long remember the initial weights, which are worth
    nothing. Therefore d starts at 0.1 and rises until it reaches `decay`: the average is first one of the last few
    steps, then of ever more.

    Args:
        model: Its parameters are averaged, those that are tied once; buffers are not.
        decay: What an update keeps of the average, once warm.

    Raises:
        ValueError: If `decay` is not from 0 up to, but not including, 1.

    Reference:
        Polyak & Juditsky (1992) for averaging; the warm-up is that of TensorFlow's `ExponentialMovingAverage` with
        `num_updates`.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}: it must be from 0 up to, but not including, 1")
        self.decay = decay
        self.step = 0
        """Updates made."""
        self._parameters = dict(model.named_parameters())
        self.weights: dict[str, Tensor] = {
            name: parameter.detach().clone() for name, parameter in self._parameters.items()
        }
        """The average by parameter name, each laid out as the parameter is."""

    @torch.no_grad()
    def update(self) -> None:
        """Take in the model's present weights: call it after every optimizer step."""
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(*self._parts(), 1 - decay)
        self.step += 1

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Let the model have the averaged weights within the `with` block; behind it the trained ones, bit for bit.

        Contents change places, memory does not (compiled code may hold on to it), one parameter's size beside them at
        a time. Within the block `weights` holds the trained ones.
        """
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for average, weight in zip(*self._parts(), strict=True):
            trained = weight.clone()
            weight.copy_(average)
            average.copy_(trained)

    def _parts(self) -> tuple[list[Tensor], list[Tensor]]:
        """Averages and parameters, of each what this process holds."""
        names = list(self._parameters)
        return [local(self.weights[name]) for name in names], [local(self._parameters[name]) for name in names]
