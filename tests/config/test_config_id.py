"""Every field counts: what makes two configurations the same."""

import dataclasses

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
    config_id,
    to_dict,
)

MODEL = ModelConfig(vocab_size=53, context_length=13, d_model=30, num_layers=2, num_heads=3, d_ff=37)
EXPERTS = ExpertsConfig(num_experts=7, experts_per_token=2, d_ff=11)
LATENT = LatentConfig(query_rank=17, key_value_rank=11, d_nope=5, d_rope=6, d_value=7)
RUN = RunConfig(name="a", model=MODEL, data=DataConfig(dataset="stories"), batch_size=7, num_steps=101)
NESTED = dataclasses.replace(RUN, model=dataclasses.replace(MODEL, experts=EXPERTS, latent=LATENT))

CHANGES = {
    "model": {
        "vocab_size": 54,
        "context_length": 14,
        "d_model": 36,
        "num_layers": 3,
        "num_heads": 5,
        "d_ff": 38,
        "num_kv_heads": 3,
        "head_dim": 10,
        "feed_forward": "silu",
        "norm": "layer_norm",
        "norm_placement": "post",
        "positions": "none",
        "bias": True,
        "qk_norm": True,
        "rope_theta": 10_001.0,
        "norm_eps": 1e-6,
        "tie_embeddings": True,
        "attention": "written_out",
        "experts": EXPERTS,
        "latent": LATENT,
    },
    "model.experts": {
        "num_experts": 8,
        "experts_per_token": 3,
        "d_ff": 12,
        "num_shared": 1,
        "num_dense_layers": 1,
        "router_bias": True,
    },
    "model.latent": {"query_rank": 18, "key_value_rank": 12, "d_nope": 6, "d_rope": 8, "d_value": 9},
    "optimizer": {
        "kind": "muon",
        "lr": 2e-3,
        "betas": (0.9, 0.951),
        "eps": 1e-9,
        "weight_decay": 0.0,
        "decayed": "all",
        "muon_lr": 0.021,
        "muon_momentum": 0.94,
        "max_grad_norm": 1.5,
    },
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
        "micro_batch_size": 7,
        "precision": "float64",
        "compile": True,
        "deterministic": True,
        "activation_checkpointing": True,
        "loss_chunk": 11,
        "z_loss": 1e-4,
        "ema_decay": 0.99,
    },
}
"""Another value for every field; `num_kv_heads` and `head_dim` are spelled out as what None means."""


def parts(config, path=""):
    """Every dataclass within a configuration, by its dotted path."""
    found = {path: config}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            found |= parts(value, f"{path}.{field.name}".lstrip("."))
    return found


def changed():
    """The run with one field changed, for every field."""
    for path, changes in CHANGES.items():
        for field, value in changes.items():
            run = NESTED if path.startswith("model.") else RUN
            part, above = dataclasses.replace(parts(run)[path], **{field: value}), path
            while above:
                above, _, name = above.rpartition(".")
                part = dataclasses.replace(parts(run)[above], **{name: part})
            yield part


def test_every_field_changes_the_id():
    for path, config in parts(NESTED).items():
        groups = {name for name in CHANGES if name and "." not in name} if path == "" else set()
        assert set(CHANGES[path]) | groups == {field.name for field in dataclasses.fields(config)}
    ids = [config_id(config) for config in (RUN, NESTED, *changed())]
    assert len(set(ids)) == 2 + sum(map(len, CHANGES.values()))
    assert all(len(one) == 64 and int(one, 16) >= 0 for one in ids)


def test_equal_configurations_have_equal_ids():
    again = RunConfig(
        num_steps=101,
        batch_size=7,
        data=DataConfig(eval_tokens=131_072, dataset="stories"),
        model=dataclasses.replace(MODEL, experts=None, num_kv_heads=None),
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


def test_whole_betas_are_the_same_configuration_as_their_floats():
    first, second = OptimizerConfig(betas=(0, 0)), OptimizerConfig(betas=(0.0, 0.0))
    assert canonical_json(first) == canonical_json(second)
    assert first.betas == OptimizerConfig(betas=[0, 0]).betas == (0.0, 0.0)


def test_canonical_json_is_sorted_and_compact():
    schedule = ScheduleConfig()
    assert canonical_json(schedule) == '{"decay_steps":0,"final_lr":0.0,"kind":"cosine","warmup_steps":0}'
    assert list(to_dict(schedule)) == ["kind", "warmup_steps", "decay_steps", "final_lr"]
    nested = ModelConfig(**{**to_dict(MODEL), "experts": EXPERTS})
    assert (
        '"experts":{"d_ff":11,"experts_per_token":2,"num_dense_layers":0,"num_experts":7,"num_shared":0,'
        '"router_bias":false},"feed_forward":"swiglu"' in canonical_json(nested)
    )
    assert '"latent":null' in canonical_json(nested)
