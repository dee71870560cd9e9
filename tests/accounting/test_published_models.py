"""The closed forms against published models: their published numbers, and Hugging Face's modules without weights."""

import dataclasses

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    PretrainedConfig,
    Qwen3MoeConfig,
)

from core.accounting import account, forward_flop, training_step_flop
from core.accounting.generation import generation, kv_cache_bytes_per_token
from core.presets import preset
from core.presets.published import PUBLISHED


def gpt2(width: int, layers: int, heads: int) -> GPT2Config:
    return GPT2Config(vocab_size=50_257, n_positions=1024, n_embd=width, n_layer=layers, n_head=heads)


def llama(
    vocab: int, positions: int, theta: float, width: int, hidden: int, layers: int, heads: int, kv_heads: int
) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocab,
        max_position_embeddings=positions,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
        hidden_size=width,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        rms_norm_eps=1e-5,
        tie_word_embeddings=width < 4096,
    )


def mixtral() -> MixtralConfig:
    return MixtralConfig(
        vocab_size=32_000,
        max_position_embeddings=32_768,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        num_local_experts=8,
        num_experts_per_tok=2,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        tie_word_embeddings=False,
    )


def qwen3(width: int, hidden: int, expert_hidden: int, layers: int, heads: int) -> Qwen3MoeConfig:
    return Qwen3MoeConfig(
        vocab_size=151_936,
        max_position_embeddings=40_960,
        hidden_size=width,
        intermediate_size=hidden,
        moe_intermediate_size=expert_hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=4,
        head_dim=128,
        num_experts=128,
        num_experts_per_tok=8,
        decoder_sparse_step=1,
        mlp_only_layers=[],
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        tie_word_embeddings=False,
    )


def deepseek_v3() -> DeepseekV3Config:
    return DeepseekV3Config(
        vocab_size=129_280,
        max_position_embeddings=163_840,
        hidden_size=7168,
        intermediate_size=18_432,
        moe_intermediate_size=2048,
        num_hidden_layers=61,
        num_attention_heads=128,
        num_key_value_heads=128,
        q_lora_rank=1536,
        kv_lora_rank=512,
        qk_nope_head_dim=128,
        qk_rope_head_dim=64,
        v_head_dim=128,
        n_routed_experts=256,
        n_shared_experts=1,
        num_experts_per_tok=8,
        first_k_dense_replace=3,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=False,
    )


HUGGING_FACE: dict[str, PretrainedConfig] = {
    "gpt2": gpt2(768, 12, 12),
    "gpt2-medium": gpt2(1024, 24, 16),
    "gpt2-large": gpt2(1280, 36, 20),
    "gpt2-xl": gpt2(1600, 48, 25),
    "llama-2-7b": llama(32_000, 4096, 1e4, 4096, 11_008, 32, 32, 32),
    "llama-2-13b": llama(32_000, 4096, 1e4, 5120, 13_824, 40, 40, 40),
    "llama-2-70b": llama(32_000, 4096, 1e4, 8192, 28_672, 80, 64, 8),
    "llama-3-8b": llama(128_256, 8192, 5e5, 4096, 14_336, 32, 32, 8),
    "llama-3-70b": llama(128_256, 8192, 5e5, 8192, 28_672, 80, 64, 8),
    "llama-3-405b": llama(128_256, 131_072, 5e5, 16_384, 53_248, 126, 128, 8),
    "llama-3.2-1b": llama(128_256, 131_072, 5e5, 2048, 8192, 16, 32, 8),
    "llama-3.2-3b": llama(128_256, 131_072, 5e5, 3072, 8192, 28, 24, 8),
    "mixtral-8x7b": mixtral(),
    "qwen3-30b-a3b": qwen3(2048, 6144, 768, 48, 32),
    "qwen3-235b-a22b": qwen3(4096, 12_288, 1536, 94, 64),
    "deepseek-v3": deepseek_v3(),
}
PARAMETERS = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "llama-3-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "mixtral-8x7b": 46_702_792_704,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "deepseek-v3": 671_026_419_200,
}
ACTIVE = {
    "mixtral-8x7b": 12_879_925_248,
    "qwen3-30b-a3b": 3_353_032_704,
    "qwen3-235b-a22b": 22_190_763_520,
    "deepseek-v3": 37_552_297_472,
}
ROUTER_BIASES = {"deepseek-v3": 58 * 256}
"""Counted here, as in the published weights; a buffer and no parameter in Hugging Face's module."""


def costs(name, **changes):
    return account(dataclasses.replace(preset(name).model, **changes), seq=1)


@pytest.fixture(scope="module")
def built():
    """Number of elements by parameter's name of Hugging Face's module, built without memory."""
    cache = {}

    def sizes(name):
        if name not in cache:
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(HUGGING_FACE[name])
            cache[name] = {name: parameter.numel() for name, parameter in model.named_parameters()}
        return cache[name]

    return sizes


