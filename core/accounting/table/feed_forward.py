"""Rows of the feed-forward, dense or a mixture of experts."""

from collections.abc import Iterator

from core.accounting.operations import Operation
from core.accounting.table.parts import linear, linear_backward_live, norms, residual_sum, second_branch
from core.config import ModelConfig


def _activation(
    kind: str, forward: str, forward_eager: str, backward_eager: str, saved: str, backward_live: str, **cells
) -> tuple[Operation, Operation]:
    """The function between up_proj and down_proj; reads one tensor a matrix before it."""
    inputs = 2 if kind == "swiglu" else 1
    row = Operation(
        name="activation",
        group="feed-forward",
        times="D",
        shape="B, T, f",
        elementwise_flop=forward,
        forward_ideal_bytes=f"{inputs + 1}*c*B*T*f",
        forward_eager_bytes=forward_eager,
        backward_ideal_bytes=f"{2 * inputs + 1}*c*B*T*f",
        backward_eager_bytes=backward_eager,
        saved_bytes=saved,
        forward_live_bytes="c*B*T*f + u*B*T*d",
        backward_live_bytes=f"s*B*T*d + {backward_live}",
        applies=lambda model: _dense(model) and model.feed_forward == kind,
        **cells,
    )
    return second_branch(row)


def _dense(model: ModelConfig) -> bool:
    return model.experts is None or model.experts.num_dense_layers > 0


def _gated(model: ModelConfig) -> bool:
    return model.feed_forward == "swiglu"


def _mixed(model: ModelConfig) -> bool:
    return model.experts is not None


def _gated_projections() -> Iterator[Operation]:
    """gate_proj and up_proj, which both read x: backward, the gradients of x add up, that of up_proj first."""
    cells = {"group": "feed-forward", "times": "D", "applies": lambda model: _dense(model) and _gated(model)}

    def live(stream: str, **options: bool) -> str:
        return f"{stream} + {linear_backward_live('B*T*d', 'd*f', 'B*T*f', **options)}"

    yield from second_branch(
        linear(
            "gate_proj",
            "d",
            "f",
            backward_eager=" + 3*s*B*T*d",
            backward_live_bytes=live("2*s*B*T*d", sums=True),
            **cells,
        ),
        backward_live_bytes=live("s*B*T*d", sums=True),
    )
    yield from second_branch(
        linear(
            "up_proj",
            "d",
            "f",
            again=True,
            forward_live_bytes="2*c*B*T*f + u*B*T*d",
            backward_live_bytes=live("s*B*T*d + c*B*T*f"),
            **cells,
        ),
    )


def _expert(name: str, d_in: str, d_out: str, **cells) -> Operation:
    """One matrix of all experts of a layer; a token meets those it is sent to, and the shared ones.

    Of the routed ones as many are read as tokens can be sent to: in decoding that is few.
    """
    weight = f"{d_in}*{d_out}"
    tokens, moved = f"B*T*(A + X)*{weight}", f"B*T*(A + X)*({d_in} + {d_out}) + (min(E, B*T*A) + X)*{weight}"
    return Operation(
        name=name,
        group="feed-forward",
        times="L - D",
        matrices=("E + X", d_out, d_in),
        shape=f"B, T, A + X, {d_out}",
        parameters=f"(E + X)*{weight}",
        active_parameters=f"(A + X)*{weight}",
        forward_flop=f"2*{tokens}",
        backward_flop=f"4*{tokens}",
        forward_ideal_bytes=f"c*({moved})",
        forward_eager_bytes=f"c*({moved}) + a*(E + X)*{weight}",
        backward_ideal_bytes=f"2*c*({moved})",
        backward_eager_bytes=f"2*c*({moved}) + a*(E + X)*{weight}",
        saved_bytes=f"c*B*T*(A + X)*{d_in} + q*(E + X)*{weight}",
        forward_live_bytes=f"c*B*T*(A + X)*{d_out} + u*B*T*d",
        backward_live_bytes=f"s*B*T*d + c*({moved})",
        **{"applies": _mixed, **cells},
    )


