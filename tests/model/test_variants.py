"""What only single variants of the architecture do, and which are described but not built."""

import dataclasses
import typing

import pytest
import torch
from tiny_model import CONFIG, IDS, IMPLEMENTATIONS, SEQ, VARIANTS, build, gradients
from torch.testing import assert_close

from core.config import ExpertsConfig, LatentConfig, ModelConfig
from core.model.transformer import Transformer
from core.presets import PRESETS, preset

GROUPED = {
    "three to one": {"num_heads": 15, "num_kv_heads": 5},
    "multi-query": {"num_heads": 3, "num_kv_heads": 1},
    "narrow heads": {"num_heads": 6, "num_kv_heads": 2, "head_dim": 4},
    "one to one": {"num_heads": 3, "num_kv_heads": 3},
}


def is_shared(name):
    return name.endswith(("k_proj.weight", "v_proj.weight"))


def in_heads(weight, number):
    """`(head d_head) d_model` -> `head d_head d_model`."""
    return weight.unflatten(0, (number, -1))


@pytest.mark.parametrize("changes", GROUPED.values(), ids=GROUPED)
@pytest.mark.parametrize("attention", IMPLEMENTATIONS)
def test_grouped_queries_are_multi_head_attention_with_keys_and_values_repeated(changes, attention):
    grouped = build(attention=attention, **changes)
    kv_heads, group = grouped.config.kv_heads, grouped.config.num_heads // grouped.config.kv_heads
    full = build(attention=attention, **{**changes, "num_kv_heads": None})
    full.load_state_dict(
        {
            name: in_heads(weight, kv_heads).repeat_interleave(group, dim=0).flatten(0, 1)
            if is_shared(name)
            else weight
            for name, weight in grouped.state_dict().items()
        }
    )
    with torch.no_grad():
        assert_close(grouped(IDS), full(IDS), rtol=1e-11, atol=1e-12)
    repeated = gradients(full)
    for name, gradient in gradients(grouped).items():
        expected = repeated[name]
        if is_shared(name):
            expected = in_heads(expected, kv_heads * group).unflatten(0, (kv_heads, group)).sum(1).flatten(0, 1)
            assert gradient.abs().max() > 1e-6
        assert_close(gradient, expected, rtol=1e-9, atol=1e-13)


def answer_at_the_end(model, ids):
    with torch.no_grad():
        return model(ids)[:, -1]


def permuted():
    """The sequences with all tokens but the last in another order."""
    order = torch.randperm(SEQ - 1, generator=torch.Generator().manual_seed(1))
    assert order.tolist() != sorted(order.tolist())
    return torch.cat([IDS[:, order], IDS[:, -1:]], dim=-1)


@pytest.mark.parametrize("attention", IMPLEMENTATIONS)
def test_without_positions_one_layer_does_not_see_the_order_of_earlier_tokens(attention):
    model = build(positions="none", num_layers=1, attention=attention)
    assert_close(answer_at_the_end(model, permuted()), answer_at_the_end(model, IDS), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("changes", [{"positions": "rope", "num_layers": 1}, {"positions": "none", "num_layers": 2}])
def test_rotary_positions_or_a_second_layer_behind_the_causal_mask_see_the_order(changes):
    model = build(**changes)
    difference = answer_at_the_end(model, permuted()) - answer_at_the_end(model, IDS)
    assert (difference.abs().amax(dim=-1) > 1e-3).all()


@torch.no_grad()
def test_without_positions_the_answer_does_not_depend_on_rope_theta():
    first, second = (build(positions="none", rope_theta=theta) for theta in (500.0, 50_000.0))
    assert torch.equal(first(IDS), second(IDS))
    assert (first(IDS) - build()(IDS)).abs().max() > 1e-3


@pytest.mark.parametrize("placement", ["pre", "post", "none"])
def test_where_norms_stand(placement):
    names = [name for name, _ in build(norm_placement=placement).named_parameters() if name.endswith("gain")]
    in_blocks = [f"blocks.{layer}.{norm}.gain" for layer in (0, 1) for norm in ("attention_norm", "feed_forward_norm")]
    assert names == {"pre": [*in_blocks, "final_norm.gain"], "post": in_blocks, "none": []}[placement]


@torch.no_grad()
def test_behind_post_norm_the_residual_stream_is_normalised():
    model = build(norm_placement="post", norm_eps=1e-9)
    scaled = model.hidden(IDS) / model.blocks[-1].feed_forward_norm.gain
    assert_close(scaled.square().mean(dim=-1), torch.ones_like(IDS, dtype=torch.float64), rtol=1e-8, atol=0)


@torch.no_grad()
def test_without_norms_the_answer_does_not_depend_on_norm_eps():
    assert torch.equal(*(build(norm_placement="none", norm_eps=eps)(IDS) for eps in (1e-5, 0.5)))


EXPERTS = ExpertsConfig(num_experts=7, experts_per_token=2, d_ff=11)
LATENT = LatentConfig(query_rank=17, key_value_rank=11, d_nope=5, d_rope=6, d_value=7)
NOT_BUILT = [
    ("feed_forward", "gelu"),
    ("norm", "layer_norm"),
    ("positions", "learned"),
    ("bias", True),
    ("qk_norm", True),
    ("attention", "flash"),
    ("experts", EXPERTS),
    ("latent", LATENT),
]


def other_values(field):
    """Every value that a field may take besides those that are numbers, and one other number."""
    default = getattr(CONFIG, field.name)
    if typing.get_origin(field.type) is typing.Literal:
        return [value for value in typing.get_args(field.type) if value != default]
    if field.type is bool:
        return [not default]
    special = {"experts": EXPERTS, "latent": LATENT, "d_model": 36, "num_heads": 5, "num_kv_heads": 1, "head_dim": 14}
    return [special.get(field.name, default and default * 2)]


def refusal(config):
    """What the model says to a configuration; None if it builds it and answers with finite numbers."""
    try:
        model = Transformer(config)
    except ValueError as error:
        return str(error)
    with torch.no_grad():
        assert model(IDS).isfinite().all()
    return None


def test_what_is_described_but_not_built_is_refused_by_name_and_nothing_else():
    refused = []
    for field in dataclasses.fields(ModelConfig):
        for value in other_values(field):
            said = refusal(dataclasses.replace(CONFIG, **{field.name: value}))
            if said is not None:
                refused.append((field.name, value))
                given = "is given" if field.name in ("experts", "latent") else f"is {value!r}"
                assert said == f"{field.name} {given}: core.model does not build that (accounting describes it)"
    assert refused == NOT_BUILT


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_are_built_as_described(name):
    assert refusal(dataclasses.replace(CONFIG, **VARIANTS[name])) is None


def test_presets_that_are_not_built():
    said = {}
    for name in PRESETS:
        model = preset(name).model
        small = {"vocab_size": 53, "num_layers": 1, "d_model": 2 * model.num_heads, "d_ff": 3}
        heads = {} if model.head_dim is None else {"head_dim": 4}
        experts = model.experts and dataclasses.replace(model.experts, num_dense_layers=0)
        said[name] = refusal(dataclasses.replace(model, **small, **heads, experts=experts))
    refused = {name: text.partition(" ")[0] for name, text in said.items() if text is not None}
    assert refused == {
        **dict.fromkeys(("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"), "feed_forward"),
        "mixtral-8x7b": "experts",
        **dict.fromkeys(("qwen3-30b-a3b", "qwen3-235b-a22b"), "qk_norm"),
        "deepseek-v3": "experts",
    }
