"""Causal multi-head self-attention with rotary positions."""

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
        # batch seq (head d_head) -> batch head seq d_head and back. In plain torch: einx traces every new shape anew,
        # 11 ms each, and in generation every length is new (24 ms a token with it, 2 ms without).
        query, key, value = (
            projection(x).unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = functional.apply_rotary(query, cos, sin), functional.apply_rotary(key, cos, sin)
        if self.written_out:
            seq = x.shape[-2]
            mixed = functional.attention(query, key, value, functional.causal_mask(seq, seq, x.device))
        else:
            mixed = scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.o_proj(mixed.transpose(-3, -2).flatten(-2))
