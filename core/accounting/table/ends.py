"""Rows before and after the blocks: embedding, head, loss, and the update of the weights."""

from collections.abc import Iterator

from core.accounting.operations import Operation, with_cells
from core.accounting.table.parts import linear, norms

_LOOKUP = Operation(
    name="embedding",
    group="embedding",
    times="1",
    shape="B, T, d",
    parameters="V*d",
    forward_ideal_bytes="2*s*B*T*d + 8*B*T",
    forward_eager_bytes="2*s*B*T*d + 8*B*T",
    backward_ideal_bytes="s*(B*T*d + V*d) + 8*B*T",
    backward_eager_bytes="s*(B*T*d + 3*V*d) + 8*B*T",
    saved_bytes="8*B*T",
    forward_live_bytes="s*B*T*d",
    backward_live_bytes="s*(B*T*d + V*d)",
    note="a lookup: only the rows of these ids are read; its gradient is the whole table",
    applies=lambda model: not model.tie_embeddings,
)
EMBEDDING = (
    _LOOKUP,
    with_cells(
        _LOOKUP,
        note="a lookup; its gradient is the whole table, to which the head's is added",
        applies=lambda model: model.tie_embeddings,
    ),
    Operation(
        name="positions",
        group="embedding",
        times="1",
        shape="B, T, d",
        parameters="C*d",
        elementwise_flop="B*T*d",
        forward_ideal_bytes="s*(2*B*T*d + T*d)",
        forward_eager_bytes="s*(2*B*T*d + 3*T*d)",
        backward_ideal_bytes="s*(B*T*d + C*d)",
        backward_eager_bytes="s*(B*T*d + 3*C*d)",
        saved_bytes="8*T",
        applies=lambda model: model.positions == "learned",
    ),
    Operation(
        name="rotary angles",
        group="embedding",
        times="1",
        shape="T, dk",
        saved_bytes="s*max(C, T)*dk",
        note="a table of cosines and sines, formed once in float64 for all positions, shared by all layers",
        applies=lambda model: model.positions == "rope" and model.latent is None,
    ),
    Operation(
        name="rotary angles",
        group="embedding",
        times="1",
        shape="T, dr",
        elementwise_flop="2*T*dr",
        forward_ideal_bytes="s*T*dr",
        forward_eager_bytes="s*T*dr",
        saved_bytes="s*T*dr",
        applies=lambda model: model.latent is not None,
    ),
)

_LATER = "min((B*T - 1)//K, 1)"
"""1 if logits come in several chunks, else 0."""
_FIRST = f"(1 - {_LATER})"
_BLOCK = "V*min(K, max(1, 262144//V))"
"""Logits that are worked on at once on a CPU, in whole rows: `core.model.linear_cross_entropy.BLOCK_NUMEL`."""
_CASTS = "q*V*d + q*K*d"
"""Bytes of the head's and of a chunk's input's casts."""


def _head() -> Iterator[Operation]:
    """The output head. Its gradients are formed chunk by chunk in the forward, kept, and scaled in the backward.

    Here they are counted as the backward that they are: its products are as many and as large, only earlier.
    """
    chunks, weight = "((B*T - 1)//K + 1)", "V*d"
    moved = f"B*T*d + {chunks}*{weight} + B*T*V"
    tied = {
        "name": "lm_head (tied)",
        "parameters": "0",
        "active_parameters": "0",
        "note": "the embedding table; backward, the gradients of its two uses are added",
    }
    for name, other, more in (("lm_head", {}, ""), ("lm_head (tied)", tied, f" + 3*s*{weight}")):
        yield with_cells(
            linear(
                name,
                "d",
                "V",
                group="output",
                times="1",
                saved_bytes=f"s*(B*T*d + {weight})",
                forward_live_bytes=f"max(s*B*T*d + {_CASTS} + c*K*V - s*{weight}, 0)",
                backward_live_bytes=f"s*(B*T*d + {weight})",
                note="logits of one chunk after the other; kept: the gradients of its input and weight",
                applies=lambda model, tie=bool(other): model.tie_embeddings == tie,
            ),
            forward_eager_bytes=f"c*({moved}) + a*({weight} + B*T*d) + b*c*V",
            backward_eager_bytes=(
                f"2*c*({moved}) + b*c*(B*T*V + V) + (2*s + c)*B*T*d + a*{weight} + ({chunks} - 1)*(2*s + c)*{weight}"
                f" + 2*s*(B*T*d + {weight}){more}"
            ),
            **other,
        )


OUTPUT = (
    *norms("final norm", "output", "1", "pre"),
    *_head(),
    Operation(
        name="loss",
        group="output",
        times="1",
        shape="B, T",
        elementwise_flop="5*B*T*V",
        forward_ideal_bytes="c*B*T*V + 8*B*T",
        forward_eager_bytes="(6*s + a)*B*T*V + 20*s*B*T + 8*B*T",
        backward_ideal_bytes="(c + s)*B*T*V + 8*B*T",
        backward_eager_bytes="(2*s + a + q)*B*T*V + 19*s*B*T + 8*B*T",
        forward_live_bytes=(
            f"s*B*T*d + {_CASTS} + c*K*V"
            f" + max(u*{_BLOCK}, c*K*d, {_FIRST}*s*V*d + (q + {_LATER}*(c - q + u))*V*d) - {_FIRST}*s*V*d"
        ),
        note="maximum, difference, exponential, sum, logarithm, lookup; then, in place of the logits, their gradient",
    ),
)

UPDATE = (
    Operation(
        name="gradient clipping",
        group="update",
        times="1",
        elementwise_flop="3*P",
        forward_ideal_bytes="3*s*P",
        forward_eager_bytes="3*s*P",
        note="each gradient is read for the norm, then read and written",
    ),
)
