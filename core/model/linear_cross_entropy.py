"""Output head and loss in one, so that the logits of all tokens need never exist together."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from core.model.functional import at_least_float32

BLOCK_NUMEL = {"cpu": 2**18}
"""Logits that are worked on at once, by device: on a CPU what its caches hold."""
BLOCK_NUMEL_ELSEWHERE = 2**26
"""On other devices: few kernels, and under autocast a full-size copy of so many alone."""


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, chunk: int | None = None, z_loss: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of the logits `hidden weight^T`, whose gradients are formed along with it.

        n_t       = log sum_v exp(logits_tv)                         log-normaliser
        nats      = mean_t (n_t - logits_t,target)
        objective = nats + z_loss mean_t (n_t^2)

    With p = softmax(logits) and N targets, the gradient of the objective by the logits is

        (p_tv (1 + 2 z_loss n_t) - [v = target]) / N =: G_tv

    since dn_t/dlogits_tv = p_tv. That by `hidden` is G weight and that by `weight` G^T hidden: both are sums or rows
    over tokens, so they are made here, chunk by chunk, in place of the logits, and the backward only scales them. The
    matrix products are those of the unchunked loss, in number and size; they just come before the backward. Without
    gradients (`torch.no_grad`) only the first is made.

    Args:
        hidden: What the head reads, `... d_model`.
        weight: The head, `vocab d_model`.
        targets: Ids, `...`.
        chunk: Tokens whose logits exist at once; all if None.
        z_loss: Weight of the mean squared log-normaliser, which keeps it near 0.

    Returns:
        The objective, and detached from it `nats`; scalars in at least float32.

    Raises:
        ValueError: If there is not one target for each vector, or the chunk holds no token.

    Reference:
        Chowdhery et al. (2022), section 5, arXiv:2204.02311: their log Z is our n_t, their 10^-4 our `z_loss`.
    """
    if hidden.shape[:-1] != targets.shape or targets.numel() == 0:
        raise ValueError(f"hidden is {tuple(hidden.shape)} and targets {tuple(targets.shape)}: one target a vector")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk is {chunk}: it must be at least 1 token")
    device = hidden.device.type
    product = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    if product != torch.bfloat16 or hidden.dtype == torch.float64:  # autocast leaves float64 as it is
        product = hidden.dtype
    wanted = [torch.is_grad_enabled() and tensor.requires_grad for tensor in (hidden, weight)]
    chunk = targets.numel() if chunk is None else chunk
    return _LinearCrossEntropy.apply(
        hidden.flatten(0, -2), weight, targets.flatten(), chunk, float(z_loss), product, *wanted
    )


class _LinearCrossEntropy(torch.autograd.Function):
    """The loss with both gradients formed in the forward; see `linear_cross_entropy`."""

    @staticmethod
    def forward(
        ctx,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        chunk: int,
        z_loss: float,
        product: torch.dtype,
        hidden_wanted: bool,
        weight_wanted: bool,
    ) -> tuple[Tensor, Tensor]:
        num_targets = targets.numel()
        grad_hidden = torch.empty_like(hidden) if hidden_wanted else None
        grad_weight, losses, log_normalisers = None, [], []
        with torch.autocast(hidden.device.type, enabled=False):
            head = weight.to(product)
            for start in range(0, num_targets, chunk):
                rows = slice(start, start + chunk)
                read = hidden[rows].to(product)
                logits = read @ head.T
                loss, log_normaliser = _to_gradient(
                    logits, targets[rows], num_targets, z_loss, hidden_wanted or weight_wanted
                )
                losses.append(loss)
                log_normalisers.append(log_normaliser)
                if hidden_wanted:
                    grad_hidden[rows] = logits @ head
                if weight_wanted:
                    summand = logits.T @ read
                    grad_weight = at_least_float32(summand) if grad_weight is None else grad_weight.add_(summand)
                    del summand
                del logits, read
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.dtype = weight.dtype
        nats = torch.cat(losses).mean()
        objective = nats + z_loss * torch.cat(log_normalisers).square().mean() if z_loss else nats.clone()
        ctx.mark_non_differentiable(nats)
        return objective, nats

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return (
            None if grad_hidden is None else grad_hidden * grad.to(grad_hidden.dtype),
            None if grad_weight is None else (grad_weight * grad).to(ctx.dtype),
            *(None,) * 6,
        )


def _to_gradient(
    logits: Tensor, targets: Tensor, num_targets: int, z_loss: float, wanted: bool
) -> tuple[Tensor, Tensor]:
    """Losses and log-normalisers of some tokens; if wanted, the logits become the objective's gradient by them."""
    numel = BLOCK_NUMEL.get(logits.device.type, BLOCK_NUMEL_ELSEWHERE)
    if torch.compiler.is_compiling():
        numel = logits.numel()  # the compiler fuses these kernels, but would write each block's out
    size = max(1, numel // logits.shape[-1])
    pairs = [
        _block_to_gradient(block, chosen[:, None], num_targets, z_loss, wanted)
        for block, chosen in zip(logits.split(size), targets.split(size), strict=True)
    ]
    losses, log_normalisers = zip(*pairs, strict=True)
    return torch.cat(losses), torch.cat(log_normalisers)


def _block_to_gradient(
    block: Tensor, targets: Tensor, num_targets: int, z_loss: float, wanted: bool
) -> tuple[Tensor, Tensor]:
    wide = at_least_float32(block)
    # The maximum is taken off first, as in `functional.cross_entropy`.
    maximum = wide.amax(dim=-1, keepdim=True)
    shifted = wide.sub_(maximum)
    at_target = shifted.gather(-1, targets)
    total = shifted.exp_().sum(dim=-1, keepdim=True)
    log_total = total.log()
    log_normaliser = log_total + maximum
    loss = log_total - at_target
    if wanted:
        scale = (1 + 2 * z_loss * log_normaliser) / (total * num_targets)
        wide.mul_(scale).scatter_(-1, targets, at_target.exp_().mul_(scale).sub_(1 / num_targets))
        if wide is not block:
            block.copy_(wide)
    return loss.squeeze(-1), log_normaliser.squeeze(-1)
