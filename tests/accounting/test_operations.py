import itertools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from core.accounting import OPERATIONS, forward_flop, parameters, training_flop
from core.accounting.operations import evaluate
from core.config import ModelConfig
from core.model import functional
from core.model.transformer import Transformer
from core.presets import PRESETS, preset

GRID = [
    ModelConfig(
        vocab_size=53,
        context_length=17,
        d_model=num_heads * d_head,
        num_layers=num_layers,
        num_heads=num_heads,
        d_ff=37,
        feed_forward=feed_forward,
        tie_embeddings=tied,
        attention="written_out",
    )
    for (num_layers, num_heads, d_head), feed_forward, tied in itertools.product(
        [(1, 1, 2), (2, 3, 10), (3, 5, 14)], ["swiglu", "silu"], [False, True]
    )
]


def name(model):
    tied = "tied" if model.tie_embeddings else "untied"
    return f"{model.num_layers}x{model.num_heads}x{model.d_head}-{model.feed_forward}-{tied}"


def held(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("model", GRID, ids=name)
def test_parameters_are_those_of_the_built_model(model):
    assert parameters(model) == held(Transformer(model))


@pytest.mark.parametrize("name", PRESETS)
def test_parameters_of_every_preset(name):
    model = preset(name).model
    with torch.device("meta"):
        built = Transformer(model)
    assert parameters(model) == held(built)


@pytest.mark.parametrize(("name", "expected"), [("tinystories", 22_696_448), ("cs336-gpt2-xl", 1_635_537_600)])
def test_parameters_in_numbers(name, expected):
    assert parameters(preset(name).model) == expected


def test_a_tied_head_saves_one_table():
    untied, tied = GRID[0], GRID[1]
    assert parameters(untied) - parameters(tied) == 53 * 2
    assert forward_flop(untied) == forward_flop(tied)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("small", 291_648_307_200),
        ("medium", 826_951_073_792),
        ("large", 1_774_570_700_800),
        ("xl", 3_506_703_564_800),
    ],
)
def test_forward_flop_in_numbers(size, expected):
    model = preset(f"cs336-gpt2-{size}").model
    assert forward_flop(model) == expected
    assert forward_flop(model, batch_size=7, seq=1024) == 7 * expected
    assert training_flop(model, batch_size=7) == 3 * 7 * expected


@pytest.mark.parametrize("model", [GRID[0], *GRID[4:8], GRID[11]], ids=name)
def test_flop_are_those_torch_counts(model):
    batch_size, seq = 2, 11
    ids = torch.zeros(batch_size, seq, dtype=torch.long)
    built = Transformer(model)
    forward, backward = FlopCounterMode(display=False), FlopCounterMode(display=False)
    with forward:
        loss = functional.cross_entropy(built(ids), ids).mean()
    with backward:
        loss.backward()
    assert forward.get_total_flops() == forward_flop(model, batch_size, seq)
    assert backward.get_total_flops() == 2 * forward_flop(model, batch_size, seq)
    assert training_flop(model, batch_size, seq) == forward.get_total_flops() + backward.get_total_flops()


def test_without_a_length_the_full_context_is_counted():
    assert forward_flop(GRID[4], 3) == forward_flop(GRID[4], 3, 17)


@pytest.mark.parametrize("model", [GRID[4], GRID[7]], ids=name)
def test_each_rows_parameters_are_those_of_the_module_of_that_name(model):
    built = dict(Transformer(model).named_parameters())
    for row in OPERATIONS:
        leaf = {"attention norm": "attention_norm", "feed-forward norm": "feed_forward_norm"}.get(row.name, row.name)
        leaf = leaf.replace("final norm", "final_norm")
        found = sum(tensor.numel() for path, tensor in built.items() if leaf in path.split("."))
        times = model.num_layers if row.per_layer else 1
        counted = times * evaluate(row.parameters, model, 1, 1) if row.applies(model) else 0
        assert counted == found, row.name
