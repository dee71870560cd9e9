"""The mathematics of the model as functions of tensors: no parameters, no state.

Statistics (norms, softmax, log-sum-exp) are taken in at least float32 whatever the input's type. The
model goes through twins of some of these (`eager`, `linear_cross_entropy`) that move and keep fewer bytes.
"""

import math

import einx
import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Convert to the type in which statistics are taken: float32, or float64 if it is that already."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Map each vector by a matrix: y = W x, no bias.

    Args:
        x: `... d_in`.
        weight: `d_out d_in`.

    Returns:
        `... d_out`.
    """
    return x @ weight.T  # plain torch: the most called operation of all, and an einx call costs 30-80 µs


def embedding(ids: Tensor, table: Tensor) -> Tensor:
    """Look up one row per id.

    Args:
        ids: Integers below `vocab_size`, `...`.
        table: `vocab_size d_model`.

    Returns:
        `... d_model`.
    """
    # Not `table[ids]`: its backward adds with atomics, in another order each time, and no two runs would be bit-equal.
    return table.index_select(0, ids.flatten()).unflatten(0, ids.shape)


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """Scale each vector to unit root-mean-square, then multiply by a learned gain.

        y = x / sqrt(mean(x^2) + eps) * gain

    Args:
        x: Activations, `... d_model`; statistics are taken in at least float32.
        gain: Learned scale, `d_model`.
        eps: Added to the mean square, in units of x^2.

    Returns:
        `... d_model`, in the dtype of `x`.

    Reference:
        Zhang & Sennrich (2019), eq. 4, arXiv:1910.07467. Their g is our `gain`.
    """
    wide = at_least_float32(x)
    inverse_rms = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + eps)
    return (wide * inverse_rms * gain).to(x.dtype)


def silu(x: Tensor) -> Tensor:
    """Multiply by the sigmoid, element by element: x * sigmoid(x), also called swish.

    Reference:
        Elfwing et al. (2017), eq. 4, arXiv:1702.03118.
    """
    return x * torch.sigmoid(x)


def relu2(x: Tensor) -> Tensor:
    """max(x, 0)^2, element by element.

    Reference:
        So et al. (2021), section 4, arXiv:2109.08668 (Primer).
    """
    return x.clamp_min(0).square()


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up: the hidden layer of a gated feed-forward.

    Args:
        gate: `... d_ff`, the gate's projection of the input.
        up: `... d_ff`, the value's projection of the input.

    Reference:
        Shazeer (2020), eq. 6, arXiv:2002.05202: his W is our `gate_proj`, V our `up_proj`, W2 our `down_proj`.
    """
    return silu(gate) * up


def rotary_angles(positions: Tensor, d_head: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angle by which each pair of a head's dimensions turns at each position.

        angle(position, pair) = position * theta^(-2 pair / d_head),   pair = 0 .. d_head/2 - 1

    Angles are formed in float64 and rounded once, so that far positions do not lose their phase.

    Args:
        positions: Integers, `seq`.
        d_head: Width of a head; even.
        theta: Base of the frequencies.
        dtype: Type of the result.

    Returns:
        Two tensors `seq pair`.

    Reference:
        Su et al. (2021), section 3.2.2, arXiv:2104.09864. Their theta_i is our theta^(-2 pair / d_head).
    """
    # Formed on the CPU: MPS has no float64.
    pair = torch.arange(d_head // 2, dtype=torch.float64, device="cpu")
    frequency = theta ** (-2 * pair / d_head)
    angle = positions.to(device="cpu", dtype=torch.float64)[:, None] * frequency
    return angle.cos().to(positions.device, dtype), angle.sin().to(positions.device, dtype)


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair of dimensions by its angle; pairs are *interleaved*: (0, 1), (2, 3), ...

        (a, b) -> (a cos - b sin, a sin + b cos)

    Query-key products then depend on positions only through their difference.

    Args:
        x: Queries or keys, `... seq d_head`, or with further axes that those of the angles broadcast to.
        cos: `seq pair`, from `rotary_angles`.
        sin: `seq pair`.

    Returns:
        `... seq d_head`, in the dtype of `x`.
    """
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((first * cos - second * sin, first * sin + second * cos), dim=-1).flatten(-2).to(x.dtype)


def softmax(x: Tensor) -> Tensor:
    """exp(x) / sum(exp(x)) over the last axis, shifted by the maximum so that no exponential overflows.

    Args:
        x: `... key`; -inf marks what must get weight 0. A row of nothing but -inf gives NaN.

    Returns:
        `... key`, in the dtype of `x`.
    """
    wide = at_least_float32(x)
    # The shift changes nothing, so no gradient goes through it: without `detach` autograd would keep `wide` for it.
    exponential = torch.exp(wide - wide.detach().amax(dim=-1, keepdim=True))
    return (exponential / exponential.sum(dim=-1, keepdim=True)).to(x.dtype)


def causal_mask(num_queries: int, num_keys: int, device: torch.device | None = None) -> Tensor:
    """True where a query may look: at keys up to its own position, the queries being the last of the sequence.

    Returns:
        Booleans, `query key`.
    """
    query = torch.arange(num_keys - num_queries, num_keys, device=device)
    key = torch.arange(num_keys, device=device)
    return query[:, None] >= key


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention, written out.

        softmax(Q K^T / sqrt(d_head)) V,   masked scores set to -inf

    Args:
        query: `... query d_head`.
        key: `... key d_head`.
        value: `... key d_value`.
        mask: Booleans `query key` (or broadcastable), True where attention is allowed; None allows all.

    Returns:
        `... query d_value`.

    Reference:
        Vaswani et al. (2017), eq. 1, arXiv:1706.03762.
    """
    scores = einx.dot("... query d_head, ... key d_head -> ... query key", query, key) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return einx.dot("... query key, ... key d_head -> ... query d_head", softmax(scores), value)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood of each target, in nats.

        loss = log sum_v exp(logits_v - max) - (logits_target - max)

    The maximum is taken off first, so large logits neither overflow nor lose the small differences.

    Args:
        logits: Unnormalised log-probabilities, `... vocab`.
        targets: Ids, `...`.

    Returns:
        `...`, one loss per target in at least float32 (take `.mean()` for training).
    """
    wide = at_least_float32(logits)
    shifted = wide - wide.detach().amax(dim=-1, keepdim=True)  # as in softmax: no gradient goes through the shift
    log_normaliser = shifted.exp().sum(dim=-1).log()
    return log_normaliser - shifted.gather(-1, targets[..., None]).squeeze(-1)
