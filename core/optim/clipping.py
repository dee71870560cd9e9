"""Gradient clipping by global norm."""

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def clip_grad_norm(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients by one factor so that their joint L2 norm does not exceed `max_norm`.

        g <- g * min(1, max_norm / (norm + 1e-6)),   norm = sqrt(sum over all gradients of g^2)

    Args:
        parameters: Those without a gradient are passed over.
        max_norm: The largest norm allowed.

    Returns:
        The norm before clipping, a scalar tensor (NaN or inf if a gradient is).

    Reference:
        Pascanu et al. (2013), algorithm 1, arXiv:1211.5063; the 1e-6 is torch's.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return torch.zeros(())
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor)
    return norm
