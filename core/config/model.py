"""An architecture. It may describe more than `core/model` builds: accounting needs no weights."""

from dataclasses import dataclass
from typing import Literal

from core.config.checks import normalise, require, require_at_least


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertsConfig:
    """A mixture of experts in place of the feed-forward: a router sends each token to some of many.

    Reference:
        Shazeer et al. (2017), section 2, arXiv:1701.06538; shared experts: Dai et al. (2024), arXiv:2401.06066.
    """

    num_experts: int
    """Routed experts of a layer."""
    experts_per_token: int
    """How many of them a token passes through."""
    d_ff: int
    """Width of one expert's hidden layer."""
    num_shared: int = 0
    """Experts of the same width through which every token passes besides."""
    num_dense_layers: int = 0
    """First layers that keep the plain feed-forward, of the model's `d_ff`."""
    router_bias: bool = False
    """One bias per routed expert that only steers the choice (load balancing without a loss)."""

    def __post_init__(self) -> None:
        normalise(self)
        require_at_least(self, 1, "num_experts", "experts_per_token", "d_ff")
        require_at_least(self, 0, "num_shared", "num_dense_layers")
        require(
            self.experts_per_token <= self.num_experts,
            f"experts_per_token {self.experts_per_token} exceeds num_experts {self.num_experts}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentConfig:
    """Multi-head latent attention: keys and values are rebuilt from one narrow vector a token, which alone is cached.

    Reference:
        DeepSeek-AI (2024), section 2.1, arXiv:2405.04434: d'_c, d_c, d_h, d_h^R are our `query_rank`, `key_value_rank`,
        `d_nope`, `d_rope`.
    """

    query_rank: int
    """Width of the latent vector that queries are rebuilt from."""
    key_value_rank: int
    """Width of the latent vector that keys and values are rebuilt from."""
    d_nope: int
    """Part of a head's query and key without positions."""
    d_rope: int
    """Part with rotary positions; its key is shared by all heads."""
    d_value: int
    """Width of a head's value."""

    def __post_init__(self) -> None:
        normalise(self)
        require_at_least(self, 1, "query_rank", "key_value_rank", "d_nope", "d_rope", "d_value")
        require(self.d_rope % 2 == 0, f"d_rope is {self.d_rope}: rotary positions turn pairs, so it must be even")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A decoder-only Transformer; by default pre-norm RMSNorm blocks, rotary positions, causal multi-head attention."""

    vocab_size: int
    """Rows of the embedding table and of the output head."""
    context_length: int
    """Longest sequence the model is trained on, in tokens."""
    d_model: int
    """Width of the residual stream."""
    num_layers: int
    """Number of blocks (attention, then feed-forward)."""
    num_heads: int
    """Attention heads; must divide `d_model` unless `head_dim` is given."""
    d_ff: int
    """Width of the feed-forward's hidden layer."""
    num_kv_heads: int | None = None
    """Heads of keys and values, each shared by `num_heads / num_kv_heads` query heads; None: as many as `num_heads`."""
    head_dim: int | None = None
    """Width of a head where it is not `d_model / num_heads`, which None means; read `d_head`, which always holds it."""
    feed_forward: Literal["swiglu", "silu", "relu2", "gelu"] = "swiglu"
    """`swiglu`: down(silu(gate x) * up x), three matrices. The others: down(f(up x)), two matrices, no gate."""
    norm: Literal["rms_norm", "layer_norm"] = "rms_norm"
    """Root-mean-square normalisation, or mean and variance."""
    norm_placement: Literal["pre", "post", "none"] = "pre"
    """`pre`: x + f(norm x), and a norm before the head. `post`: norm(x + f(x)), no other. `none`: no norm at all."""
    positions: Literal["rope", "learned", "none"] = "rope"
    """Rotary angles in attention, a learned table added to the embedding, or nothing but the causal mask."""
    bias: bool = False
    """A bias in every linear layer but the head, and in LayerNorm."""
    qk_norm: bool = False
    """RMSNorm over each head's query and key, with one gain per head dimension."""
    rope_theta: float = 10_000.0
    """Base of the rotary frequencies; larger turns more slowly with position."""
    norm_eps: float = 1e-5
    """Added to the mean square in RMSNorm."""
    tie_embeddings: bool = False
    """Use the embedding table as the output head as well (initialised as the head, a linear layer, would be)."""
    attention: Literal["sdpa", "written_out", "flash"] = "sdpa"
    """Equal implementations: torch's `scaled_dot_product_attention`, the formula term by term, FlashAttention-2."""
    experts: ExpertsConfig | None = None
    """A mixture of experts instead of one feed-forward."""
    latent: LatentConfig | None = None
    """Multi-head latent attention instead of q_proj, k_proj and v_proj."""

    def __post_init__(self) -> None:
        normalise(self)
        require_at_least(self, 1, "vocab_size", "context_length", "d_model", "num_layers", "num_heads", "d_ff")
        require_at_least(self, 1, "num_kv_heads", "head_dim")
        require(
            self.head_dim is not None or self.d_model % self.num_heads == 0,
            f"d_model {self.d_model} is not divisible by num_heads {self.num_heads}: "
            f"a head's width must be a whole number (here {self.d_model / self.num_heads:.2f})",
        )
        require(
            self.num_heads % self.kv_heads == 0,
            f"num_heads {self.num_heads} is not divisible by num_kv_heads {self.kv_heads}: "
            "each key and value head serves equally many query heads",
        )
        require(
            self.positions != "rope" or self.latent is not None or self.d_head % 2 == 0,
            f"{'d_model / num_heads' if self.head_dim is None else 'head_dim'} is {self.d_head}: "
            "rotary positions turn pairs, so a head's width must be even",
        )
        require(self.rope_theta > 0, f"rope_theta is {self.rope_theta}: it must be positive")
        require(self.norm_eps > 0, f"norm_eps is {self.norm_eps}: it must be positive")
        if self.experts is not None:
            dense = self.experts.num_dense_layers
            require(dense <= self.num_layers, f"num_dense_layers {dense} exceeds num_layers {self.num_layers}")
        self._check_described()

    def _check_described(self) -> None:
        """Refuse combinations that no formula here describes."""
        if self.latent is not None:
            require(self.positions == "rope", f"positions is {self.positions!r}: latent attention needs rope")
            require(not self.qk_norm, "qk_norm is True: latent attention norms its latent vectors instead")
            require(not self.bias, "bias is True: latent attention is described without")
            require(self.head_dim is None, f"head_dim is {self.head_dim}: latent attention has widths of its own")
            require(self.num_kv_heads is None, f"num_kv_heads is {self.num_kv_heads}: latent attention has none")
        if self.experts is not None:
            require(not self.bias, "bias is True: a mixture of experts is described without")

    @property
    def d_head(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.num_heads if self.head_dim is None else self.head_dim

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads
