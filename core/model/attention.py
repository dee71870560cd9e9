"""Causal multi-head self-attention with rotary positions."""

import einx
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from core.config import ModelConfig
from core.model import functional
from core.model.layers import Linear


class CausalSelfAttention(nn.Module):
    """Every position mixes values of itself and of earlier positions, in `num_heads` independent heads.

    Reference:
        Vaswani et al. (2017), section 3.2.2, arXiv:1706.03762: W^Q, W^K, W^V, W^O are our `q_proj` ... `o_proj`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.written_out = config.attention == "written_out"
        self.q_proj = Linear(config.d_model, config.d_model)
        self.k_proj = Linear(config.d_model, config.d_model)
        self.v_proj = Linear(config.d_model, config.d_model)
        self.o_proj = Linear(config.d_model, config.d_model)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Attend within each sequence.

        Args:
            x: `batch seq d_model`.
            cos: `seq pair`, from `functional.rotary_angles`.
            sin: `seq pair`.

        Returns:
            `batch seq d_model`.
        """
        query, key, value = (
            einx.id("batch seq (head d_head) -> batch head seq d_head", projection(x), head=self.num_heads)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = functional.apply_rotary(query, cos, sin), functional.apply_rotary(key, cos, sin)
        if self.written_out:
            seq = x.shape[-2]
            mixed = functional.attention(query, key, value, functional.causal_mask(seq, seq, x.device))
        else:
            mixed = scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.o_proj(einx.id("batch head seq d_head -> batch seq (head d_head)", mixed))
