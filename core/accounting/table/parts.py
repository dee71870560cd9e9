"""Rows that occur at several places of the table: products with a weight, norms, residual sums."""

from core.accounting.operations import Operation, with_cells
from core.config import ModelConfig


def linear(name: str, d_in: str, d_out: str, *, again: bool = False, cast: bool = True, **cells) -> Operation:
    """A product with a weight of `d_out d_in`.

    Args:
        name: Of the row.
        d_in: Width of its input.
        d_out: Width of its output.
        again: Its input is that of the row before: one tensor, kept once; but cast for each.
        cast: Its input is stored in full precision and cast under autocast; else it arrives in the product's type.
        cells: Further cells; `forward_eager` and `backward_eager` are added to those.
    """
    d_in_, d_out_ = (f"({width})" if "+" in width else width for width in (d_in, d_out))
    input_elements, weight, output = f"B*T*{d_in_}", f"{d_in_}*{d_out_}", f"B*T*{d_out_}"
    casts = f"a*({weight} + {input_elements})" if cast else f"a*{weight}"
    kept = f"{'q' if again else 'c'}*{input_elements} + q*{weight}"
    forward_extra, backward_extra = cells.pop("forward_eager", ""), cells.pop("backward_eager", "")
    moved = f"{input_elements} + {weight} + {output}"
    ours = {
        "matrices": ("1", d_out, d_in),
        "shape": f"B, T, {d_out}",
        "parameters": f"{weight} + b*{d_out_}",
        "forward_flop": f"2*{input_elements}*{d_out_}",
        "backward_flop": f"4*{input_elements}*{d_out_}",
        "elementwise_flop": f"b*{output}",
        "forward_ideal_bytes": f"c*({moved}) + b*c*{d_out_}",
        "forward_eager_bytes": f"c*({moved}) + {casts} + b*c*{d_out_}{forward_extra}",
        "backward_ideal_bytes": f"c*({moved} + {input_elements} + {weight}) + b*c*{d_out_}",
        "backward_eager_bytes": f"2*c*({moved}) + {casts} + b*c*({output} + {d_out_}){backward_extra}",
        "saved_bytes": kept,
        "forward_live_bytes": f"c*{output} + u*{input_elements}",
        "backward_live_bytes": f"s*B*T*d + {linear_backward_live(input_elements, weight, output, cast=cast)}",
    }
    return Operation(name=name, **{**ours, **cells})


def linear_backward_live(
    input_elements: str, weight: str, output: str, *, cast: bool = True, sums: bool = False, again: bool = False
) -> str:
    """What lives in a product's backward: three gradients; under autocast then those of weight and input in full size.

    With `sums` its input has a gradient already, and the sum of both is a tensor of its own, unless a cast has just
    made one to add to. What the product has kept is free by then, but `saved_bytes` counts it throughout.
    """
    moments = [f"c*({input_elements} + {weight} + {output})", f"u*{weight}"]
    if cast:
        moments.append(f"u*{input_elements} + (u - q)*{weight}")
    if sums:
        moments.append(f"(s - u)*({'2*' if again else ''}{input_elements} + {weight})")
    return f"max({', '.join(moments)})"


def norm_in_front(model: ModelConfig) -> bool:
    """Whether a branch reads the output of a norm, not the residual stream itself."""
    return model.norm_placement == "pre"


def second_branch(row: Operation, beside: int = 1, **cells) -> tuple[Operation, Operation]:
    """A row of the second half of a block, with a norm in front and without.

    Without, the block's input is held by the caller alone: under autocast products keep a cast of it, so that it is one
    tensor more. The same goes for the branch's input, once the branch is through.

    Args:
        row: With a norm in front.
        beside: How many of these tensors live besides.
        cells: Further cells of the row without.
    """
    live = f"{row.forward_live_bytes} + {beside}*u*B*T*d"
    return (
        with_cells(row, applies=lambda model: row.applies(model) and norm_in_front(model)),
        with_cells(
            row,
            applies=lambda model: row.applies(model) and not norm_in_front(model),
            **{"forward_live_bytes": live, **cells},
        ),
    )


def _rms_norm(name: str, group: str, times: str, **cells) -> Operation:
    """Norm, mean square, + eps, rsqrt, two products; kept: x and 1/rms."""
    return Operation(
        name=name,
        group=group,
        times=times,
        shape="B, T, d",
        parameters="d",
        elementwise_flop="4*B*T*d",
        forward_ideal_bytes="s*(2*B*T*d + d)",
        forward_eager_bytes="s*(5*B*T*d + 10*B*T + d)",
        backward_ideal_bytes="s*(3*B*T*d + 2*d)",
        backward_eager_bytes="s*(17*B*T*d + 10*B*T + 3*d)",
        saved_bytes="s*(B*T*d + B*T)",
        backward_live_bytes="3*s*B*T*d",
        **cells,
    )


def _layer_norm(name: str, group: str, times: str, **cells) -> Operation:
    return Operation(
        name=name,
        group=group,
        times=times,
        shape="B, T, d",
        parameters="d + b*d",
        elementwise_flop="7*B*T*d",
        forward_ideal_bytes="s*(2*B*T*d + d + b*d)",
        forward_eager_bytes="s*(2*B*T*d + 2*B*T + d + b*d)",
        backward_ideal_bytes="s*(3*B*T*d + 2*d + b*d)",
        backward_eager_bytes="s*(3*B*T*d + 2*B*T + 2*d + b*d)",
        saved_bytes="s*(B*T*d + 2*B*T)",
        backward_live_bytes="3*s*B*T*d",
        note="one fused kernel",
        **cells,
    )


def norms(name: str, group: str, times: str, placement: str, beside: str = "") -> tuple[Operation, Operation]:
    """Both kinds of norm at one place of the block, for models whose norms are placed there.

    Args:
        name: Of the rows.
        group: Of the rows.
        times: How often they occur.
        placement: The `norm_placement` of the models that have them.
        beside: Added to what lives in the forward.
    """

    def placed(kind: str):
        return lambda model: model.norm == kind and model.norm_placement == placement

    live = f"s*B*T*d{beside}"
    return (
        _rms_norm(name, group, times, forward_live_bytes=live, applies=placed("rms_norm")),
        _layer_norm(name, group, times, forward_live_bytes=live, applies=placed("layer_norm")),
    )


def residual_sum(name: str, group: str, times: str, **cells) -> Operation:
    """The sum x + f(x), the branch arriving in the product's type; backward, the gradients of both are added."""
    return Operation(
        name=name,
        group=group,
        times=times,
        shape="B, T, d",
        elementwise_flop="B*T*d",
        forward_ideal_bytes="(2*s + c)*B*T*d",
        forward_eager_bytes="(2*s + c)*B*T*d",
        backward_ideal_bytes="3*s*B*T*d",
        backward_eager_bytes="(3*s + a)*B*T*d",
        forward_live_bytes="(c + s + u)*B*T*d",
        backward_live_bytes="(s + q)*B*T*d",
        note="backward: the gradients of both branches are added",
        **cells,
    )
