"""AdamW's update in PyTorch's own operations, for every device and dtype: the reference of the compiled ones."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

BUCKET = 2**22
"""Elements that are updated together: the denominators of so many exist at a time."""


class Slot(NamedTuple):
    """What belongs to one parameter, four tensors of one shape."""

    weight: Tensor
    gradient: Tensor
    mean: Tensor
    mean_square: Tensor


class Coefficients(NamedTuple):
    """The numbers of one step, from Python's double precision; each path rounds them to what it computes in."""

    decay: float
    """1 - lr weight_decay"""
    gradient_weight: float
    """1 - beta1"""
    beta2: float
    square_weight: float
    """1 - beta2"""
    square_correction: float
    """1 - beta2^t"""
    eps: float
    step_size: float
    """-lr / (1 - beta1^t)"""

    @classmethod
    def of(cls, group: dict[str, Any], step: int) -> "Coefficients":
        """Those of a parameter group's step, counted from 1."""
        beta1, beta2 = group["betas"]
        return cls(
            decay=1 - group["lr"] * group["weight_decay"],
            gradient_weight=1 - beta1,
            beta2=beta2,
            square_weight=1 - beta2,
            square_correction=1 - beta2**step,
            eps=group["eps"],
            step_size=-group["lr"] / (1 - beta1**step),
        )


def update_plain(slots: list[Slot], numbers: Coefficients) -> None:
    """Update parameters bucket by bucket; the temporary is one bucket's, or a parameter's that is not contiguous."""
    for bucket in _buckets(slots):
        weights, gradients, means, mean_squares = map(list, zip(*bucket, strict=True))
        gradients = [gradient.to(weight.dtype) for gradient, weight in zip(gradients, weights, strict=True)]
        torch._foreach_lerp_(means, gradients, numbers.gradient_weight)
        torch._foreach_mul_(mean_squares, numbers.beta2)
        torch._foreach_addcmul_(mean_squares, gradients, gradients, numbers.square_weight)
        torch._foreach_mul_(weights, numbers.decay)
        denominators = torch._foreach_div(mean_squares, numbers.square_correction)
        torch._foreach_sqrt_(denominators)
        torch._foreach_add_(denominators, numbers.eps)
        torch._foreach_addcdiv_(weights, means, denominators, numbers.step_size)
        del denominators  # or they would live on while the next bucket's are formed


def _buckets(slots: Iterable[Slot]) -> Iterator[list[Slot]]:
    bucket, elements = [], 0
    for piece in (piece for slot in slots for piece in _pieces(slot)):
        if bucket and elements + piece.weight.numel() > BUCKET:
            yield bucket
            bucket, elements = [], 0
        bucket.append(piece)
        elements += piece.weight.numel()
    if bucket:
        yield bucket


def _pieces(slot: Slot) -> Iterator[Slot]:
    """Views of at most a bucket's size."""
    if all(tensor.is_contiguous() for tensor in slot):
        return map(Slot._make, zip(*(tensor.view(-1).split(BUCKET) for tensor in slot), strict=True))
    return iter([slot])
