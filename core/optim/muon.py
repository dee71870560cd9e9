"""Muon: momentum whose singular values are all made 1, for the matrices of hidden layers."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from core.optim.shards import full, local, local_part

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""a, b, c of the polynomial a s + b s^3 + c s^5 that every iteration applies to every singular value s."""
ITERATIONS = 5
_EPS = 1e-7


class Muon(torch.optim.Optimizer):
    """Steps of the steepest descent under the spectral norm: as far as all singular directions go, equally far.

        M <- mu M + G
        U  = orthogonalise(G + mu M)
        W <- W - lr weight_decay W
        W <- W - lr sqrt(max(1, rows / columns)) U

    Products are made in bfloat16 on CUDA and in float32 elsewhere, in float64 for float64 weights. A matrix that is
    spread over processes (`DTensor`) is gathered, orthogonalised by each of them, and each takes its part.

    Args:
        params: Matrices `rows columns`, or parameter groups of them; groups may set any of the following for
            themselves.
        lr: Step size: an update changes what a matrix makes of a vector by about this much of the vector's length.
        momentum: mu, the decay rate of the running sum of gradients.
        weight_decay: Fraction of the weight, per unit of lr, that a step takes off.

    Raises:
        ValueError: If an argument is out of range or a parameter has not two axes.

    Reference:
        Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural networks",
        kellerjordan.github.io/posts/muon (its sum form of momentum, Nesterov's, and its scale by the shape), without
        weight decay there. Why the spectral norm: Bernstein & Newhouse (2024), arXiv:2409.20325.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        if not lr >= 0:
            raise ValueError(f"lr is {lr}: it must not be negative")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum is {momentum}: it must be from 0 up to, but not including, 1")
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay is {weight_decay}: it must not be negative")
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim != 2:
                    raise ValueError(f"a parameter has the shape {tuple(parameter.shape)}: Muon is for matrices alone")

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            mu = group["momentum"]
            moving = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter in moving:
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                local(state["momentum"]).mul_(mu).add_(local(parameter.grad))
            for batch in _batches(moving):
                dtype = _product_dtype(batch[0])
                rows, columns = batch[0].shape
                ahead = (parameter.grad.add(self.state[parameter]["momentum"], alpha=mu) for parameter in batch)
                updates = orthogonalise(torch.stack([full(matrix).to(dtype) for matrix in ahead]))
                for parameter, update in zip(batch, updates, strict=True):
                    weight = local(parameter)
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    scale = max(1, rows / columns) ** 0.5
                    weight.add_(local_part(update, parameter), alpha=-group["lr"] * scale)
                del updates, update  # or they would live on while the next are formed
        return loss


def orthogonalise(matrices: Tensor) -> Tensor:
    """Bring every singular value of matrices near 1 and leave the singular vectors as they are.

        X <- X / |X|_F
        X <- a X + (b A + c A^2) X,   A = X X^T,   five times

    On a singular value s that is s <- a s + b s^3 + c s^5. The coefficients do not let it converge to 1 but lift small
    values fast: after five times, all that were 0.002 of |X|_F or more lie between 0.68 and 1.21, smaller ones have
    grown by up to a^5 = 485. A zero matrix stays zero. Of the two products X X^T and X^T X the smaller is taken.

    Args:
        matrices: `batch rows columns`; products are made in its dtype.

    Returns:
        `batch rows columns`, near U V^T where the matrix is U S V^T.

    Reference:
        Jordan et al. (2024), as for `Muon`, with its coefficients; Bernstein & Newhouse (2024) for the iteration.
    """
    a, b, c = NEWTON_SCHULZ
    exact = torch.promote_types(matrices.dtype, torch.float32)
    norms = torch.linalg.vector_norm(matrices, dim=(-2, -1), keepdim=True, dtype=exact)
    x = matrices / norms.clamp(min=_EPS).to(matrices.dtype)
    del matrices  # the caller may have kept nothing of it
    is_tall = x.shape[-2] > x.shape[-1]
    if is_tall:
        x = x.mT
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        gram = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, gram, x, beta=a)
    return x.mT if is_tall else x


def _product_dtype(parameter: Tensor) -> torch.dtype:
    if parameter.dtype == torch.float64:
        return torch.float64
    return torch.bfloat16 if parameter.device.type == "cuda" else torch.float32


def _batches(parameters: list[Tensor]) -> Iterator[list[Tensor]]:
    """Matrices of one shape and dtype, at least one, and no more elements together than the device is given."""
    alike: dict[tuple, list[Tensor]] = {}
    for parameter in parameters:
        alike.setdefault((parameter.shape, parameter.dtype, parameter.device), []).append(parameter)
    for (shape, _, device), chosen in alike.items():
        size = max(1, _most_elements(device) // max(1, shape.numel()))
        yield from (chosen[start : start + size] for start in range(0, len(chosen), size))


def _most_elements(device: torch.device) -> int:
    # One small matrix does not fill a GPU; a CPU is filled by it and saves the memory.
    return 2**24 if device.type == "cuda" else 0