def test_every_published_model_is_held_to_its_numbers():
    assert list(PUBLISHED) == list(PARAMETERS) == list(HUGGING_FACE)
    assert list(ACTIVE) == [name for name, model in PUBLISHED.items() if model.experts is not None]


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_of_hugging_faces_module(name, built):
    assert costs(name).parameters == sum(built(name).values()) + ROUTER_BIASES.get(name, 0)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_in_numbers(name):
    assert costs(name).parameters == PARAMETERS[name]


@pytest.mark.parametrize("name", ACTIVE)
def test_active_parameters_are_those_of_hugging_faces_module_with_the_chosen_experts_alone(name, built):
    total, routed = sum(built(name).values()), sum(size for key, size in built(name).items() if ".experts." in key)
    experts = preset(name).model.experts
    assert routed % experts.num_experts == 0
    chosen = routed // experts.num_experts * experts.experts_per_token
    assert costs(name).active_parameters == total - routed + chosen + ROUTER_BIASES.get(name, 0)


@pytest.mark.parametrize("name", PARAMETERS)
def test_active_parameters_in_numbers(name):
    assert costs(name).active_parameters == ACTIVE.get(name, PARAMETERS[name])


@pytest.mark.parametrize(
    ("name", "embeddings", "rest"),
    [("qwen3-30b-a3b", 2, 29_909_792_768), ("qwen3-235b-a22b", 2, 233_848_974_848)],
)
def test_parameters_besides_the_embeddings(name, embeddings, rest):
    model = preset(name).model
    assert costs(name).parameters - embeddings * model.vocab_size * model.d_model == rest


def test_deepseeks_active_parameters_without_the_input_embedding():
    model = preset("deepseek-v3").model
    assert costs("deepseek-v3").active_parameters - model.vocab_size * model.d_model == 36_625_618_432


@pytest.mark.parametrize("name", PARAMETERS)
def test_what_costs_no_parameters_is_as_published_too(name):
    model, theirs = preset(name).model, HUGGING_FACE[name]
    assert model.context_length == theirs.max_position_embeddings
    assert model.num_heads == theirs.num_attention_heads
    assert model.norm_eps == (theirs.layer_norm_epsilon if isinstance(theirs, GPT2Config) else theirs.rms_norm_eps)
    if not isinstance(theirs, GPT2Config):
        assert model.rope_theta == theirs.rope_parameters["rope_theta"]
    if model.latent is None and not isinstance(theirs, GPT2Config):
        assert (model.d_head, model.kv_heads) == (
            getattr(theirs, "head_dim", None) or theirs.hidden_size // theirs.num_attention_heads,
            theirs.num_key_value_heads,
        )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt2", 124_337_664),
        ("gpt2-medium", 354_551_808),
        ("gpt2-large", 773_521_920),
        ("gpt2-xl", 1_556_764_800),
    ],
)
def test_gpt2_without_biases_as_nanogpt_counts_it(name, expected):
    assert costs(name, bias=False).parameters == expected


CS336_SWIGLU = {
    "small": (190_460_160, 349_630_365_696),
    "medium": (505_629_696, 1_033_109_504_000),
    "large": (1_072_469_760, 2_257_754_521_600),
    "xl": (2_127_057_600, 4_513_336_524_800),
}
"""Parameters, and FLOPs of one forward pass of one full context, of GPT-2's shapes with a gated feed-forward."""


@pytest.mark.parametrize("size", CS336_SWIGLU)
def test_cs336s_gated_models(size):
    model = dataclasses.replace(preset(f"cs336-gpt2-{size}").model, feed_forward="swiglu")
    assert (account(model, seq=1).parameters, forward_flop(model)) == CS336_SWIGLU[size]


GPT2_FLOP = {
    "gpt2": 291_648_307_200,
    "gpt2-medium": 826_951_073_792,
    "gpt2-large": 1_774_570_700_800,
    "gpt2-xl": 3_506_703_564_800,
}


@pytest.mark.parametrize("name", GPT2_FLOP)
def test_gpt2s_forward_flop(name):
    model = preset(name).model
    assert forward_flop(model) == GPT2_FLOP[name]
    assert training_step_flop(model) == 3 * GPT2_FLOP[name]


def test_llama_3_8bs_flop():
    model = preset("llama-3-8b").model
    assert forward_flop(model, seq=8192) == 158_140_695_838_720
    # torchtitan: 6 for every parameter but the embedding's, so for the 65 norms' gains too, which are in no product.
    assert training_step_flop(model, seq=8192) + 8192 * 6 * 65 * 4096 == 8192 * 57_914_449_920


@pytest.mark.parametrize(
    ("name", "expected"),
    [("llama-2-7b", 524_288), ("llama-3-8b", 131_072), ("deepseek-v3", 70_272), ("gpt2", 2 * 2 * 12 * 768)],
)
def test_cache_of_keys_and_values_in_bytes_per_token(name, expected):
    model = preset(name).model
    assert kv_cache_bytes_per_token(model, "bfloat16") == expected
    assert kv_cache_bytes_per_token(model, "float32") == 2 * expected


def test_llama_3_8bs_cache_of_8192_tokens_is_a_gibibyte():
    asked = generation(preset("llama-3-8b").model, prompt_tokens=8000, new_tokens=192, batch_size=3)
    assert asked.kv_cache_bytes == 3 * 2**30
