"""Parameters: equal integers, of whole models and row by row."""

import dataclasses

import pytest
import torch
from grid import SIZES, label, variants

from core.accounting import account, operations, parameters
from core.config import ModelConfig
from core.model.transformer import Transformer, check_buildable
from core.presets import PRESETS, preset


def held(module):
    return sum(parameter.numel() for parameter in module.parameters())


def buildable(name):
    try:
        check_buildable(preset(name).model)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("model", variants(), ids=label)
def test_parameters_are_those_of_the_built_model(model):
    assert parameters(model) == held(Transformer(model))


def test_heads_of_the_models_own_width():
    sizes = {**SIZES, "head_dim": None, "d_model": 30}
    for num_heads, num_kv_heads in ((3, None), (5, None), (3, 1), (15, 5)):
        model = ModelConfig(num_heads=num_heads, num_kv_heads=num_kv_heads, **sizes)
        assert parameters(model) == held(Transformer(model))


@pytest.mark.parametrize("name", [name for name in PRESETS if buildable(name)])
def test_parameters_of_every_preset_that_can_be_built(name):
    model = preset(name).model
    with torch.device("meta"):
        assert parameters(model) == held(Transformer(dataclasses.replace(model, num_layers=1))) + (
            model.num_layers - 1
        ) * (
            parameters(dataclasses.replace(model, num_layers=2)) - parameters(dataclasses.replace(model, num_layers=1))
        )


@pytest.mark.parametrize(
    ("name", "expected"),
    [("tinystories", 22_696_448), ("cs336-gpt2-xl", 1_635_537_600), ("quickstart", 664_192)],
)
def test_parameters_in_numbers(name, expected):
    assert parameters(preset(name).model) == expected


@pytest.mark.parametrize("model", [variants()[0], variants()[5], variants("sdpa")[-1]], ids=label)
def test_each_rows_parameters_are_those_of_the_module_of_that_name(model):
    built = dict(Transformer(model).named_parameters())
    costs = account(model)
    assert {row.name for row in costs.rows if row.total("parameters")} != set()
    for row in costs.rows:
        if row.total("parameters"):
            leaf = row.name.replace(" ", "_").replace("-", "_")
            found = sum(tensor.numel() for path, tensor in built.items() if leaf in path.split("."))
            assert row.total("parameters") == found, row.name
    assert sum(row.total("parameters") for row in costs.rows) == sum(tensor.numel() for tensor in built.values())


def test_a_tied_head_saves_one_table():
    untied, tied = (ModelConfig(num_heads=6, tie_embeddings=tied, **SIZES) for tied in (False, True))
    assert parameters(untied) - parameters(tied) == 53 * 29
    assert account(untied).forward_flop == account(tied).forward_flop


def test_every_model_has_each_row_once():
    for name in PRESETS:
        names = [row.name for row in operations(preset(name).model)]
        assert len(names) == len(set(names)), name
