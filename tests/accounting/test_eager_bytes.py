"""Bytes that torch's kernels read and write: equal bytes, counted by a dispatch mode."""

import pytest
from grid import PRECISIONS, MovedBytes, batch, costs_of, label, training_loss, variants

from core.accounting import account
from core.model.transformer import Transformer
from core.presets import PRESETS, preset


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("model", variants(), ids=label)
def test_eager_bytes(model, precision):
    built, costs = Transformer(model), costs_of(model, precision)
    inputs = batch()
    with MovedBytes() as moved:
        training_loss(built, *inputs, autocast=PRECISIONS[precision]).backward()
    in_step = [row for row in costs.rows if row.group != "update"]
    assert sum(row.total("forward_eager_bytes") for row in in_step) == moved.forward
    assert sum(row.total("backward_eager_bytes") for row in in_step) == moved.backward


def test_an_ideal_kernel_never_moves_more():
    for name in PRESETS:
        for precision in PRECISIONS:
            for row in account(preset(name).model, seq=128, precision=precision).rows:
                for phase in ("forward", "backward"):
                    ideal, eager = (row.once(f"{phase}_{kind}_bytes") for kind in ("ideal", "eager"))
                    assert ideal <= eager, (name, precision, row.name, phase)
