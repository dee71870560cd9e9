"""FLOPs: equal integers with torch's counter, and the numbers of textbooks."""

import pytest
from grid import BATCH, batch, costs_of, label, training_loss, variants
from torch.utils.flop_counter import FlopCounterMode

from core.accounting import account, forward_flop, training_step_flop
from core.model import functional
from core.model.transformer import Transformer
from core.presets import PRESETS, preset

GPT2 = {"small": 291_648_307_200, "medium": 826_951_073_792, "large": 1_774_570_700_800, "xl": 3_506_703_564_800}


@pytest.mark.parametrize("model", variants("written_out"), ids=label)
def test_flop_are_those_torch_counts(model):
    built, costs = Transformer(model), costs_of(model)
    with FlopCounterMode(display=False) as forward:
        inputs, targets = batch()
        loss = functional.cross_entropy(built(inputs), targets).mean()
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    assert costs.forward_flop == forward.get_total_flops()
    assert costs.total("backward_flop") == backward.get_total_flops()
    assert costs.training_step_flop == forward.get_total_flops() + backward.get_total_flops()
    for chunk in (None, 5):
        with FlopCounterMode(display=False) as step:
            training_loss(built, *batch(), chunk=chunk).backward()
        assert (
            step.get_total_flops() == costs_of(model, loss_chunk=chunk).training_step_flop == costs.training_step_flop
        )


def test_implementations_of_attention_do_the_same_work():
    for written_out, fused in zip(variants("written_out"), variants("sdpa"), strict=True):
        assert forward_flop(written_out, 7) == forward_flop(fused, 7)


@pytest.mark.parametrize("size", GPT2)
def test_forward_flop_of_gpt2s_shapes(size):
    model = preset(f"cs336-gpt2-{size}").model
    assert forward_flop(model) == GPT2[size]
    assert forward_flop(model, batch_size=7, seq=1024) == 7 * GPT2[size]
    assert training_step_flop(model, batch_size=7) == 3 * 7 * GPT2[size]


def test_the_textbooks_xl_on_a_long_context_and_by_the_rule_of_thumb():
    model = preset("cs336-gpt2-xl").model
    assert float(f"{forward_flop(model, seq=16_384):.3g}") == 1.33e14
    costs = account(model, batch_size=1024)
    assert costs.tokens == 1_048_576
    assert costs.training_step_flop_6nd == 6 * 1_635_537_600 * 1_048_576
    assert float(f"{costs.training_step_flop_6nd:.4g}") == 1.029e16


@pytest.mark.parametrize("name", ["tinystories", "llama-3-8b", "qwen3-30b-a3b", "deepseek-v3"])
@pytest.mark.parametrize(("seq", "keys"), [(1, 1), (13, 13), (1, 17), (5, 17)])
def test_the_causal_convention_leaves_out_the_masked_pairs(name, seq, keys):
    model = preset(name).model
    costs = account(model, batch_size=3, seq=seq, keys=keys)
    allowed = sum(key <= keys - seq + query for query in range(seq) for key in range(keys))
    pairs = {"attention scores", "attention weighted sum", "attention"}
    for cell in ("forward_flop", "backward_flop"):
        within = sum(row.total(cell) for row in costs.rows if row.name in pairs)
        assert within > 0
        rest = costs.total(cell) - within
        assert costs.total(f"causal_{cell}") == rest + within * allowed // (seq * keys)


def test_the_hardware_convention_adds_what_is_computed_twice():
    for model in (variants("written_out")[0], variants("sdpa")[0]):
        costs = costs_of(model)
        scores = 2 * BATCH * model.num_heads * model.d_head * model.context_length**2 * model.num_layers
        again = 0 if model.attention == "written_out" else scores
        assert costs.training_step_flop_hardware == costs.training_step_flop + again
        twice = costs_of(model, checkpointing=True)
        head = 2 * BATCH * model.context_length * model.d_model * model.vocab_size
        assert twice.training_step_flop == costs.training_step_flop
        blocks = costs.forward_flop - head
        assert twice.training_step_flop_hardware == costs.training_step_flop + again + blocks


def test_backward_is_twice_forward_everywhere():
    for name in PRESETS:
        for row in account(preset(name).model, seq=64).rows:
            assert row.once("backward_flop") == 2 * row.once("forward_flop"), (name, row.name)
