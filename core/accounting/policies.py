"""Choices that are not architecture: number formats and optimizers, as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from core.accounting.formulas import Formula
from core.accounting.operations import Operation
from core.config.checks import did_you_mean

Choice = TypeVar("Choice")


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """In which formats a training step keeps and multiplies numbers."""

    stored_bytes: int
    """Of a weight, a gradient, an optimizer mean, the residual stream, a statistic."""
    product_bytes: int
    """Of the operands and the result of a matrix product; where it differs, operands are cast."""
    product_dtype: str
    """The format that a device's peak is looked up by."""

    @property
    def symbols(self) -> dict[str, int]:
        """The values of s, c, q, u and a."""
        casts = self.stored_bytes != self.product_bytes
        return {
            "s": self.stored_bytes,
            "c": self.product_bytes,
            "q": self.product_bytes if casts else 0,
            "u": self.stored_bytes if casts else 0,
            "a": self.stored_bytes + self.product_bytes if casts else 0,
        }


PRECISIONS: dict[str, Precision] = {
    "float32": Precision(stored_bytes=4, product_bytes=4, product_dtype="float32"),
    "tf32": Precision(stored_bytes=4, product_bytes=4, product_dtype="tf32"),
    "float64": Precision(stored_bytes=8, product_bytes=8, product_dtype="float64"),
    "bfloat16-autocast": Precision(stored_bytes=4, product_bytes=2, product_dtype="bfloat16"),
    "bfloat16": Precision(stored_bytes=2, product_bytes=2, product_dtype="bfloat16"),
}
"""`bfloat16-autocast`: float32 weights, statistics and residual stream, products in bfloat16. `bfloat16` keeps all in
two bytes, as models are served (statistics, too, are counted at two bytes)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """What an optimizer keeps, and what its step takes."""

    state_bytes: Formula
    """Kept between steps."""
    temporary_bytes: Formula
    """Lives during the step, beyond weights, gradients and state."""
    row: Operation


def _optimizer(
    state: str, temporary: str, flop: str, ideal: str, eager: str, note: str, products: str = "0"
) -> Optimizer:
    row = Operation(
        name="optimizer",
        group="update",
        times="1",
        forward_flop=products,
        elementwise_flop=flop,
        forward_ideal_bytes=ideal,
        forward_eager_bytes=eager,
        note=note,
    )
    return Optimizer(state_bytes=Formula(state), temporary_bytes=Formula(temporary), row=row)


NEWTON_SCHULZ = {
    "M": Formula("r*c", also=("r", "c")),
    "N": Formula("5*(4*r*r*c + 2*r*r*r)", also=("r", "c")),
    "W": Formula("5*(5*r*c + 6*r*r)", also=("r", "c")),
    "Z": Formula("2*r*c + r*r", also=("r", "c")),
}
"""Of one matrix whose sides are r <= c: its numbers, and of five iterations A = X X^T, B = b A + c A A, X = a X + B X
the FLOP, the numbers moved, and the most that live at once (X, the next X, and A)."""
OPTIMIZERS: dict[str, Optimizer] = {
    "adamw": _optimizer("2*s*P", "0", "14*P", "7*s*P", "7*s*P", "ours: one compiled loop, nothing besides"),
    "adamw-foreach": _optimizer("2*s*P", "s*P", "14*P", "7*s*P", "21*s*P", "torch's foreach: one temporary of all"),
    "adamw-fused": _optimizer("2*s*P", "0", "14*P", "7*s*P", "7*s*P", "torch's fused: one kernel, nothing besides"),
    "muon": _optimizer(
        "s*(2*P - M)",
        "s*Z",
        "4*M + 14*(P - M)",
        "s*(7*P - 2*M)",
        "s*(7*P + 9*M + W)",
        "Muon for the blocks' matrices, AdamW for the rest; five Newton-Schulz iterations",
        products="N",
    ),
    "sgd-momentum": _optimizer("s*P", "0", "4*P", "5*s*P", "8*s*P", "gradient and one mean"),
    "sgd": _optimizer("0", "0", "2*P", "3*s*P", "3*s*P", "the gradient alone"),
}


def choose(what: str, name: str, among: Mapping[str, Choice]) -> Choice:
    """The entry of this name.

    Raises:
        ValueError: If there is none; the message names the nearest and all.
    """
    if name not in among:
        raise ValueError(f"{what} is {name!r}: there is {', '.join(among)}{did_you_mean(name, among)}")
    return among[name]
