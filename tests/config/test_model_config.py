"""What an architecture may be, and how each mistake in it is said."""

import dataclasses
import math

import pytest

from core.config import ExpertsConfig, LatentConfig, ModelConfig

MODEL = ModelConfig(vocab_size=53, context_length=13, d_model=30, num_layers=2, num_heads=3, d_ff=37)
EXPERTS = ExpertsConfig(num_experts=7, experts_per_token=2, d_ff=11, num_shared=1, num_dense_layers=1)
LATENT = LatentConfig(query_rank=17, key_value_rank=11, d_nope=5, d_rope=6, d_value=7)
LARGEST = 2**63 - 1

SIZES = {
    MODEL: ["vocab_size", "context_length", "d_model", "num_layers", "num_heads", "d_ff", "num_kv_heads", "head_dim"],
    EXPERTS: ["num_experts", "experts_per_token", "d_ff"],
    LATENT: ["query_rank", "key_value_rank", "d_nope", "d_rope", "d_value"],
}
COUNTS = {EXPERTS: ["num_shared", "num_dense_layers"]}
"""May be 0, unlike the sizes."""
CHOICES = ["feed_forward", "norm", "norm_placement", "positions", "attention"]
SWITCHES = {MODEL: ["bias", "qk_norm", "tie_embeddings"], EXPERTS: ["router_bias"]}
MAY_BE_NONE = {"num_kv_heads", "head_dim", "experts", "latent"}

INVALID = [
    *((config, name, value) for config, names in SIZES.items() for name in names for value in (0, -3)),
    *((config, name, -3) for config, names in COUNTS.items() for name in names),
    *(
        (config, name, value)
        for config, names in (*SIZES.items(), *COUNTS.items())
        for name in names
        for value in (LARGEST + 1, 10**30, 2.0, "7", True)
    ),
    (MODEL, "d_model", 31),
    (MODEL, "num_heads", 4),
    (MODEL, "num_kv_heads", 2),
    (MODEL, "num_kv_heads", 6),
    (MODEL, "head_dim", 5),
    *(
        (MODEL, name, value)
        for name in ("rope_theta", "norm_eps")
        for value in (0.0, -0.5, math.nan, math.inf, -math.inf, "fast", True)
    ),
    *((MODEL, name, value) for name in CHOICES for value in ("other", "", 3, True)),
    *((config, name, value) for config, names in SWITCHES.items() for name in names for value in (1, "yes")),
    *((MODEL, name, value) for name in ("experts", "latent") for value in ({"d_ff": 3}, "none", True)),
    (MODEL, "experts", LATENT),
    (MODEL, "latent", EXPERTS),
    (EXPERTS, "experts_per_token", 8),
    (EXPERTS, "num_experts", 1),
    (LATENT, "d_rope", 7),
    *(
        (config, field.name, None)
        for config in (MODEL, EXPERTS, LATENT)
        for field in dataclasses.fields(config)
        if field.name not in MAY_BE_NONE
    ),
]


@pytest.mark.parametrize(
    ("config", "field", "value"), INVALID, ids=[f"{type(c).__name__}.{f}={v}" for c, f, v in INVALID]
)
def test_an_invalid_field_is_named_with_its_value(config, field, value):
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the message is compared below)
        dataclasses.replace(config, **{field: value})
    assert field in str(error.value)
    assert (repr(value) if isinstance(value, str) else str(value)) in str(error.value)


MESSAGES = {
    "d_model 31 is not divisible by num_heads 3: a head's width must be a whole number (here 10.33)": {"d_model": 31},
    "d_model / num_heads is 5: rotary positions turn pairs, so a head's width must be even": {"d_model": 15},
    "head_dim is 5: rotary positions turn pairs, so a head's width must be even": {"head_dim": 5},
    "num_heads 6 is not divisible by num_kv_heads 4: each key and value head serves equally many query heads": {
        "num_heads": 6, "num_kv_heads": 4, "head_dim": 2,
    },
    "num_dense_layers 3 exceeds num_layers 2": {"experts": dataclasses.replace(EXPERTS, num_dense_layers=3)},
    "bias is True: a mixture of experts is described without": {"experts": EXPERTS, "bias": True},
    "bias is True: latent attention is described without": {"latent": LATENT, "bias": True},
    "qk_norm is True: latent attention norms its latent vectors instead": {"latent": LATENT, "qk_norm": True},
    "num_kv_heads is 3: latent attention has none": {"latent": LATENT, "num_kv_heads": 3},
    "positions is 'learned': latent attention needs rope": {"latent": LATENT, "positions": "learned"},
    "positions is 'none': latent attention needs rope": {"latent": LATENT, "positions": "none"},
    "feed_forward is 'relu': it must be swiglu or silu or relu2 or gelu": {"feed_forward": "relu"},
    "num_layers is 9223372036854775808: it must be below 2^63": {"num_layers": 2**63},
    "num_layers is 2.0: it must be of type int": {"num_layers": 2.0},
    "num_kv_heads is 0: it must be at least 1": {"num_kv_heads": 0},
    "rope_theta is nan: it must be finite": {"rope_theta": math.nan},
    "experts is 'none': it must be of type ExpertsConfig": {"experts": "none"},
}  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES)
def test_what_does_not_fit_together_is_said(message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the message is compared below)
        dataclasses.replace(MODEL, **MESSAGES[message])
    assert str(error.value) == message


