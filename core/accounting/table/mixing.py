"""Rows between the projections: scores, softmax and weighted sum written out, or one fused kernel."""

from collections.abc import Callable, Iterator

from core.accounting.operations import Operation, with_cells
from core.config import ModelConfig


def written_out(model: ModelConfig) -> bool:
    """Whether scores and probabilities are tensors of their own."""
    return model.attention == "written_out"


def is_rotary(model: ModelConfig) -> bool:
    """Whether queries and keys are turned by RoPE."""
    return model.positions == "rope"


def shares_heads(model: ModelConfig) -> bool:
    """Whether several query heads share a key head."""
    return model.kv_heads != model.num_heads


def _case(grouped: bool) -> Callable[[ModelConfig], bool]:
    return lambda model: written_out(model) and shares_heads(model) == grouped


def _uncopied(grouped: bool) -> str:
    """Bytes of queries and keys that live beside the copies that a product has made of their views."""
    return "c*B*T*h*dk" if grouped else "2*c*B*T*h*dk"


def scores() -> tuple[Operation, ...]:
    """The scores q k^T / sqrt(d_k), masked; queries and keys are views, which a product copies."""
    product, heads = "c*(2*B*T*h*dk + B*h*T*S)", "B*T*h*dk"
    row = Operation(
        name="attention scores",
        group="attention",
        times="L",
        shape="B, h, T, S",
        forward_flop="2*B*h*dk*T*S",
        causal_forward_flop="B*h*dk*T*(2*S - T + 1)",
        backward_flop="4*B*h*dk*T*S",
        causal_backward_flop="2*B*h*dk*T*(2*S - T + 1)",
        elementwise_flop="2*B*h*T*S",
        forward_ideal_bytes="c*(B*T*h*dk + B*S*kv*dk + B*h*T*S)",
        backward_ideal_bytes="c*(2*B*T*h*dk + 2*B*S*kv*dk + B*h*T*S)",
        saved_bytes=f"2*c*{heads} + T*S",
        backward_live_bytes=f"s*B*T*d + c*{heads} + 2*c*B*h*T*S",
        note="product, scale, mask (a byte a pair); kept: query, key and mask",
    )
    scale_and_mask = "4*c*B*h*T*S + 4*T*S + 32*T"
    forward, backward = f"{product} + {scale_and_mask}", f"2*{product} + 4*c*B*h*T*S + T*S"
    expanded = f" + c*({heads} + B*T*kv*dk)"
    return tuple(
        with_cells(
            row,
            forward_eager_bytes=f"{forward} + 4*c*{heads}",
            backward_eager_bytes=backward + (expanded if grouped else ""),
            forward_live_bytes=f"u*B*T*d + c*{heads} + {_uncopied(grouped)} + 2*c*B*h*T*S",
            applies=_case(grouped),
        )
        for grouped in (True, False)
    )


def softmax() -> Iterator[Operation]:
    """exp(x - max) / sum, over the keys."""
    for grouped in (True, False):
        yield Operation(
            name="softmax",
            group="attention",
            times="L",
            shape="B, h, T, S",
            elementwise_flop="5*B*h*T*S",
            forward_ideal_bytes="2*c*B*h*T*S",
            forward_eager_bytes="(8*s + 2*a)*B*h*T*S + 4*s*B*h*T",
            backward_ideal_bytes="3*c*B*h*T*S",
            backward_eager_bytes="(18*s + 2*a)*B*h*T*S + 4*s*B*h*T",
            saved_bytes="s*(B*h*T*S + B*h*T)",
            forward_live_bytes=f"u*B*T*d + c*B*T*h*dk + {_uncopied(grouped)} + (c + s + u + q)*B*h*T*S",
            backward_live_bytes="s*B*T*d + c*B*T*h*dk + 5*s*B*h*T*S",
            note="maximum, difference, exponential, sum, quotient; kept: the exponentials and their sums",
            applies=_case(grouped),
        )


def weighted_sum() -> Iterator[Operation]:
    """Probabilities times values; shared heads' values are expanded first, others copied from their view."""
    product = "c*(2*B*T*h*dv + B*h*T*S)"
    for grouped in (True, False):
        yield Operation(
            name="attention weighted sum",
            group="attention",
            times="L",
            shape="B, h, T, dv",
            forward_flop="2*B*h*dv*T*S",
            causal_forward_flop="B*h*dv*T*(2*S - T + 1)",
            backward_flop="4*B*h*dv*T*S",
            causal_backward_flop="2*B*h*dv*T*(2*S - T + 1)",
            forward_ideal_bytes="c*(B*T*h*dv + B*S*kv*dv + B*h*T*S)",
            forward_eager_bytes=f"{product} + 2*c*B*T*h*dv",
            backward_ideal_bytes="c*(B*T*h*dv + 2*B*S*kv*dv + 2*B*h*T*S)",
            backward_eager_bytes=f"2*{product} + 2*c*B*T*h*dv" + (" + c*(B*T*h*dv + B*T*kv*dv)" if grouped else ""),
            saved_bytes="c*(B*h*T*S + B*T*h*dv)",
            forward_live_bytes=f"u*B*T*d + {_uncopied(grouped)} + c*({1 if grouped else 2}*B*T*h*dv + B*h*T*S)",
            backward_live_bytes="s*B*T*d + c*(2*B*T*h*dv + B*h*T*S)",
            note="kept: the probabilities and the values",
            applies=_case(grouped),
        )


def fused() -> Operation:
    """One kernel from queries to mixed values: the scores never reach memory, and the backward forms them anew."""
    queries, keys_values, outputs = "B*T*h*dk", "B*S*kv*(dk + dv)", "B*T*h*dv"
    moved = f"c*({queries} + {keys_values} + {outputs})"
    return Operation(
        name="attention",
        group="attention",
        times="L",
        shape="B, h, T, dv",
        forward_flop="2*B*h*(dk + dv)*T*S",
        causal_forward_flop="B*h*(dk + dv)*T*(2*S - T + 1)",
        backward_flop="4*B*h*(dk + dv)*T*S",
        causal_backward_flop="2*B*h*(dk + dv)*T*(2*S - T + 1)",
        recomputed_flop="2*B*h*dk*T*S",
        elementwise_flop="7*B*h*T*S",
        forward_ideal_bytes=f"{moved} + s*B*h*T",
        forward_eager_bytes=f"{moved} + s*B*h*T",
        backward_ideal_bytes=f"2*{moved} + s*B*h*T",
        backward_eager_bytes=f"2*{moved} + s*B*h*T",
        saved_bytes=f"{moved} + s*B*h*T",
        forward_live_bytes="u*B*T*d",
        backward_live_bytes=f"s*B*T*d + c*({outputs} + {queries} + {keys_values})",
        note="one kernel; kept: query, key, value, output and the logarithm of each row's sum",
        applies=lambda model: not written_out(model),
    )
