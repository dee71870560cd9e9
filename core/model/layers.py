"""Modules that hold the model's parameters, each a thin shell around one function of `functional`."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from core.model import eager, functional


def drawn_at_start(*shape: int, std: float, bound: float) -> nn.Parameter:
    """A parameter that `initialise` will draw from N(0, std^2) cut off at +-bound; until then it holds nothing."""
    parameter = nn.Parameter(torch.empty(*shape))
    parameter.init_std, parameter.init_bound = std, bound
    return parameter


@torch.no_grad()
def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every parameter that `drawn_at_start` made, in the order of `named_parameters`, from one generator."""
    for parameter in module.parameters():
        if hasattr(parameter, "init_std"):
            parameter.copy_(truncated_normal(parameter.shape, parameter.init_std, parameter.init_bound, generator))


def truncated_normal(shape: Sequence[int], std: float, bound: float, generator: torch.Generator) -> Tensor:
    """Draws from N(0, std^2) conditioned on |x| <= bound, by inverting the distribution function.

        x = std Phi^-1(u),   u uniform on [Phi(-bound/std), Phi(bound/std)]

    Args:
        shape: Of the result.
        std: Standard deviation before the cut.
        bound: Where it is cut.
        generator: Of the uniform numbers; on the CPU, so that every device starts from the same weights.

    Returns:
        float64, `shape`.
    """
    width = math.erf(bound / std / math.sqrt(2))  # of the interval of 2 u - 1
    uniform = torch.rand(*shape, generator=generator, dtype=torch.float64)
    return (torch.erfinv((2 * uniform - 1) * width) * math.sqrt(2) * std).clamp_(-bound, bound)


class Linear(nn.Module):
    """y = W x without bias; W starts as a normal of variance 2 / (d_in + d_out), cut off at 3 standard deviations.

    Reference:
        Glorot & Bengio (2010), eq. 12 (there in expectation over both directions), here with truncation.
    """

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        std = math.sqrt(2 / (d_in + d_out))
        self.weight = drawn_at_start(d_out, d_in, std=std, bound=3 * std)

    def forward(self, x: Tensor) -> Tensor:
        """`... d_in -> ... d_out`."""
        return functional.linear(x, self.weight)


class Embedding(nn.Module):
    """One vector per token; starts as a standard normal, cut off at +-3."""

    def __init__(self, vocab_size: int, d_model: int) -> None:
        super().__init__()
        self.weight = drawn_at_start(vocab_size, d_model, std=1.0, bound=3.0)

    def forward(self, ids: Tensor) -> Tensor:
        """`... -> ... d_model`."""
        return functional.embedding(ids, self.weight)


class RMSNorm(nn.Module):
    """Root-mean-square normalisation with a learned gain, which starts at 1."""

    def __init__(self, d_model: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.gain = nn.Parameter(torch.ones(d_model))

    def forward(self, x: Tensor) -> Tensor:
        """`... d_model -> ... d_model`."""
        return eager.rms_norm(x, self.gain, self.eps)


class Identity(nn.Module):
    """x unchanged: where a configuration has no norm."""

    def forward(self, x: Tensor) -> Tensor:
        """`... -> ...`."""
        return x


class SwiGLUFeedForward(nn.Module):
    """down(silu(gate x) * up x): three matrices."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.gate_proj = Linear(d_model, d_ff)
        self.up_proj = Linear(d_model, d_ff)
        self.down_proj = Linear(d_ff, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """`... d_model -> ... d_model`."""
        return self.down_proj(eager.swiglu(self.gate_proj(x), self.up_proj(x)))


class UngatedFeedForward(nn.Module):
    """down(f(up x)): two matrices, no gate; f is SiLU or ReLU^2."""

    def __init__(self, d_model: int, d_ff: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.up_proj = Linear(d_model, d_ff)
        self.down_proj = Linear(d_ff, d_model)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """`... d_model -> ... d_model`."""
        return self.down_proj(self.activation(self.up_proj(x)))


def feed_forward(kind: str, d_model: int, d_ff: int) -> nn.Module:
    """The feed-forward of a configuration's `feed_forward`."""
    if kind == "swiglu":
        return SwiGLUFeedForward(d_model, d_ff)
    return UngatedFeedForward(d_model, d_ff, {"silu": functional.silu, "relu2": functional.relu2}[kind])