def test_a_token_cannot_pass_through_more_experts_than_there_are():
    with pytest.raises(ValueError, match=r"^experts_per_token 8 exceeds num_experts 7$"):
        dataclasses.replace(EXPERTS, experts_per_token=8)


ALLOWED = [
    {"num_kv_heads": 1},
    {"num_kv_heads": 3},
    {"num_heads": 6, "num_kv_heads": 2, "head_dim": 4},
    {"d_model": 31, "head_dim": 10},
    {"d_model": 15, "positions": "none"},
    {"d_model": 15, "positions": "learned"},
    {"d_model": 15, "latent": LATENT},
    {"head_dim": 5, "positions": "none"},
    {"bias": True, "qk_norm": True, "norm": "layer_norm", "positions": "learned", "feed_forward": "gelu"},
    {"experts": dataclasses.replace(EXPERTS, num_dense_layers=2, experts_per_token=7), "latent": LATENT},
    {"experts": dataclasses.replace(EXPERTS, num_dense_layers=0, num_shared=0), "qk_norm": True},
    *({name: LARGEST} for name in ("vocab_size", "context_length", "num_layers", "d_ff")),
    {"d_model": LARGEST, "head_dim": 10},
    {"head_dim": LARGEST, "positions": "none"},
    {"num_heads": LARGEST, "num_kv_heads": LARGEST, "head_dim": 10},
]


@pytest.mark.parametrize("changes", ALLOWED, ids=str)
def test_what_fits_together_is_kept_as_given(changes):
    config = dataclasses.replace(MODEL, **changes)
    for field in dataclasses.fields(MODEL):
        assert getattr(config, field.name) == changes.get(field.name, getattr(MODEL, field.name))


@pytest.mark.parametrize(
    ("config", "name"), [(c, name) for c, names in (*SIZES.items(), *COUNTS.items()) if c != MODEL for name in names]
)
def test_the_largest_size_of_a_part(config, name):
    # d_rope is even; a token passes through all of the experts at most; all layers but one may be a mixture's.
    value = LARGEST - 1 if name == "d_rope" else LARGEST
    base = dataclasses.replace(EXPERTS, num_experts=LARGEST) if name == "experts_per_token" else config
    assert getattr(dataclasses.replace(base, **{name: value}), name) == value


@pytest.mark.parametrize("name", sorted(MAY_BE_NONE))
def test_none_is_a_value_of_what_may_be_absent(name):
    filled = {"num_kv_heads": 1, "head_dim": 4, "experts": EXPERTS, "latent": LATENT}
    config = dataclasses.replace(MODEL, **{name: filled[name]})
    assert config != MODEL
    assert dataclasses.replace(config, **{name: None}) == MODEL


@pytest.mark.parametrize(
    ("changes", "d_head", "kv_heads"),
    [
        ({}, 10, 3),
        ({"num_kv_heads": 1}, 10, 1),
        ({"head_dim": 4}, 4, 3),
        ({"num_heads": 15, "num_kv_heads": 5}, 2, 5),
        ({"d_model": 31, "num_heads": 6, "num_kv_heads": 2, "head_dim": 14}, 14, 2),
    ],
)
def test_what_is_derived(changes, d_head, kv_heads):
    config = dataclasses.replace(MODEL, **changes)
    assert (config.d_head, config.kv_heads) == (d_head, kv_heads)


@pytest.mark.parametrize("config", [MODEL, EXPERTS, LATENT], ids=lambda config: type(config).__name__)
def test_a_configuration_is_frozen(config):
    for field in dataclasses.fields(config):
        before = getattr(config, field.name)
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, field.name, before)
    with pytest.raises((AttributeError, TypeError)):
        config.width = 1
    with pytest.raises(TypeError):
        type(config)(53)
