"""AdamW: Adam with decoupled weight decay."""

import importlib.util
from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from core.optim.adamw_plain import Coefficients, Slot, update_plain
from core.optim.shards import local

_HAS_TRITON = importlib.util.find_spec("triton") is not None


class AdamW(torch.optim.Optimizer):
    """Running means of the gradient and of its square, bias-corrected; decay acts on the weight, not on the gradient.

        m <- beta1 m + (1 - beta1) g
        v <- beta2 v + (1 - beta2) g^2
        w <- w - lr weight_decay w
        w <- w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    An update reads g, m, v and w once and writes m, v and w once, with nothing beside them in memory: in a loop that
    Numba compiles on the CPU, in a Triton kernel on CUDA. Elsewhere, and for what these two do not take (see
    `adamw_numba.takes` and `adamw_triton.takes`), PyTorch's operations do the same in more passes. Of a parameter that
    is spread over processes (`DTensor`) each process updates its own part.

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

    _on_cuda = None  # of the class, because copies of an optimizer do not carry what __init__ sets beside the state

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
            slots = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = 0
                    state["mean"] = torch.zeros_like(parameter)
                    state["mean_square"] = torch.zeros_like(parameter)
                state["step"] += 1
                slot = Slot(*map(local, (parameter, parameter.grad, state["mean"], state["mean_square"])))
                if slot.weight.numel():
                    slots[state["step"], self._update_of(slot)].append(slot)
            for (step, update), chosen in slots.items():
                update(chosen, Coefficients.of(group, step))
        return loss

    def _update_of(self, slot: Slot) -> Callable[[list[Slot], Coefficients], None]:
        """Which implementation updates this parameter; each is imported where it is first needed."""
        device = slot.weight.device.type
        if device == "cpu":
            from core.optim import adamw_numba

            return adamw_numba.update if adamw_numba.takes(slot) else update_plain
        if device == "cuda" and _HAS_TRITON:
            from core.optim import adamw_triton

            if adamw_triton.takes(slot):
                self._on_cuda = self._on_cuda or adamw_triton.Update()
                return self._on_cuda
        return update_plain
