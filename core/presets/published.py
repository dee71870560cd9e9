"""Published models, from their papers and the configuration files that came with their weights.

They are here to be accounted for: `core.model` builds those that are Llamas, and refuses others by naming the field.
Rotary frequencies that were stretched for longer contexts are not described: they cost nothing.
"""

from core.config import ExpertsConfig, LatentConfig, ModelConfig


def gpt2(d_model: int, num_layers: int, num_heads: int) -> ModelConfig:
    """GPT-2: LayerNorm, GELU, biases everywhere, learned positions, tied head (Radford et al., 2019)."""
    return ModelConfig(
        vocab_size=50_257,
        context_length=1024,
        d_model=d_model,
        num_layers=num_layers,
        num_heads=num_heads,
        d_ff=4 * d_model,
        feed_forward="gelu",
        norm="layer_norm",
        positions="learned",
        bias=True,
        tie_embeddings=True,
    )


def llama(
    vocab_size: int,
    context_length: int,
    d_model: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int,
    d_ff: int,
    rope_theta: float = 500_000.0,
    tie_embeddings: bool = False,
) -> ModelConfig:
    """Llama 2 (Touvron et al., 2023, arXiv:2307.09288) and 3 (Llama team, 2024, arXiv:2407.21783)."""
    return ModelConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        d_model=d_model,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        d_ff=d_ff,
        rope_theta=rope_theta,
        tie_embeddings=tie_embeddings,
    )


def mixtral_8x7b() -> ModelConfig:
    """Mixtral 8x7B: a Llama whose feed-forwards are eight experts, two for each token (arXiv:2401.04088)."""
    return ModelConfig(
        vocab_size=32_000,
        context_length=32_768,
        d_model=4096,
        num_layers=32,
        num_heads=32,
        num_kv_heads=8,
        d_ff=14_336,
        rope_theta=1_000_000.0,
        experts=ExpertsConfig(num_experts=8, experts_per_token=2, d_ff=14_336),
    )


def qwen3_moe(d_model: int, num_layers: int, num_heads: int, d_ff: int, expert_d_ff: int) -> ModelConfig:
    """Qwen3 mixtures: 128 narrow experts, eight for each token, norms on queries and keys (arXiv:2505.09388)."""
    return ModelConfig(
        vocab_size=151_936,
        context_length=40_960,
        d_model=d_model,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=4,
        head_dim=128,
        d_ff=d_ff,
        qk_norm=True,
        rope_theta=1_000_000.0,
        norm_eps=1e-6,
        experts=ExpertsConfig(num_experts=128, experts_per_token=8, d_ff=expert_d_ff),
    )


def deepseek_v3() -> ModelConfig:
    """DeepSeek-V3 without multi-token prediction: latent attention, 256 experts and a shared one (arXiv:2412.19437)."""
    return ModelConfig(
        vocab_size=129_280,
        context_length=163_840,
        d_model=7168,
        num_layers=61,
        num_heads=128,
        d_ff=18_432,
        norm_eps=1e-6,
        latent=LatentConfig(query_rank=1536, key_value_rank=512, d_nope=128, d_rope=64, d_value=128),
        experts=ExpertsConfig(
            num_experts=256, experts_per_token=8, d_ff=2048, num_shared=1, num_dense_layers=3, router_bias=True
        ),
    )


PUBLISHED: dict[str, ModelConfig] = {
    "gpt2": gpt2(768, 12, 12),
    "gpt2-medium": gpt2(1024, 24, 16),
    "gpt2-large": gpt2(1280, 36, 20),
    "gpt2-xl": gpt2(1600, 48, 25),
    "llama-2-7b": llama(32_000, 4096, 4096, 32, 32, 32, 11_008, 10_000.0),
    "llama-2-13b": llama(32_000, 4096, 5120, 40, 40, 40, 13_824, 10_000.0),
    "llama-2-70b": llama(32_000, 4096, 8192, 80, 64, 8, 28_672, 10_000.0),
    "llama-3-8b": llama(128_256, 8192, 4096, 32, 32, 8, 14_336),
    "llama-3-70b": llama(128_256, 8192, 8192, 80, 64, 8, 28_672),
    "llama-3-405b": llama(128_256, 131_072, 16_384, 126, 128, 8, 53_248),
    "llama-3.2-1b": llama(128_256, 131_072, 2048, 16, 32, 8, 8192, tie_embeddings=True),
    "llama-3.2-3b": llama(128_256, 131_072, 3072, 28, 24, 8, 8192, tie_embeddings=True),
    "mixtral-8x7b": mixtral_8x7b(),
    "qwen3-30b-a3b": qwen3_moe(2048, 48, 32, 6144, 768),
    "qwen3-235b-a22b": qwen3_moe(4096, 94, 64, 12_288, 1536),
    "deepseek-v3": deepseek_v3(),
}
