"""The table of rotary angles: formed once, exact in every type, as long as need be. Activation checkpointing."""

import copy

import pytest
import torch
from tiny_model import CONFIG, IDS, IMPLEMENTATIONS, SEQ, VARIANTS, build

from core.model import functional
from core.model.linear_cross_entropy import linear_cross_entropy
from core.model.transformer import Transformer


def expected(length, dtype):
    return torch.stack(functional.rotary_angles(torch.arange(length), CONFIG.d_head, CONFIG.rope_theta, dtype), dim=-1)


def test_a_conversion_forms_it_anew_instead_of_rounding_twice():
    model = Transformer(CONFIG)
    assert torch.equal(model.rotary_table, expected(CONFIG.context_length, torch.float32))
    for dtype in (torch.bfloat16, torch.float64, torch.float32):
        model.to(dtype)
        assert torch.equal(model.rotary_table, expected(CONFIG.context_length, dtype))


def test_it_grows_with_the_sequence_and_does_not_shrink():
    model = build()
    with torch.no_grad():
        short = model(IDS)
        model(IDS.repeat(1, 3))
        assert torch.equal(model.rotary_table, expected(3 * SEQ, torch.float64))
        assert torch.equal(model(IDS), short)
    assert len(model.rotary_table) == 3 * SEQ > CONFIG.context_length


def test_it_is_no_part_of_a_checkpoint():
    model = build()
    assert "rotary_table" not in model.state_dict()
    other = build(seed=5)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(other(IDS), model(IDS))
        assert torch.equal(copy.deepcopy(model)(IDS), model(IDS))


def test_a_model_without_positions_has_none():
    assert Transformer(CONFIG).rotary_table is not None
    assert build(positions="none").rotary_table is None


def test_a_model_without_storage_is_given_some():
    with torch.device("meta"):
        model = Transformer(CONFIG)
    assert model.rotary_table.device.type == "meta"
    model.to_empty(device="cpu")
    assert torch.equal(model.rotary_table, expected(CONFIG.context_length, torch.float32))


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("attention", IMPLEMENTATIONS)
def test_activation_checkpointing_changes_no_bit(changes, attention):
    def values(checkpointing):
        model = build(attention=attention, **changes).float()
        model.activation_checkpointing = checkpointing
        objective, _ = linear_cross_entropy(model.hidden(IDS), model.lm_head.weight, IDS.flip(0))
        objective.backward()
        return [objective.detach(), *(parameter.grad for parameter in model.parameters())]

    assert all(torch.equal(*pair) for pair in zip(values(False), values(True), strict=True))


def test_blocks_run_again_in_training_alone():
    model = build()
    runs = []
    model.blocks[0].register_forward_pre_hook(lambda *_: runs.append(1))
    model.activation_checkpointing = True

    def count(forward):
        runs.clear()
        forward()
        return len(runs)

    def train():
        model(IDS).sum().backward()

    assert count(train) == 2
    with torch.no_grad():
        assert count(lambda: model(IDS)) == 1
    model.eval()
    assert count(train) == 1
