"""What autograd keeps: equal bytes, counted by torch's own hooks."""

import dataclasses

import pytest
import torch
from grid import BATCH, PRECISIONS, SIZES, costs_of, label, variants

from core.config import ModelConfig
from core.experiments.memory_measure import kept_bytes, measure_saved
from core.model import functional
from core.model.transformer import TransformerBlock


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("model", variants(), ids=label)
def test_saved_bytes_of_a_model_with_its_loss(model, precision):
    assert costs_of(model, precision).saved_bytes == measure_saved(model, BATCH, precision=precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("model", [m for m in variants() if m.feed_forward == "swiglu"][::3], ids=label)
def test_saved_bytes_of_a_block(model, precision):
    block = TransformerBlock(model)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x = (
        torch.randn(BATCH, model.context_length, model.d_model, requires_grad=True) * 1
    )  # not a leaf: autocast would keep a leaf's cast
    angles = None
    if model.positions == "rope":
        angles = torch.stack(
            functional.rotary_angles(torch.arange(model.context_length), model.d_head, 1e4, torch.float32), dim=-1
        )

    def run():
        with torch.autocast("cpu", torch.bfloat16, enabled=PRECISIONS[precision]):
            return block(x, angles)

    costs = costs_of(model, precision)
    expected = sum(row.once("saved_bytes") for row in costs.rows if row.operation.in_block)
    assert kept_bytes(run, [*block.parameters(), *([] if angles is None else [angles])]) == expected


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("attention", ["written_out", "sdpa"])
def test_saved_bytes_with_checkpointing(attention, precision):
    model = ModelConfig(num_heads=6, attention=attention, **SIZES)
    costs = costs_of(model, precision, checkpointing=True)
    assert costs.saved_bytes == measure_saved(model, BATCH, precision=precision, checkpointing=True)
    assert costs.saved_bytes < costs_of(model, precision).saved_bytes


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("chunk", [1, 5, 22, 101])
def test_saved_bytes_do_not_depend_on_the_losss_chunk(chunk, precision):
    model = ModelConfig(num_heads=6, **SIZES)
    measured = measure_saved(model, BATCH, precision=precision, loss_chunk=chunk)
    assert costs_of(model, precision, loss_chunk=chunk).saved_bytes == measured
    assert measured == costs_of(model, precision).saved_bytes


def test_saved_bytes_of_another_length_and_type():
    model = ModelConfig(num_heads=6, attention="written_out", **SIZES)
    from core.accounting import account

    for seq, precision in ((5, "float32"), (7, "float64")):
        assert account(model, batch_size=3, seq=seq, precision=precision).saved_bytes == measure_saved(
            model, 3, seq, precision
        )


def test_flash_keeps_what_the_fused_kernel_keeps():
    fused = ModelConfig(num_heads=6, **SIZES)
    flash = dataclasses.replace(fused, attention="flash")
    assert costs_of(flash).saved_bytes == costs_of(fused).saved_bytes