FEED_FORWARD = (
    *norms("feed-forward norm", "feed-forward", "L", "pre"),
    *_gated_projections(),
    *second_branch(
        linear(
            "up_proj",
            "d",
            "f",
            group="feed-forward",
            times="D",
            applies=lambda model: _dense(model) and not _gated(model),
        ),
    ),
    *_activation(
        "swiglu",
        "6*B*T*f",
        "8*c*B*T*f",
        "17*c*B*T*f",
        "2*c*B*T*f",
        "3*c*B*T*f",
        note="kept: gate and up",
    ),
    *_activation(
        "silu", "5*B*T*f", "5*c*B*T*f", "12*c*B*T*f", "2*c*B*T*f", "3*c*B*T*f", note="kept: input and sigmoid"
    ),
    *_activation(
        "relu2",
        "2*B*T*f",
        "4*c*B*T*f",
        "(10*c + 2)*B*T*f",
        "2*c*B*T*f",
        "4*c*B*T*f",
        note="kept: input and what is left",
    ),
    *_activation("gelu", "8*B*T*f", "2*c*B*T*f", "3*c*B*T*f", "c*B*T*f", "2*c*B*T*f", note="one fused kernel"),
    *second_branch(
        linear(
            "down_proj",
            "f",
            "d",
            cast=False,
            group="feed-forward",
            times="D",
            forward_live_bytes="(c + s + u)*B*T*d",
            backward_live_bytes="max((s + q)*B*T*d + c*(B*T*f + d*f), s*B*T*d + u*d*f)",
            applies=_dense,
        ),
    ),
    Operation(
        name="router",
        group="feed-forward",
        times="L - D",
        shape="B, T, E",
        parameters="d*E",
        forward_flop="2*B*T*d*E",
        backward_flop="4*B*T*d*E",
        elementwise_flop="5*B*T*E",
        forward_ideal_bytes="s*(B*T*d + d*E + B*T*E)",
        forward_eager_bytes="s*(B*T*d + d*E + 5*B*T*E)",
        backward_ideal_bytes="s*(2*B*T*d + 2*d*E + B*T*E)",
        backward_eager_bytes="s*(2*B*T*d + 2*d*E + 8*B*T*E)",
        saved_bytes="s*(B*T*d + B*T*E) + 8*B*T*A",
        forward_live_bytes="2*s*B*T*E",
        backward_live_bytes="s*(2*B*T*d + 2*B*T*E + d*E)",
        note="kept in full precision",
        applies=_mixed,
    ),
    Operation(
        name="router bias",
        group="feed-forward",
        times="L - D",
        shape="E",
        parameters="E",
        note="steers the choice of experts only; no gradient reaches it",
        applies=lambda model: _mixed(model) and model.experts.router_bias,
    ),
    _expert("experts gate_proj", "d", "fe", applies=lambda model: _mixed(model) and _gated(model)),
    _expert("experts up_proj", "d", "fe"),
    Operation(
        name="experts activation",
        group="feed-forward",
        times="L - D",
        shape="B, T, A + X, fe",
        elementwise_flop="6*B*T*(A + X)*fe",
        forward_ideal_bytes="3*c*B*T*(A + X)*fe",
        forward_eager_bytes="8*c*B*T*(A + X)*fe",
        backward_ideal_bytes="5*c*B*T*(A + X)*fe",
        backward_eager_bytes="17*c*B*T*(A + X)*fe",
        saved_bytes="2*c*B*T*(A + X)*fe",
        forward_live_bytes="c*B*T*(A + X)*fe + u*B*T*d",
        backward_live_bytes="s*B*T*d + 3*c*B*T*(A + X)*fe",
        applies=_mixed,
    ),
    _expert("experts down_proj", "fe", "d"),
    Operation(
        name="experts sum",
        group="feed-forward",
        times="L - D",
        shape="B, T, d",
        elementwise_flop="2*B*T*(A + X)*d",
        forward_ideal_bytes="c*(B*T*(A + X)*d + B*T*d)",
        forward_eager_bytes="c*(B*T*(A + X)*d + B*T*d)",
        backward_ideal_bytes="c*(B*T*(A + X)*d + B*T*d)",
        backward_eager_bytes="c*(B*T*(A + X)*d + B*T*d)",
        saved_bytes="c*B*T*A*d",
        forward_live_bytes="(c + s)*B*T*d",
        backward_live_bytes="s*B*T*d + c*B*T*(A + X)*d",
        note="each weighed by the router",
        applies=_mixed,
    ),
    *second_branch(residual_sum("feed-forward residual", "feed-forward", "L"), beside=2),
    *norms("feed-forward norm", "feed-forward", "L", "post", beside=" + 2*u*B*T*d"),
)
