"""Configurations as plain dictionaries and JSON, and back."""

import dataclasses
import json
import math

import pytest

from core.config import (
    DataConfig,
    ExpertsConfig,
    LatentConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    ScheduleConfig,
    canonical_json,
    from_dict,
    to_dict,
    with_fields,
)
from core.presets import PRESETS, preset

MODEL = ModelConfig(vocab_size=53, context_length=13, d_model=30, num_layers=2, num_heads=3, d_ff=37)
EXPERTS = ExpertsConfig(num_experts=7, experts_per_token=2, d_ff=11, num_shared=1, router_bias=True)
LATENT = LatentConfig(query_rank=17, key_value_rank=11, d_nope=5, d_rope=6, d_value=7)
RUN = RunConfig(name="a", model=MODEL, data=DataConfig(dataset="stories"), batch_size=7, num_steps=101)

CONFIGS = {
    "run": RUN,
    "grouped": dataclasses.replace(RUN, model=dataclasses.replace(MODEL, num_kv_heads=1, head_dim=4)),
    "experts": dataclasses.replace(RUN, model=dataclasses.replace(MODEL, experts=EXPERTS)),
    "experts and latent": dataclasses.replace(RUN, model=dataclasses.replace(MODEL, experts=EXPERTS, latent=LATENT)),
    "other betas": dataclasses.replace(RUN, optimizer=OptimizerConfig(betas=(0.5, 0.75))),
    "other schedule": dataclasses.replace(RUN, schedule=ScheduleConfig(kind="wsd", warmup_steps=3, decay_steps=5)),
    "model alone": dataclasses.replace(MODEL, latent=LATENT),
    "part alone": EXPERTS,
    **{f"preset {name}": preset(name) for name in PRESETS},
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_from_dict_is_the_inverse_of_to_dict(config):
    values = to_dict(config)
    assert values == json.loads(canonical_json(config))
    again = from_dict(type(config), values)
    assert again == config
    assert canonical_json(again) == canonical_json(config)
    assert values == to_dict(config)  # what it was given is left as it was


def test_what_has_a_default_may_be_missing():
    assert from_dict(
        RunConfig,
        {
            "name": "a",
            "model": {
                "vocab_size": 53, "context_length": 13, "d_model": 30, "num_layers": 2, "num_heads": 3, "d_ff": 37,
                "experts": {"num_experts": 7, "experts_per_token": 2, "d_ff": 11},
            },
            "data": {"dataset": "stories"},
            "batch_size": 7,
            "num_steps": 101,
        },
    ) == dataclasses.replace(
        RUN,
        model=dataclasses.replace(MODEL, experts=ExpertsConfig(num_experts=7, experts_per_token=2, d_ff=11)),
    )  # fmt: skip


def without(values, *path):
    *groups, name = path
    inner = values
    for group in groups:
        inner = inner[group]
    del inner[name]
    return values


def with_value(values, value, *path):
    *groups, name = path
    inner = values
    for group in groups:
        inner = inner[group]
    inner[name] = value
    return values


NESTED = CONFIGS["experts and latent"]
UNKNOWN = {"depth": ("depth",), "model.depth": ("model", "depth"), "model.latent.rank": ("model", "latent", "rank")}
UNKNOWN |= {"optimizer.momentum": ("optimizer", "momentum"), "model.experts.top_k": ("model", "experts", "top_k")}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_field_that_does_not_exist_is_named_in_full(name):
    with pytest.raises(ValueError, match=rf"^there is no field '{name}' \(fields: ") as error:
        from_dict(RunConfig, with_value(to_dict(NESTED), 3, *UNKNOWN[name]))
    group = NESTED
    for part in UNKNOWN[name][:-1]:
        group = getattr(group, part)
    names = ", ".join(field.name for field in dataclasses.fields(group))
    assert str(error.value).endswith(f"(fields: {names})")


REQUIRED = [
    *(("name",), ("model",), ("data",), ("batch_size",), ("num_steps",), ("data", "dataset")),
    *(("model", name) for name in ("vocab_size", "context_length", "d_model", "num_layers", "num_heads", "d_ff")),
    *(("model", "experts", name) for name in ("num_experts", "experts_per_token", "d_ff")),
    *(("model", "latent", name) for name in ("query_rank", "key_value_rank", "d_nope", "d_rope", "d_value")),
]


@pytest.mark.parametrize("path", REQUIRED, ids=".".join)
def test_a_missing_field_is_named_in_full(path):
    with pytest.raises(ValueError, match=rf"^{'.'.join(path)} is missing$"):
        from_dict(RunConfig, without(to_dict(NESTED), *path))


@pytest.mark.parametrize("path", [("model",), ("model", "experts"), ("optimizer",)], ids=".".join)
@pytest.mark.parametrize("value", [3, "big", [1, 2], True])
def test_a_group_is_fields_and_values(path, value):
    with pytest.raises(ValueError, match=r"fields and values were expected$") as error:
        from_dict(RunConfig, with_value(to_dict(NESTED), value, *path))
    assert str(error.value).startswith(f"{'.'.join(path)} is {value!r}: ")


@pytest.mark.parametrize("values", [None, 3, [("name", "a")]])
def test_a_configuration_is_fields_and_values(values):
    with pytest.raises(ValueError, match=r"fields and values were expected$") as error:
        from_dict(RunConfig, values)
    assert str(error.value).startswith(f"RunConfig is {values!r}: ")


WRONG = {
    "num_steps is '5': it must be of type int": ("5", "num_steps"),
    "d_ff is 2.0: it must be of type int": (2.0, "model", "d_ff"),
    "num_kv_heads is 'all': it must be of type int": ("all", "model", "num_kv_heads"),
    "rope_theta is 'wide': it must be finite": ("wide", "model", "rope_theta"),
    "rope_theta is inf: it must be finite": (math.inf, "model", "rope_theta"),
    "bias is 1: it must be of type bool": (1, "model", "bias"),
    "num_experts is None: it must be of type int": (None, "model", "experts", "num_experts"),
    "experts_per_token 8 exceeds num_experts 7": (8, "model", "experts", "experts_per_token"),
    "model is None: it must be of type ModelConfig": (None, "model"),
    "betas is (0.5, 'x'): it must be finite": ([0.5, "x"], "optimizer", "betas"),
    "betas is (0.5,): two numbers from 0 up to, but not including, 1": ([0.5], "optimizer", "betas"),
    "kind is 'step': it must be cosine or linear or wsd or constant": ("step", "schedule", "kind"),
    "dataset is '../x': it must be a plain name, not a path, and not begin with a dot": ("../x", "data", "dataset"),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_value_that_is_not_of_its_fields_type_is_said(message):
    value, *path = WRONG[message]
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the message is compared below)
        from_dict(RunConfig, with_value(to_dict(NESTED), value, *path))
    assert str(error.value) == message


@pytest.mark.parametrize("name", ["rope_theta", "norm_eps"])
def test_a_whole_number_too_large_for_a_float_is_said(name):
    with pytest.raises(ValueError, match=rf"^{name} is 1000.*: it must be finite$"):
        dataclasses.replace(MODEL, **{name: 10**400})


def test_with_fields_replaces_by_dotted_names():
    changed = with_fields(
        NESTED,
        {
            "model.experts.d_ff": 5,
            "model.latent.d_rope": 8,
            "model.d_ff": 41,
            "seed": 3,
            "model.experts.num_experts": 9,
        },
    )
    experts = dataclasses.replace(NESTED.model.experts, d_ff=5, num_experts=9)
    latent = dataclasses.replace(NESTED.model.latent, d_rope=8)
    assert changed == dataclasses.replace(
        NESTED, seed=3, model=dataclasses.replace(NESTED.model, d_ff=41, experts=experts, latent=latent)
    )
    assert with_fields(NESTED, {}) == NESTED
    assert with_fields(NESTED, {"model.experts": None, "model.latent": None}) == RUN
    # Several that only fit together: neither alone is allowed.
    assert with_fields(MODEL, {"d_model": 35, "num_heads": 35, "positions": "none"}).d_head == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("depth", "there is no field 'depth'"),
        ("model.depth", "there is no field '.*depth'"),
        ("model.experts.top_k", "there is no field '.*top_k'"),
        ("model.d_ff.width", "there is no field '.*width'"),
        ("model.latent.d_rope", "latent.d_rope is given, but latent is None"),
    ],
)
def test_with_fields_names_what_is_not_there(name, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        with_fields(CONFIGS["experts"], {name: 3})
