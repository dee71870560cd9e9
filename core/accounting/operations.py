"""What a row of the operation table is, and which rows a model has."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType
from typing import Any

from core.accounting.formulas import Formula
from core.config import ModelConfig

GROUPS = ("embedding", "attention", "feed-forward", "output", "update")
CELLS = (
    "times",
    "parameters",
    "active_parameters",
    "forward_flop",
    "causal_forward_flop",
    "backward_flop",
    "causal_backward_flop",
    "recomputed_flop",
    "elementwise_flop",
    "forward_ideal_bytes",
    "forward_eager_bytes",
    "backward_ideal_bytes",
    "backward_eager_bytes",
    "saved_bytes",
    "forward_live_bytes",
    "backward_live_bytes",
)
ZERO = Formula("0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One logical operation. Every cell is a formula for one occurrence; given as text, kept as `Formula`.

    Bytes are counted twice. Ideal: the operation is one kernel, each operand is read once and each result written once.
    Eager: every tensor that each of torch's kernels here reads or writes, views excepted and lookups as far as they
    look. A tensor that several rows share is charged to the first that keeps it.
    """

    name: str
    group: str
    times: Formula
    """How often it occurs in the model."""
    shape: str = ""
    """Axes of its result."""
    parameters: Formula = ZERO
    """Weights held."""
    active_parameters: Formula = ZERO
    """Weights that one token meets; those held unless given."""
    forward_flop: Formula = ZERO
    """Operations in matrix products, a multiply-add being two; every pair of query and key counts (non-causal)."""
    causal_forward_flop: Formula = ZERO
    """The same, only pairs that the causal mask leaves; equal unless given."""
    backward_flop: Formula = ZERO
    """Operations in the backward's matrix products: Y = A B costs dA = dY B^T and dB = A^T dY."""
    causal_backward_flop: Formula = ZERO
    """The same, only pairs that the causal mask leaves; equal unless given."""
    recomputed_flop: Formula = ZERO
    """Operations of the forward that the backward does again because a fused kernel did not keep their result."""
    elementwise_flop: Formula = ZERO
    """Forward operations outside of matrix products: an addition, product, comparison, root or exponential is one."""
    forward_ideal_bytes: Formula = ZERO
    forward_eager_bytes: Formula = ZERO
    backward_ideal_bytes: Formula = ZERO
    backward_eager_bytes: Formula = ZERO
    saved_bytes: Formula = ZERO
    """Kept from forward to backward; parameters are not counted."""
    forward_live_bytes: Formula = ZERO
    """The most that lives besides in its forward: beyond parameters, optimizer state and all that is saved up to it."""
    backward_live_bytes: Formula = ZERO
    """The most that lives besides in its backward: the same, and the gradients of later rows' parameters."""
    note: str = ""
    matrices: tuple[str, str, str] | None = None
    """How many matrices it holds, and of each the outputs and inputs."""
    applies: Callable[[ModelConfig], bool] = lambda model: True
    """Whether a model has this row."""
    axes: tuple[Formula, ...] = dataclasses.field(init=False, repr=False, compare=False)
    """`shape`, axis by axis."""
    filled: tuple[str, ...] = dataclasses.field(init=False, repr=False, compare=False)
    """The names of the cells that are not zero; `times` is left out."""
    code: CodeType = dataclasses.field(init=False, repr=False, compare=False)
    """All of these as one tuple: a row is evaluated at once."""

    def __post_init__(self) -> None:
        for cell in CELLS:
            value: Any = getattr(self, cell)
            if isinstance(value, str):
                object.__setattr__(self, cell, Formula(value))
        for cell, like in (
            ("active_parameters", "parameters"),
            ("causal_forward_flop", "forward_flop"),
            ("causal_backward_flop", "backward_flop"),
        ):
            if getattr(self, cell) is ZERO:
                object.__setattr__(self, cell, getattr(self, like))
        axes = tuple(Formula(axis) for axis in self.shape.split(", ")) if self.shape else ()
        object.__setattr__(self, "axes", axes)
        filled = tuple(cell for cell in CELLS[1:] if not getattr(self, cell).is_zero)
        together = ", ".join(getattr(self, cell).text for cell in filled)
        object.__setattr__(self, "filled", filled)
        object.__setattr__(self, "code", compile(f"({together},)" if filled else "()", self.name, "eval"))
        if self.group not in GROUPS:
            raise ValueError(f"group is {self.group!r}: it must be one of {', '.join(GROUPS)}")

    def evaluate(self, symbols: dict[str, Any]) -> dict[str, int]:
        """The cells that are not zero, for one occurrence; `symbols` must come from `scope`."""
        return dict(zip(self.filled, eval(self.code, symbols), strict=True))

    @property
    def in_block(self) -> bool:
        """Whether it belongs to a block, and so occurs once a layer."""
        return self.group in ("attention", "feed-forward")


def with_cells(row: Operation, **cells: Any) -> Operation:
    """A row with some cells replaced: how variants are made."""
    return dataclasses.replace(row, **cells)
