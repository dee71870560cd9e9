"""Single operations to time: matrix product, attention, softmax, RMSNorm, cross-entropy, an optimizer's update."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from core.experiments.grid_points import GridPoint
from core.experiments.memory_measure import OPTIMIZERS
from core.model import eager, functional
from core.optim.muon import Muon

DTYPES = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
}
"""Of all tensors of an operation; `tf32` only multiplies otherwise."""


def _flash(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return scaled_dot_product_attention(query, key, value, is_causal=True)


def _sdpa(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return scaled_dot_product_attention(query, key, value, is_causal=True)


def _written_out(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    seq = query.shape[-2]
    return functional.attention(query, key, value, functional.causal_mask(seq, seq, query.device))


_ATTENTION = {"sdpa": _sdpa, "written_out": _written_out, "flash": _flash}


class Operation:
    """An operation with its inputs, all random and all differentiated.

    Args:
        point: Of any subject but `model` and `optimizer`.
        device: That is there.
    """

    def __init__(self, point: GridPoint, device: str) -> None:
        self._generator = torch.Generator().manual_seed(0)
        self._how = {"device": device, "dtype": DTYPES[point.precision]}
        function, self._inputs, self._constants = self._of(point)
        self._function = torch.compile(function, dynamic=False) if point.compiled else function
        self._upstream: Tensor | None = None

    def forward(self) -> Tensor:
        """The result; what its backward needs is kept."""
        return self._function(*self._inputs, *self._constants)

    def gradients(self, result: Tensor, upstream: Tensor) -> tuple[Tensor, ...]:
        """Of the inputs, given that of the result; the graph stays."""
        return torch.autograd.grad(result, self._inputs, upstream, retain_graph=True)

    def call(self, phase: str) -> Callable[[], Any]:
        """What to time for a phase."""
        if phase == "forward":
            return self.forward
        result = self.forward()
        if self._upstream is None:
            self._upstream = self._random(*result.shape, needs_grad=False) if result.ndim else torch.ones_like(result)
        return lambda: self.gradients(result, self._upstream)

    def _random(self, *shape: int, needs_grad: bool = True) -> Tensor:
        return torch.randn(shape, generator=self._generator).to(**self._how).requires_grad_(needs_grad)

    def _of(self, point: GridPoint) -> tuple[Callable[..., Tensor], list[Tensor], list[Tensor]]:
        """The function, its differentiated inputs, its others."""
        batch, seq, width = point.batch_size, point.context_length, point.d_model
        if point.subject == "gemm":
            return torch.matmul, [self._random(batch * seq, width), self._random(width, point.d_ff)], []
        if point.subject == "attention":
            heads = [self._random(batch, point.num_heads, seq, point.d_head) for _ in range(3)]
            return _ATTENTION[point.attention or "sdpa"], heads, []
        if point.subject == "softmax":
            return functional.softmax, [self._random(batch, point.num_heads, seq, seq)], []
        if point.subject == "rms_norm":
            return _rms_norm, [self._random(batch, seq, width), self._random(width)], []
        assert point.subject == "cross_entropy", point
        targets = torch.randint(point.vocab_size, (batch, seq), generator=self._generator)
        return _mean_loss, [self._random(batch, seq, point.vocab_size)], [targets.to(self._how["device"])]


def _rms_norm(x: Tensor, gain: Tensor) -> Tensor:
    return eager.rms_norm(x, gain, 1e-5)


def _mean_loss(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits, targets).mean()


class Update:
    """An optimizer's update of `num_layers` matrices with standing gradients, at a learning rate of 0.

    Args:
        point: Of the subject `optimizer`.
        device: That is there.
    """

    def __init__(self, point: GridPoint, device: str) -> None:
        generator = torch.Generator().manual_seed(0)

        def matrix() -> Tensor:
            return torch.randn(point.d_model, point.d_ff, generator=generator).to(device)

        self.matrices = nn.ParameterList(matrix() for _ in range(point.num_layers))
        for parameter in self.matrices:
            parameter.grad = matrix()
        name = point.optimizer or "adamw"
        muon = name == "muon"
        (self._optimizer,) = [Muon(self.matrices.parameters())] if muon else OPTIMIZERS[name](self.matrices)
        for group in self._optimizer.param_groups:
            group["lr"] = 0.0

    def call(self, phase: str) -> Callable[[], Any]:
        """What to time: it has but one phase."""
        assert phase == "optimizer", phase
        return self._optimizer.step
