import dataclasses
import json
import math

import pytest

from core.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    ScheduleConfig,
    canonical_json,
    config_id,
    to_dict,
)

MODEL = ModelConfig(vocab_size=53, context_length=13, d_model=30, num_layers=2, num_heads=3, d_ff=37)
OPTIMIZER = OptimizerConfig()
SCHEDULE = ScheduleConfig()
DATA = DataConfig(dataset="stories")
RUN = RunConfig(name="a", model=MODEL, data=DATA, batch_size=7, num_steps=101)

INVALID = [
    *((MODEL, field, value) for field in ("vocab_size", "context_length", "d_model") for value in (0, -3)),
    *((MODEL, field, value) for field in ("num_layers", "num_heads", "d_ff") for value in (0, -3)),
    (MODEL, "d_model", 31),
    (MODEL, "num_heads", 4),
    *((MODEL, field, value) for field in ("rope_theta", "norm_eps") for value in (0.0, -0.5, math.nan)),
    (MODEL, "feed_forward", "gelu"),
    (MODEL, "attention", "flash"),
    *((OPTIMIZER, field, value) for field in ("lr", "eps", "max_grad_norm") for value in (0.0, -0.5, math.nan)),
    (OPTIMIZER, "weight_decay", -0.5),
    (OPTIMIZER, "weight_decay", math.nan),
    *((OPTIMIZER, "betas", betas) for betas in [(1.0, 0.5), (0.5, 1.5), (-0.1, 0.5), (0.5,), (0.5, 0.5, 0.5)]),
    (SCHEDULE, "kind", "step"),
    *((SCHEDULE, field, -3) for field in ("warmup_steps", "decay_steps", "final_lr")),
    (SCHEDULE, "final_lr", math.nan),
    *((DATA, "dataset", value) for value in ("a/b", "..", ".", "a\\b", "/tmp/a")),
    *((DATA, "eval_tokens", value) for value in (0, -3)),
    *((RUN, field, value) for field in ("batch_size", "num_steps", "eval_every") for value in (0, -3)),
    *((RUN, field, value) for field in ("checkpoint_every", "keep_checkpoints") for value in (0, -3)),
    (RUN, "seed", -3),
    (RUN, "name", ""),
    (RUN, "name", "a/b"),
    (RUN, "dtype", "float16"),
]


@pytest.mark.parametrize(
    ("config", "field", "value"), INVALID, ids=[f"{type(c).__name__}.{f}={v}" for c, f, v in INVALID]
)
def test_an_invalid_field_is_named_with_its_value(config, field, value):
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the message is compared below)
        dataclasses.replace(config, **{field: value})
    assert field in str(error.value)
    assert (repr(value) if isinstance(value, str) else str(value)) in str(error.value)


def test_an_empty_data_set_name_is_said():
    with pytest.raises(ValueError, match="dataset is '': it must be a plain name"):
        DataConfig(dataset="")


def test_an_odd_head_width_is_said():
    with pytest.raises(ValueError, match=r"d_model / num_heads is 5: .* even"):
        dataclasses.replace(MODEL, d_model=15)


def test_warmup_and_decay_must_fit_into_the_run():
    schedule = ScheduleConfig(kind="wsd", warmup_steps=60, decay_steps=41)
    assert dataclasses.replace(RUN, schedule=schedule).schedule.warmup_steps == 60
    with pytest.raises(ValueError, match=r"schedule.warmup_steps 60 \+ schedule.decay_steps 41 exceed num_steps 100"):
        dataclasses.replace(RUN, schedule=schedule, num_steps=100)


def test_the_final_rate_must_not_exceed_the_peak():
    with pytest.raises(ValueError, match=r"schedule.final_lr 0.5 exceeds optimizer.lr 0.25"):
        dataclasses.replace(RUN, schedule=ScheduleConfig(final_lr=0.5), optimizer=OptimizerConfig(lr=0.25))


