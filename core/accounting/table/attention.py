"""Rows of attention: projections, positions, scores, weighted sum, in each of its variants."""

from collections.abc import Callable, Iterator

from core.accounting.operations import Operation, with_cells
from core.accounting.table.parts import (
    linear,
    linear_backward_live,
    norm_in_front,
    norms,
    residual_sum,
    second_branch,
)
from core.config import ModelConfig

X, Q, K = "B*T*d", "B*T*h*dk", "B*T*kv*dk"
"""Elements of the residual stream, of the queries, of the keys."""


def _written_out(model: ModelConfig) -> bool:
    return model.attention == "written_out"


def _rotary(model: ModelConfig) -> bool:
    return model.positions == "rope"


def _grouped(model: ModelConfig) -> bool:
    return model.kv_heads != model.num_heads


def _head_norm(name: str, heads: str) -> Operation:
    x = f"B*T*{heads}*dk"
    return Operation(
        name=name,
        group="attention",
        times="L",
        shape=f"B, {heads}, T, dk",
        parameters="dk",
        elementwise_flop=f"4*{x}",
        forward_ideal_bytes=f"s*(2*{x} + dk)",
        forward_eager_bytes=f"s*(7*{x} + 6*B*T*{heads} + dk)",
        backward_ideal_bytes=f"s*(3*{x} + 2*dk)",
        backward_eager_bytes=f"s*(24*{x} + 9*B*T*{heads} + 2*dk)",
        saved_bytes=f"s*(2*{x} + B*T*{heads})",
        forward_live_bytes="c*B*T*(h + 2*kv)*dk",
        backward_live_bytes=f"s*B*T*d + 6*s*{x}",
        applies=lambda model: model.qk_norm,
    )


CASES = ((True, False), (True, True), (False, False), (False, True))
"""RoPE or not, shared heads of keys and values or not: together they decide what is cast, copied or expanded."""


def _case(rope: bool, grouped: bool) -> Callable[[ModelConfig], bool]:
    return lambda model: _written_out(model) and _rotary(model) == rope and _grouped(model) == grouped


def _uncopied(rope: bool, grouped: bool) -> str:
    """Bytes of queries and keys that live beside what a product has made of them: casts after RoPE, copies of views."""
    if rope:
        return "2*u*B*T*h*dk"
    return "c*B*T*h*dk" if grouped else "2*c*B*T*h*dk"


def _scores() -> tuple[Operation, ...]:
    """Q k^T / sqrt(d_k), masked; by where q and k come from, which decides what is cast, copied or expanded first."""
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
    # RoPE leaves fp32 behind, which a product casts; without it the heads are a view, which a product copies.
    extra = {
        (True, False): (f" + 2*a*{heads}", f" + 2*a*{heads}"),
        (True, True): (f" + 2*a*{heads} + 2*s*{heads}", f" + 2*a*{heads} + s*({heads} + B*T*kv*dk)"),
        (False, False): (f" + 4*c*{heads}", ""),
        (False, True): (f" + 4*c*{heads}", f" + c*({heads} + B*T*kv*dk)"),
    }
    return tuple(
        with_cells(
            row,
            forward_eager_bytes=forward + extra[case][0],
            backward_eager_bytes=backward + extra[case][1],
            forward_live_bytes=f"u*{X} + c*{heads} + {_uncopied(*case)} + 2*c*B*h*T*S",
            applies=_case(*case),
        )
        for case in CASES
    )


def _softmax() -> Iterator[Operation]:
    for case in CASES:
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
            forward_live_bytes=f"u*{X} + c*B*T*h*dk + {_uncopied(*case)} + (c + s + u + q)*B*h*T*S",
            backward_live_bytes="s*B*T*d + c*B*T*h*dk + 5*s*B*h*T*S",
            note="maximum, difference, exponential, sum, quotient; kept: the exponentials and their sums",
            applies=_case(*case),
        )


def _weighted_sum() -> Iterator[Operation]:
    """Probabilities times values; shared heads' values are expanded first, others copied from their view."""
    product = "c*(2*B*T*h*dv + B*h*T*S)"
    for case in CASES:
        grouped = case[1]
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
            forward_live_bytes=f"u*{X} + {_uncopied(*case)} + c*({1 if grouped else 2}*B*T*h*dv + B*h*T*S)",
            backward_live_bytes="s*B*T*d + c*(2*B*T*h*dv + B*h*T*S)",
            note="kept: the probabilities and the values",
            applies=_case(*case),
        )


