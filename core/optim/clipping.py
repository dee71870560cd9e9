"""Gradient clipping by global norm."""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard

from core.optim.shards import local


@torch.no_grad()
def clip_grad_norm(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients by one factor so that their joint L2 norm does not exceed `max_norm`.

        g <- g * min(1, max_norm / (norm + 1e-6)),   norm = sqrt(sum over all gradients of g^2)

    The host waits for nothing: norm and factor stay on the gradients' device. Of gradients that are spread over
    processes (`DTensor`) the norm is that of all parts, equal on all processes, which must call this together.

    Args:
        parameters: Those without a gradient are passed over.
        max_norm: The largest norm allowed.

    Returns:
        The norm before clipping, a scalar tensor (NaN or inf if a gradient is).

    Raises:
        ValueError: If a gradient is a sum over processes that has not been made yet.

    Reference:
        Pascanu et al. (2013), algorithm 1, arXiv:1211.5063; the 1e-6 is torch's.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return torch.zeros(())
    norm = _norm(_norms(gradients))
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_([local(gradient) for gradient in gradients], factor)
    return norm


def _norms(gradients: list[Tensor]) -> list[Tensor]:
    """Norms whose joint norm is that of all gradients, wherever their parts lie."""
    plain: list[Tensor] = []
    spread: dict[tuple[DeviceMesh, tuple[Placement, ...]], list[Tensor]] = defaultdict(list)
    for gradient in gradients:
        if isinstance(gradient, DTensor):
            spread[gradient.device_mesh, gradient.placements].append(gradient.to_local())
        else:
            plain.append(gradient)
    norms = list(torch._foreach_norm(plain)) if plain else []
    for (mesh, placements), parts in spread.items():
        if any(placement.is_partial() for placement in placements):
            raise ValueError(f"a gradient's placements are {placements}: sum it over the processes before clipping")
        own = _norm(list(torch._foreach_norm(parts))).reshape(1)
        # One number of each process that holds other elements, gathered: no squares of norms, which could overflow.
        layout = [Replicate() if placement.is_replicate() else Shard(0) for placement in placements]
        norms.append(_norm([DTensor.from_local(own, mesh, layout).full_tensor()]))
    return norms


def _norm(norms: list[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.stack(norms))
