"""Rows of attention: norms, projections, positions, the mixing of values, the residual sum; latent attention."""

from core.accounting.operations import Operation
from core.accounting.table.mixing import fused, is_rotary, scores, softmax, weighted_sum, written_out
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
        forward_eager_bytes=f"s*(5*{x} + 10*B*T*{heads} + dk)",
        backward_ideal_bytes=f"s*(3*{x} + 2*dk)",
        backward_eager_bytes=f"s*(17*{x} + 10*B*T*{heads} + 3*dk)",
        saved_bytes=f"s*({x} + B*T*{heads})",
        forward_live_bytes="c*B*T*(h + 2*kv)*dk",
        backward_live_bytes=f"s*B*T*d + 5*s*{x}",
        applies=lambda model: model.qk_norm,
    )


def _projection(
    name: str, d_out: str, heads: str, waiting: str, *, first: bool = False, again: bool = False
) -> tuple[Operation, ...]:
    """q_proj, k_proj, v_proj; backward they follow in the order v, k, q, and the gradients of x add up.

    The heads' gradient may have to be copied back into one matrix: torch's fused kernel keeps the memory order of what
    it is given, so nothing is copied around it. With a norm in front the gradients of x are added to each other,
    without to that of the residual stream.

    Args:
        name: Of the row.
        d_out: Width of its output.
        heads: Width of all projections made so far, which live on.
        waiting: Bytes of the heads' gradients that come later.
        first: Whether its gradient of x is the first of the three.
        again: Whether its input is that of the row before.
    """

    def copied(model: ModelConfig) -> str | None:
        several = (model.num_heads if name == "q_proj" else model.kv_heads) > 1  # one head is in order as it is
        if not (several and written_out(model)):
            return None
        return "s" if is_rotary(model) and not first else "c"  # RoPE's backward copies, in its own type

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
            backward_eager=(f" + 2*{copies}*B*T*{d_out}" if copies else "") + ("" if first else " + 3*s*B*T*d"),
            forward_live_bytes=f"u*B*T*d + c*B*T*{heads}",
            backward_live_bytes=live(in_front),
            applies=lambda model, copies=copies, in_front=in_front: (
                model.latent is None and copied(model) == copies and norm_in_front(model) == in_front
            ),
        )
        for copies in ("s", "c", None)
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
            forward_live_bytes="max((c + u)*B*T*d + (2*u + 2*c)*B*T*h*dv, (c + s)*B*T*d)",
            note="the heads' outputs are first copied side by side",
            applies=written_out,
            **cells,
        ),
        linear(
            "o_proj",
            "h*dv",
            "d",
            saved_bytes="q*h*dv*d",
            forward_live_bytes="(c + s)*B*T*d",
            note="its input is attention's output, kept there",
            applies=lambda model: not written_out(model),
            **{**cells, "backward_live_bytes": live.format(kept="c*B*T*h*dv + ")},
        ),
    )


def _latent_norm(name: str, rank: str) -> Operation:
    """RMSNorm of a latent vector, one fused kernel."""
    x = f"B*T*{rank}"
    return Operation(
        name=name,
        group="attention",
        times="L",
        shape=f"B, T, {rank}",
        parameters=rank,
        elementwise_flop=f"4*{x}",
        forward_ideal_bytes=f"s*(2*{x} + {rank})",
        forward_eager_bytes=f"s*(2*{x} + {rank})",
        backward_ideal_bytes=f"s*(3*{x} + 2*{rank})",
        backward_eager_bytes=f"s*(3*{x} + 2*{rank})",
        saved_bytes=f"s*({x} + B*T)",
        applies=lambda model: model.latent is not None,
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
        forward_ideal_bytes="2*c*B*T*(h + kv)*dk + s*T*dk",
        forward_eager_bytes="(2*s + 2*a)*B*T*(h + kv)*dk + 2*s*T*dk",
        backward_ideal_bytes="2*c*B*T*(h + kv)*dk + s*T*dk",
        backward_eager_bytes="(2*s + 2*a)*B*T*(h + kv)*dk + 6*s*T*dk",
        forward_live_bytes="u*B*T*d + c*B*T*(h + 2*kv)*dk + B*T*dk*max((u + s + q)*h, c*h + (u + s + q)*kv)",
        backward_live_bytes=(
            "s*B*T*d + c*B*T*kv*dk + max(c*B*T*h*dk + (c + s + u)*B*T*kv*dk, c*B*T*kv*dk + (c + s + u)*B*T*h*dk)"
        ),
        note="queries and keys, one complex product each; keeps nothing of them",
        applies=lambda model: is_rotary(model) and model.latent is None,
    ),
    # Latent attention.
    linear("q_down_proj", "d", "rq", group="attention", times="L", applies=lambda model: model.latent is not None),
    _latent_norm("query latent norm", "rq"),
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
    _latent_norm("key-value latent norm", "rkv"),
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
    *scores(),
    *softmax(),
    *weighted_sum(),
    fused(),
    *_output_projection(),
    *second_branch(residual_sum("attention residual", "attention", "L")),
    *norms("attention norm", "attention", "L", "post", beside=" + u*B*T*d"),
)