@pytest.mark.parametrize("config", [MODEL, OPTIMIZER, SCHEDULE, DATA, RUN], ids=lambda config: type(config).__name__)
def test_a_configuration_is_frozen(config):
    for field in dataclasses.fields(config):
        before = getattr(config, field.name)
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, field.name, before)
    with pytest.raises((AttributeError, TypeError)):
        config.learning_rate = 1
    with pytest.raises(TypeError):
        type(config)(53)


def test_what_is_derived():
    assert MODEL.d_head == 10
    assert RUN.batch_tokens == 7 * 13


CHANGES = {
    "model": {
        "vocab_size": 54,
        "context_length": 14,
        "d_model": 36,
        "num_layers": 3,
        "num_heads": 5,
        "d_ff": 38,
        "feed_forward": "silu",
        "rope_theta": 10_001.0,
        "norm_eps": 1e-6,
        "tie_embeddings": True,
        "attention": "written_out",
    },
    "optimizer": {"lr": 2e-3, "betas": (0.9, 0.951), "eps": 1e-9, "weight_decay": 0.0, "max_grad_norm": 1.5},
    "schedule": {"kind": "linear", "warmup_steps": 1, "decay_steps": 1, "final_lr": 1e-9},
    "data": {"dataset": "stories2", "eval_tokens": 131_073},
    "": {
        "name": "b",
        "batch_size": 8,
        "num_steps": 102,
        "seed": 1,
        "eval_every": 99,
        "checkpoint_every": 199,
        "keep_checkpoints": 3,
        "device": "cpu",
        "dtype": "float64",
    },
}


def changed():
    for section, changes in CHANGES.items():
        for field, value in changes.items():
            if section:
                part = dataclasses.replace(getattr(RUN, section), **{field: value})
                yield dataclasses.replace(RUN, **{section: part})
            else:
                yield dataclasses.replace(RUN, **{field: value})


def test_every_field_changes_the_id():
    for section, changes in CHANGES.items():
        config = getattr(RUN, section) if section else RUN
        assert set(changes) | (set() if section else CHANGES.keys() - {""}) == {
            field.name for field in dataclasses.fields(config)
        }
    ids = [config_id(config) for config in (RUN, *changed())]
    assert len(set(ids)) == 1 + sum(map(len, CHANGES.values()))
    assert all(len(one) == 64 and int(one, 16) >= 0 for one in ids)


def test_equal_configurations_have_equal_ids():
    again = RunConfig(
        num_steps=101,
        batch_size=7,
        data=DataConfig(eval_tokens=131_072, dataset="stories"),
        model=dataclasses.replace(MODEL),
        name="a",
        optimizer=OptimizerConfig(lr=0.001, betas=(0.9, 0.95)),
    )
    assert again == RUN
    assert config_id(again) == config_id(RUN)


@pytest.mark.parametrize(
    ("part", "field", "whole"),
    [
        ("model", "rope_theta", 10_000),
        ("optimizer", "max_grad_norm", 1),
        ("optimizer", "weight_decay", 2),
        ("schedule", "final_lr", 0),
    ],
)
def test_a_whole_number_is_the_same_configuration_as_its_float(part, field, whole):
    first, second = (
        dataclasses.replace(RUN, **{part: dataclasses.replace(getattr(RUN, part), **{field: value})})
        for value in (whole, float(whole))
    )
    assert first == second
    assert config_id(first) == config_id(second)


def test_canonical_json_round_trip():
    for config in (RUN, *changed()):
        content = json.loads(canonical_json(config))
        assert content == to_dict(config)
        optimizer = content["optimizer"]
        again = RunConfig(
            **{
                **content,
                "model": ModelConfig(**content["model"]),
                "optimizer": OptimizerConfig(**{**optimizer, "betas": tuple(optimizer["betas"])}),
                "schedule": ScheduleConfig(**content["schedule"]),
                "data": DataConfig(**content["data"]),
            }
        )
        assert again == config
        assert canonical_json(again) == canonical_json(config)


def test_canonical_json_is_sorted_and_compact():
    text = canonical_json(SCHEDULE)
    assert text == '{"decay_steps":0,"final_lr":0.0,"kind":"cosine","warmup_steps":0}'
    assert list(to_dict(SCHEDULE)) == ["kind", "warmup_steps", "decay_steps", "final_lr"]
