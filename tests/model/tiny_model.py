"""What the tests of the model share: a small model in float64, its variants, and the same written with torch."""

import dataclasses

import torch
import torch.nn.functional as oracle

from core.config import ModelConfig
from core.model import functional
from core.model.transformer import Transformer

BATCH, SEQ = 2, 11
CONFIG = ModelConfig(
    vocab_size=53, context_length=13, d_model=30, num_layers=2, num_heads=3, d_ff=37, rope_theta=500.0, norm_eps=0.03
)
IDS = torch.randint(CONFIG.vocab_size, (BATCH, SEQ), generator=torch.Generator().manual_seed(5))
TARGETS = torch.randint(CONFIG.vocab_size, (BATCH, SEQ), generator=torch.Generator().manual_seed(7))
IMPLEMENTATIONS = ["sdpa", "written_out"]

VARIANTS = {
    "default": {},
    "silu": {"feed_forward": "silu"},
    "relu2": {"feed_forward": "relu2"},
    "grouped": {"num_heads": 15, "num_kv_heads": 5},
    "multi-query": {"num_kv_heads": 1},
    "wide heads": {"head_dim": 14},
    "grouped narrow heads": {"num_heads": 6, "num_kv_heads": 2, "head_dim": 4},
    "post-norm": {"norm_placement": "post"},
    "no norm": {"norm_placement": "none"},
    "no positions": {"positions": "none"},
    "no positions, odd heads": {"positions": "none", "num_heads": 6, "num_kv_heads": 3},
    "tied": {"tie_embeddings": True},
    "several": {
        "num_heads": 6, "num_kv_heads": 3, "head_dim": 8, "feed_forward": "relu2", "norm_placement": "post",
        "positions": "none", "tie_embeddings": True,
    },
}  # fmt: skip


def build(seed=3, **changes):
    """A float64 model whose gains are not all one."""
    model = Transformer(dataclasses.replace(CONFIG, **changes), seed).double()
    generator = torch.Generator().manual_seed(13)
    for name, parameter in model.named_parameters():
        if name.endswith("gain"):
            parameter.data.uniform_(0.5, 2.0, generator=generator)
    return model


def gradients(model, logits_of=None):
    """Of the mean loss, by the parameters' names; `logits_of` computes the logits if not the model itself."""
    logits = (logits_of or model)(IDS)
    loss = functional.cross_entropy(logits, TARGETS).mean()
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def by_hand(model, ids):
    """The same Transformer from torch's own functions, rotary positions as complex numbers."""
    config, seq = model.config, ids.shape[-1]
    pairs = torch.arange(config.d_head // 2, dtype=torch.float64)
    angles = torch.arange(seq)[:, None] * config.rope_theta ** (-2 * pairs / config.d_head)
    turn = torch.polar(torch.ones_like(angles), angles)
    served_by = [head * config.kv_heads // config.num_heads for head in range(config.num_heads)]

    def heads(x, number):
        return x.view(*x.shape[:-1], number, config.d_head).transpose(1, 2)

    def placed(x):
        if config.positions == "none":
            return x
        return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * turn).flatten(-2)

    def norm(x, module):
        return oracle.rms_norm(x, (config.d_model,), module.gain, config.norm_eps)

    def attend(attention, x):
        query = heads(oracle.linear(x, attention.q_proj.weight), config.num_heads)
        key = heads(oracle.linear(x, attention.k_proj.weight), config.kv_heads)
        value = heads(oracle.linear(x, attention.v_proj.weight), config.kv_heads)
        key, value = placed(key)[:, served_by], value[:, served_by]
        mixed = oracle.scaled_dot_product_attention(placed(query), key, value, is_causal=True)
        return oracle.linear(mixed.transpose(1, 2).flatten(-2), attention.o_proj.weight)

    def feed(module, x):
        up = oracle.linear(x, module.up_proj.weight)
        if config.feed_forward == "swiglu":
            up = oracle.silu(oracle.linear(x, module.gate_proj.weight)) * up
        else:
            up = oracle.silu(up) if config.feed_forward == "silu" else oracle.relu(up) ** 2
        return oracle.linear(up, module.down_proj.weight)

    x = oracle.embedding(ids, model.embedding.weight)
    for block in model.blocks:
        if config.norm_placement == "pre":
            x = x + attend(block.attention, norm(x, block.attention_norm))
            x = x + feed(block.feed_forward, norm(x, block.feed_forward_norm))
        elif config.norm_placement == "post":
            x = norm(x + attend(block.attention, x), block.attention_norm)
            x = norm(x + feed(block.feed_forward, x), block.feed_forward_norm)
        else:
            x = x + attend(block.attention, x)
            x = x + feed(block.feed_forward, x)
    if config.norm_placement == "pre":
        x = norm(x, model.final_norm)
    return oracle.linear(x, model.lm_head.weight)