def _fused() -> tuple[Operation, Operation]:
    """One kernel from queries to mixed values: the scores never reach memory, and the backward forms them anew."""
    queries, keys_values, outputs = "B*T*h*dk", "B*S*kv*(dk + dv)", "B*T*h*dv"
    moved = f"c*({queries} + {keys_values} + {outputs})"
    row = Operation(
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
        forward_live_bytes=f"u*B*T*d + c*{outputs} + u*({queries} + B*S*kv*dk)",
        backward_live_bytes=f"s*B*T*d + c*({outputs} + {queries} + {keys_values})",
        note="one kernel; kept: query, key, value, output and the logarithm of each row's sum",
    )

    def fused(rope: bool) -> Callable[[ModelConfig], bool]:
        return lambda model: not _written_out(model) and _rotary(model) == rope

    # Queries and keys leave RoPE in full precision, and are cast.
    cast = f" + a*({queries} + B*S*kv*dk)"
    with_rope = with_cells(
        row,
        forward_eager_bytes=f"{moved} + s*B*h*T{cast}",
        backward_eager_bytes=f"2*{moved} + s*B*h*T{cast}",
        applies=fused(True),
    )
    return with_rope, with_cells(row, forward_live_bytes="u*B*T*d", applies=fused(False))


def _projection(
    name: str, d_out: str, heads: str, waiting: str, *, first: bool = False, again: bool = False
) -> tuple[Operation, ...]:
    """q_proj, k_proj, v_proj; backward they follow in the order v, k, q, and the gradients of x add up.

    The heads' gradient may have to be copied back into one matrix: torch's fused kernel keeps the memory order of what
    it is given, so nothing is copied around it but what RoPE has put into an order of its own. With a norm in front the
    gradients of x are added to each other, without to that of the residual stream.

    Args:
        name: Of the row.
        d_out: Width of its output.
        heads: Width of all projections made so far, which live on.
        waiting: Bytes of the heads' gradients that come later.
        first: Whether its gradient of x is the first of the three.
        again: Whether its input is that of the row before.
    """

    def copied(model: ModelConfig) -> bool:
        several = (model.num_heads if name == "q_proj" else model.kv_heads) > 1  # one head is in order as it is
        return several and (_written_out(model) or (_rotary(model) and not first))

    def live(in_front: bool) -> str:
        own = f"B*T*{d_out}"
        product = linear_backward_live(X, f"d*{d_out}", own, sums=not first, again=again)
        stream = "2*s" if in_front and not first else "s"
        return f"{stream}*{X} + {waiting} + max(2*c*{own}, {product})"

    return tuple(
        linear(
            name,
            "d",
            d_out,
            again=again,
            group="attention",
            times="L",
            backward_eager=(f" + 2*c*B*T*{d_out}" if copies else "") + ("" if first else " + 3*s*B*T*d"),
            forward_live_bytes=f"u*B*T*d + c*B*T*{heads}",
            backward_live_bytes=live(in_front),
            applies=lambda model, copies=copies, in_front=in_front: (
                model.latent is None and copied(model) == copies and norm_in_front(model) == in_front
            ),
        )
        for copies in (True, False)
        for in_front in (True, False)
    )


def _output_projection() -> tuple[Operation, ...]:
    """o_proj: the heads' outputs are first copied side by side, unless the fused kernel has left them so."""
    live = "max((s + q)*B*T*d + c*(B*T*h*dv + h*dv*d), s*B*T*d + {kept}u*h*dv*d)"
    cells = {"cast": False, "group": "attention", "times": "L", "backward_live_bytes": live.format(kept="")}
    return (
        linear(
            "o_proj",
            "h*dv",
            "d",
            forward_eager=" + 2*c*B*T*h*dv",
            saved_bytes="c*B*T*h*dv*min((h - 1)*(T - 1), 1) + q*h*dv*d",
            forward_live_bytes="max((c + u)*B*T*d + u*B*T*(h + kv)*dk, (c + s)*B*T*d)",
            note="the heads' outputs are first copied side by side, unless there is but one head or token",
            applies=lambda model: _rotary(model) and not _written_out(model),
            **cells,
        ),
        linear(
            "o_proj",
            "h*dv",
            "d",
            forward_eager=" + 2*c*B*T*h*dv",
            forward_live_bytes="max((c + u)*B*T*d + (2*u + 2*c)*B*T*h*dv, (c + s)*B*T*d)",
            note="the heads' outputs are first copied side by side",
            applies=_written_out,
            **cells,
        ),
        linear(
            "o_proj",
            "h*dv",
            "d",
            saved_bytes="q*h*dv*d",
            forward_live_bytes="(c + s)*B*T*d",
            note="its input is attention's output, kept there",
            applies=lambda model: not (_written_out(model) or _rotary(model)),
            **{**cells, "backward_live_bytes": live.format(kept="c*B*T*h*dv + ")},
        ),
    )


