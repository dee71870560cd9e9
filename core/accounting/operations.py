"""The operation table: a row per operation of the model, its cells formulas over the configuration's names.

Names in a formula: B batch_size, T sequence length, V vocab_size, d d_model, h num_heads, k d_head, f d_ff.
A row counts once or once per layer. A multiply-add is two operations; what is not a matrix product is left out of the
FLOPs, as the field does (element-wise work is bandwidth, not arithmetic).
"""

from collections.abc import Callable
from dataclasses import dataclass

from core.config import ModelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One row of the table."""

    name: str
    per_layer: bool
    parameters: str = "0"
    """Weights held, as a formula."""
    forward_flop: str = "0"
    """Matrix-product operations of one forward pass, as a formula."""
    applies: Callable[[ModelConfig], bool] = lambda model: True
    """Whether a model has this row."""


def _gated(model: ModelConfig) -> bool:
    return model.feed_forward == "swiglu"


OPERATIONS: tuple[Operation, ...] = (
    Operation(name="embedding", per_layer=False, parameters="V*d"),
    Operation(name="attention norm", per_layer=True, parameters="d"),
    Operation(name="q_proj", per_layer=True, parameters="d*d", forward_flop="2*B*T*d*d"),
    Operation(name="k_proj", per_layer=True, parameters="d*d", forward_flop="2*B*T*d*d"),
    Operation(name="v_proj", per_layer=True, parameters="d*d", forward_flop="2*B*T*d*d"),
    Operation(name="attention scores", per_layer=True, forward_flop="2*B*h*T*T*k"),
    Operation(name="attention weighted sum", per_layer=True, forward_flop="2*B*h*T*T*k"),
    Operation(name="o_proj", per_layer=True, parameters="d*d", forward_flop="2*B*T*d*d"),
    Operation(name="feed-forward norm", per_layer=True, parameters="d"),
    Operation(name="gate_proj", per_layer=True, parameters="d*f", forward_flop="2*B*T*d*f", applies=_gated),
    Operation(name="up_proj", per_layer=True, parameters="d*f", forward_flop="2*B*T*d*f"),
    Operation(name="down_proj", per_layer=True, parameters="f*d", forward_flop="2*B*T*d*f"),
    Operation(name="final norm", per_layer=False, parameters="d"),
    Operation(
        name="lm_head",
        per_layer=False,
        parameters="V*d",
        forward_flop="2*B*T*d*V",
        applies=lambda model: not model.tie_embeddings,
    ),
    Operation(
        name="lm_head (tied)", per_layer=False, forward_flop="2*B*T*d*V", applies=lambda model: model.tie_embeddings
    ),
)


def evaluate(formula: str, model: ModelConfig, batch_size: int, seq: int) -> int:
    """The exact integer that a formula of the table gives."""
    names = {
        "B": batch_size,
        "T": seq,
        "V": model.vocab_size,
        "d": model.d_model,
        "h": model.num_heads,
        "k": model.d_head,
        "f": model.d_ff,
    }
    return eval(formula, {"__builtins__": {}}, names)


def _total(cell: Callable[[Operation], str], model: ModelConfig, batch_size: int, seq: int) -> int:
    return sum(
        evaluate(cell(row), model, batch_size, seq) * (model.num_layers if row.per_layer else 1)
        for row in OPERATIONS
        if row.applies(model)
    )


def parameters(model: ModelConfig) -> int:
    """Weights in all; a tied head counts once."""
    return _total(lambda row: row.parameters, model, 1, 1)


def forward_flop(model: ModelConfig, batch_size: int = 1, seq: int | None = None) -> int:
    """Operations of one forward pass, non-causal convention: all T x T scores are counted.

    Args:
        model: The architecture.
        batch_size: Sequences.
        seq: Their length; the full context if None.
    """
    return _total(lambda row: row.forward_flop, model, batch_size, model.context_length if seq is None else seq)


def training_flop(model: ModelConfig, batch_size: int = 1, seq: int | None = None) -> int:
    """Operations of forward and backward: each product Y = A B costs two more, dA = dY B^T and dB = A^T dY."""
    return 3 * forward_flop(model, batch_size, seq)
