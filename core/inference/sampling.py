"""From logits to the next token: temperature, top-k, top-p."""

import math

import torch
from torch import Tensor

from core.model import functional


def check_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raise ValueError for options out of range."""
    if not (temperature >= 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature is {temperature}: it must be 0 (greedy) or positive and finite")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is {top_k}: it must be at least 1")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}: it must be above 0 and at most 1")


def next_token_probabilities(
    logits: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """The distribution that the next token is drawn from.

    Logits are divided by the temperature (0: all weight on the largest, the first of equals); of the result only the
    `top_k` most probable tokens are kept (the smaller id among equals), then the smallest set of most probable ones
    whose weight, renormalised after top-k, reaches `top_p` (the token that crosses it is kept); what is left is scaled
    to sum to 1.

    Args:
        logits: `... vocab`.
        temperature: Below 1 sharpens, above 1 flattens.
        top_k: How many tokens may be drawn; None for all.
        top_p: The weight that the tokens which may be drawn must reach; None for all.

    Returns:
        Probabilities, `... vocab`, float64.

    Reference:
        Top-k: Fan et al. (2018), arXiv:1805.04833. Top-p: Holtzman et al. (2020), eq. 2, arXiv:1904.09751.
    """
    check_sampling(temperature, top_k, top_p)
    logits = logits.double()
    if temperature == 0:
        probabilities = torch.zeros_like(logits)
        return probabilities.scatter_(-1, logits.argmax(dim=-1, keepdim=True), 1.0)
    # The maximum goes first: divided by a tiny temperature it would overflow.
    probabilities = functional.softmax((logits - logits.amax(dim=-1, keepdim=True)) / temperature)
    if top_k is None and top_p is None:
        return probabilities
    ordered, ids = probabilities.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        ordered[..., top_k:] = 0
        ordered = ordered / ordered.sum(dim=-1, keepdim=True)
    if top_p is not None:
        before = ordered.cumsum(dim=-1) - ordered
        # Sums of doubles are off by rounding: without the margin a set that exactly reaches top_p would grow by one.
        beyond = before >= top_p - 1e-12
        beyond[..., 0] = False
        ordered = ordered.masked_fill(beyond, 0)
        ordered = ordered / ordered.sum(dim=-1, keepdim=True)
    return torch.zeros_like(probabilities).scatter_(-1, ids, ordered)