ATTENTION = (
    *norms("attention norm", "attention", "L", "pre"),
    *_projection("q_proj", "h*dk", "h*dk", "0"),
    *_projection("k_proj", "kv*dk", "(h + kv)*dk", f"c*{Q}", again=True),
    *_projection("v_proj", "kv*dv", "(h + 2*kv)*dk", f"c*({Q} + {K})", first=True, again=True),
    _head_norm("query norm", "h"),
    _head_norm("key norm", "kv"),
    Operation(
        name="rope",
        group="attention",
        times="L",
        shape="B, h, T, dk",
        elementwise_flop="3*B*T*(h + kv)*dk",
        forward_ideal_bytes="(c + s)*B*T*(h + kv)*dk + s*T*dk",
        forward_eager_bytes="(2*c + 7*s)*B*T*(h + kv)*dk + 4*s*T*dk",
        backward_ideal_bytes="(c + s)*B*T*(h + kv)*dk + s*T*dk",
        backward_eager_bytes="(5*s + 5*c + 2*a)*B*T*(h + kv)*dk + 4*s*T*dk",
        forward_live_bytes=("u*B*T*d + c*B*T*(h + 2*kv)*dk + max(s*(B*T*h*dk + 2*B*T*kv*dk), 2*s*B*T*h*dk)"),
        backward_live_bytes=(
            "s*B*T*d + c*B*T*kv*dk + s*B*T*h*dk"
            " + max(s*B*T*kv*dk + (3*s + c)*B*T*kv*dk//2, c*B*T*kv*dk + (3*s + c)*B*T*h*dk//2)"
        ),
        note="queries and keys; four products, a difference, a sum and a stack of halves each; keeps nothing of them",
        applies=lambda model: _rotary(model) and model.latent is None,
    ),
    # Latent attention.
    linear("q_down_proj", "d", "rq", group="attention", times="L", applies=lambda model: model.latent is not None),
    Operation(
        name="query latent norm",
        group="attention",
        times="L",
        shape="B, T, rq",
        parameters="rq",
        elementwise_flop="4*B*T*rq",
        forward_ideal_bytes="s*(2*B*T*rq + rq)",
        forward_eager_bytes="s*(2*B*T*rq + rq)",
        backward_ideal_bytes="s*(3*B*T*rq + 2*rq)",
        backward_eager_bytes="s*(3*B*T*rq + 2*rq)",
        saved_bytes="s*(B*T*rq + B*T)",
        applies=lambda model: model.latent is not None,
    ),
    linear("q_up_proj", "rq", "h*dk", group="attention", times="L", applies=lambda model: model.latent is not None),
    linear(
        "kv_down_proj",
        "d",
        "rkv + dr",
        again=True,
        group="attention",
        times="L",
        note="its dr last outputs are the key that all heads share",
        applies=lambda model: model.latent is not None,
    ),
    Operation(
        name="key-value latent norm",
        group="attention",
        times="L",
        shape="B, T, rkv",
        parameters="rkv",
        elementwise_flop="4*B*T*rkv",
        forward_ideal_bytes="s*(2*B*T*rkv + rkv)",
        forward_eager_bytes="s*(2*B*T*rkv + rkv)",
        backward_ideal_bytes="s*(3*B*T*rkv + 2*rkv)",
        backward_eager_bytes="s*(3*B*T*rkv + 2*rkv)",
        saved_bytes="s*(B*T*rkv + B*T)",
        applies=lambda model: model.latent is not None,
    ),
    linear(
        "kv_up_proj", "rkv", "h*dn + h*dv", group="attention", times="L", applies=lambda model: model.latent is not None
    ),
    Operation(
        name="rope",
        group="attention",
        times="L",
        shape="B, h, T, dr",
        elementwise_flop="3*B*T*(h + 1)*dr",
        forward_ideal_bytes="(c + s)*B*T*(h + 1)*dr + s*T*dr",
        forward_eager_bytes="(c + s)*B*T*(h + 1)*dr + s*T*dr",
        backward_ideal_bytes="(c + s)*B*T*(h + 1)*dr + s*T*dr",
        backward_eager_bytes="(c + s)*B*T*(h + 1)*dr + s*T*dr",
        applies=lambda model: model.latent is not None,
    ),
    # The formula term by term: three rows.
    *_scores(),
    *_softmax(),
    *_weighted_sum(),
    *_fused(),
    *_output_projection(),
    *second_branch(residual_sum("attention residual", "attention", "L")),
    *norms("attention norm", "attention", "L", "post", beside=" + u*B*T*d"),
)
