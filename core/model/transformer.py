"""The language model: embedding, pre-norm blocks, final norm, output head."""

import torch
from torch import Tensor, nn

from core.config import ModelConfig
from core.model import functional
from core.model.attention import CausalSelfAttention
from core.model.layers import FEED_FORWARD, Embedding, Linear, RMSNorm, initialise


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)): pre-norm, two residual branches.

    Reference:
        Xiong et al. (2020), figure 1b, arXiv:2002.04745.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = CausalSelfAttention(config)
        self.feed_forward_norm = RMSNorm(config.d_model, config.norm_eps)
        self.feed_forward = FEED_FORWARD[config.feed_forward](config.d_model, config.d_ff)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """`batch seq d_model -> batch seq d_model`."""
        x = x + self.attention(self.attention_norm(x), cos, sin)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Transformer(nn.Module):
    """Token ids to the logits of each next token.

    Args:
        config: The architecture.
        seed: Initial weights are a function of it and the architecture alone.
    """

    def __init__(self, config: ModelConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.embedding = Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.num_layers))
        self.final_norm = RMSNorm(config.d_model, config.norm_eps)
        self.lm_head = Linear(config.d_model, config.vocab_size)
        if config.tie_embeddings:
            # As the head, not as the embedding: unit-variance rows would start the logits d_model times too wide.
            self.embedding.weight = self.lm_head.weight
        initialise(self, torch.Generator().manual_seed(seed))

    def hidden(self, ids: Tensor) -> Tensor:
        """The residual stream after the final norm: what the head reads.

        Args:
            ids: `batch seq`; any length, the rotary angles are made for it.

        Returns:
            `batch seq d_model`.
        """
        x = self.embedding(ids)
        positions = torch.arange(ids.shape[-1], device=ids.device)
        cos, sin = functional.rotary_angles(positions, self.config.d_head, self.config.rope_theta, x.dtype)
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.final_norm(x)

    def forward(self, ids: Tensor) -> Tensor:
        """`batch seq -> batch seq vocab`."""
        return self.lm_head(self.hidden(ids))
