"""Causal multi-head self-attention with rotary positions."""

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from core.config import ModelConfig
from core.model import eager, functional
from core.model.layers import Linear


class CausalSelfAttention(nn.Module):
    """Every position mixes values of itself and of earlier positions, in `num_heads` independent heads.

    With fewer key and value heads than query heads, each of the former serves a group of consecutive query heads.

    Reference:
        Vaswani et al. (2017), section 3.2.2, arXiv:1706.03762: W^Q, W^K, W^V, W^O are our `q_proj` ... `o_proj`.
        Groups: Ainslie et al. (2023), section 2.2, arXiv:2305.13245.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.d_head = config.d_head
        self.written_out = config.attention == "written_out"
        query_width, key_width = config.num_heads * config.d_head, config.kv_heads * config.d_head
        self.q_proj = Linear(config.d_model, query_width)
        self.k_proj = Linear(config.d_model, key_width)
        self.v_proj = Linear(config.d_model, key_width)
        self.o_proj = Linear(query_width, config.d_model)

    def forward(self, x: Tensor, angles: Tensor | None) -> Tensor:
        """Attend within each sequence.

        Args:
            x: `batch seq d_model`.
            angles: Of the positions of x, `seq pair 2` (cosine, sine); None leaves queries and keys without positions.

        Returns:
            `batch seq d_model`.
        """
        # batch seq (head d_head) -> batch seq head d_head. In plain torch: einx traces every new shape anew, 11 ms
        # each, and in generation every length is new (24 ms a token with it, 2 ms without).
        query, key, value = (
            projection(x).unflatten(-1, (-1, self.d_head)) for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        if angles is not None:
            query, key = eager.apply_rotary(query, angles), eager.apply_rotary(key, angles)
        query, key, value = (heads.transpose(-3, -2) for heads in (query, key, value))
        group = query.shape[-3] // key.shape[-3]
        if self.written_out:
            if group > 1:
                key, value = (shared.repeat_interleave(group, dim=-3) for shared in (key, value))
            seq = x.shape[-2]
            mixed = functional.attention(query, key, value, functional.causal_mask(seq, seq, x.device))
        else:
            mixed = scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=group > 1)
        return self.o_proj(mixed.transpose(-3, -2).flatten(-2))
