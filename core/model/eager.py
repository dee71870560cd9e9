"""What `functional` says, in fewer passes over memory and with fewer tensors kept for the backward.

A training step on a CPU, or on a GPU without `torch.compile`, pays for every tensor that a kernel reads or writes. So
these work in place where nobody looks, and their backwards are written by hand. A compiler fuses by itself: under
`torch.compile` and `torch.export` each is its twin in `functional`.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from core.model import functional
from core.model.functional import at_least_float32


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """`functional.rms_norm`, which holds its formula and arguments."""
    if torch.compiler.is_compiling():
        return functional.rms_norm(x, gain, eps)
    return _RMSNorm.apply(x, gain, eps)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """`functional.swiglu`, which holds its formula and arguments."""
    if torch.compiler.is_compiling():
        return functional.swiglu(gate, up)
    return _SwiGLU.apply(gate, up)


def apply_rotary(x: Tensor, angles: Tensor) -> Tensor:
    """Turn each pair of dimensions by its angle, as `functional.apply_rotary` does.

    A pair (a, b) is the complex number a + ib, and turning it multiplies it by cos + i sin: one kernel, which keeps
    nothing of x.

    Args:
        x: Queries or keys, `... seq head d_head`.
        angles: `seq pair 2`, cosine and sine, in the type of the statistics.

    Returns:
        `... seq head d_head`, in the dtype of `x`.
    """
    angles = angles[:, None]
    # A compiler has no code for complex numbers, and not every device has kernels.
    if torch.compiler.is_compiling() or x.device.type not in ("cpu", "cuda") or angles.dtype == torch.bfloat16:
        return functional.apply_rotary(x, *angles.unbind(-1))
    pairs = x.to(angles.dtype).contiguous().unflatten(-1, (-1, 2))
    turned = torch.view_as_complex(pairs) * torch.view_as_complex(angles)
    return torch.view_as_real(turned).flatten(-2).to(x.dtype)


class _RMSNorm(torch.autograd.Function):
    """y = n gain with n = x r and r = 1 / sqrt(mean(x^2) + eps); kept are x and r, one number a vector.

    Of one vector of width d, with the gradient g of y and m = g gain, that of n:

        dL/dgain_j = sum over vectors of g_j n_j
        dr/dx_j    = -r^3 x_j / d                       since r = (mean(x^2) + eps)^(-1/2)
        dL/dx_j    = m_j r + (sum_i m_i x_i) dr/dx_j = r m_j - x_j r^2 mean_i(m_i n_i)
    """

    @staticmethod
    def forward(ctx, x: Tensor, gain: Tensor, eps: float) -> Tensor:
        wide = at_least_float32(x)
        mean_square = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1])
        inverse_rms = mean_square.add_(eps).rsqrt_()
        ctx.save_for_backward(x, gain, inverse_rms)
        return (wide * inverse_rms).mul_(gain).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, gain, inverse_rms = ctx.saved_tensors
        wide = at_least_float32(x)
        product = (wide * grad).mul_(inverse_rms)  # g n
        grad_gain = product.flatten(0, -2).sum(0).to(gain.dtype)
        mean = product.mul_(gain).mean(-1, keepdim=True)
        grad_x = torch.mul(inverse_rms, grad, out=product).mul_(gain)
        grad_x.addcmul_(wide, mean.mul_(inverse_rms).mul_(inverse_rms), value=-1)
        return grad_x.to(x.dtype), grad_gain, None


class _SwiGLU(torch.autograd.Function):
    """y = silu(gate) up with silu(x) = x s, s = sigmoid(x); kept are gate and up alone, s is formed again.

    With the gradient g of y, and since ds/dx = s (1 - s):

        dL/dup   = g silu(gate)
        dL/dgate = g up (s + gate s (1 - s)) = g up (s + silu(gate) (1 - s))

    The bracket is the point on the way from s to 1 at the fraction silu(gate): a `lerp`.
    """

    @staticmethod
    def forward(ctx, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return torch.sigmoid(gate).mul_(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        grad_gate = torch.sigmoid(gate)
        grad_up = gate * grad_gate
        grad_gate.lerp_(grad_gate.new_ones(()), grad_up).mul_(up).mul_(grad)
        return grad_gate, grad_up.mul_(grad)
