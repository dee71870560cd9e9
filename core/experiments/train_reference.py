"""A Llama of torch's own modules, as plain as it can be: what the training benchmark measures ours against."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.config import ModelConfig


class TorchLlama(nn.Module):
    """Embedding, pre-norm blocks, norm, head, of torch's own modules. Ids to logits."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(_TorchBlock(config) for _ in range(config.num_layers))
        self.final_norm = nn.RMSNorm(config.d_model, config.norm_eps)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.embedding.weight
        pair = torch.arange(config.d_head // 2, dtype=torch.float64)
        angles = torch.outer(torch.arange(config.context_length), config.rope_theta ** (-2 * pair / config.d_head))
        for name, turned in (("cos", angles.cos()), ("sin", angles.sin())):
            self.register_buffer(name, torch.cat((turned, turned), dim=-1), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """`batch seq -> batch seq vocab`."""
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, self.cos[: ids.shape[1]], self.sin[: ids.shape[1]])
        return self.lm_head(self.final_norm(x))


class _TorchBlock(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        query_width, key_width = config.num_heads * config.d_head, config.kv_heads * config.d_head
        self.d_head = config.d_head
        self.attention_norm = nn.RMSNorm(config.d_model, config.norm_eps)
        self.attention = nn.ModuleDict(
            {
                "q_proj": nn.Linear(config.d_model, query_width, bias=False),
                "k_proj": nn.Linear(config.d_model, key_width, bias=False),
                "v_proj": nn.Linear(config.d_model, key_width, bias=False),
                "o_proj": nn.Linear(query_width, config.d_model, bias=False),
            }
        )
        self.feed_forward_norm = nn.RMSNorm(config.d_model, config.norm_eps)
        self.feed_forward = nn.ModuleDict(
            {
                "gate_proj": nn.Linear(config.d_model, config.d_ff, bias=False),
                "up_proj": nn.Linear(config.d_model, config.d_ff, bias=False),
                "down_proj": nn.Linear(config.d_ff, config.d_model, bias=False),
            }
        )

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        normed, attention, feed = self.attention_norm(x), self.attention, self.feed_forward
        query, key, value = (
            attention[name](normed).unflatten(-1, (-1, self.d_head)).transpose(1, 2)
            for name in ("q_proj", "k_proj", "v_proj")
        )
        query, key = (part * cos + _quarter_turn(part) * sin for part in (query, key))
        grouped = query.shape[1] != key.shape[1]
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=grouped)
        x = x + attention["o_proj"](mixed.transpose(1, 2).flatten(-2))
        normed = self.feed_forward_norm(x)
        return x + feed["down_proj"](F.silu(feed["gate_proj"](normed)) * feed["up_proj"](normed))


def _quarter_turn(x: Tensor) -> Tensor:
    """Each pair (a, b) to (-b, a), the partners half a head apart."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)
