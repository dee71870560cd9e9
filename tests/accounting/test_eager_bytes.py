"""Bytes that torch's kernels read and write: equal bytes, counted by a dispatch mode."""

import pytest
import torch
from grid import PRECISIONS, SIZES, MovedBytes, batch, costs_of, label, training_loss, variants

from core.accounting import account
from core.config import ModelConfig
from core.model.transformer import Transformer
from core.presets import PRESETS, preset


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("model", variants(), ids=label)
def test_eager_bytes(model, precision):
    built, costs = Transformer(model), costs_of(model, precision)
    inputs = batch()
    with MovedBytes() as forward, torch.no_grad():
        training_loss(built, *inputs, autocast=PRECISIONS[precision])
    with MovedBytes() as step:  # the head's backward is made in the forward, and counted as the backward that it is
        training_loss(built, *inputs, autocast=PRECISIONS[precision]).backward()
    in_step = [row for row in costs.rows if row.group != "update"]
    assert sum(row.total("forward_eager_bytes") for row in in_step) == forward.bytes
    assert sum(row.total("backward_eager_bytes") for row in in_step) == step.bytes - forward.bytes


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("chunk", [1, 5, 11, 22, 101])
def test_eager_bytes_of_a_chunked_loss(chunk, precision):
    model = ModelConfig(num_heads=6, **SIZES)
    built, costs = Transformer(model), costs_of(model, precision, loss_chunk=chunk)
    inputs = batch()
    with MovedBytes() as step:
        training_loss(built, *inputs, autocast=PRECISIONS[precision], chunk=chunk).backward()
    in_step = [row for row in costs.rows if row.group != "update"]
    assert sum(row.total(f"{phase}_eager_bytes") for row in in_step for phase in ("forward", "backward")) == step.bytes


def test_an_ideal_kernel_never_moves_more():
    for name in PRESETS:
        for precision in PRECISIONS:
            for row in account(preset(name).model, seq=128, precision=precision).rows:
                for phase in ("forward", "backward"):
                    ideal, eager = (row.once(f"{phase}_{kind}_bytes") for kind in ("ideal", "eager"))
                    assert ideal <= eager, (name, precision, row.name, phase)
