"""AdamW: Adam with decoupled weight decay."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


class AdamW(torch.optim.Optimizer):
    """Running means of the gradient and of its square, bias-corrected; decay acts on the weight, not on the gradient.

        m <- beta1 m + (1 - beta1) g
        v <- beta2 v + (1 - beta2) g^2
        w <- w - lr weight_decay w
        w <- w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    Args:
        params: Parameters or parameter groups; groups may set any of the following for themselves.
        lr: Step size.
        betas: beta1 and beta2.
        eps: Added to the root of the second moment.
        weight_decay: Fraction of the weight, per unit of lr, that a step takes off.

    Raises:
        ValueError: If an argument is out of range.

    Reference:
        Loshchilov & Hutter (2019), algorithm 2, arXiv:1711.05101, in torch's arrangement (their schedule multiplier eta
        is folded into `lr`, so decay scales with it).
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        if not lr >= 0:
            raise ValueError(f"lr is {lr}: it must not be negative")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas is {betas}: both must be from 0 up to, but not including, 1")
        if not eps >= 0:
            raise ValueError(f"eps is {eps}: it must not be negative")
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay is {weight_decay}: it must not be negative")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = 0
                    state["mean"] = torch.zeros_like(parameter)
                    state["mean_square"] = torch.zeros_like(parameter)
                state["step"] += 1
                mean, mean_square, step = state["mean"], state["mean_square"], state["step"]
                mean.lerp_(parameter.grad, 1 - beta1)
                mean_square.mul_(beta2).addcmul_(parameter.grad, parameter.grad, value=1 - beta2)
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                denominator = (mean_square / (1 - beta2**step)).sqrt_().add_(group["eps"])
                parameter.addcdiv_(mean, denominator, value=-group["lr"] / (1 - beta1**step))
                del denominator  # or it would live on while the next parameter's is formed
        return loss
