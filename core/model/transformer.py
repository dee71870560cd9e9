"""The language model: embedding, blocks, final norm, output head."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from core.config import ModelConfig
from core.model import functional
from core.model.attention import CausalSelfAttention
from core.model.layers import Embedding, Identity, Linear, RMSNorm, feed_forward, initialise
from core.model.linear_cross_entropy import linear_cross_entropy

NOT_BUILT = {
    "feed_forward": ("gelu",),
    "norm": ("layer_norm",),
    "positions": ("learned",),
    "bias": (True,),
    "qk_norm": (True,),
    "attention": ("flash",),
}


def check_buildable(config: ModelConfig) -> None:
    """Raise ValueError that names the first field which only accounting understands."""
    for name, values in NOT_BUILT.items():
        if (value := getattr(config, name)) in values:
            raise ValueError(f"{name} is {value!r}: core.model does not build that (accounting describes it)")
    for name in ("experts", "latent"):
        if getattr(config, name) is not None:
            raise ValueError(f"{name} is given: core.model does not build that (accounting describes it)")


def _norm(config: ModelConfig) -> nn.Module:
    return Identity() if config.norm_placement == "none" else RMSNorm(config.d_model, config.norm_eps)


class TransformerBlock(nn.Module):
    """Two residual branches, attention and feed-forward, with their norms before, behind the sum, or without.

        pre: x + f(norm(x))        post: norm(x + f(x))        none: x + f(x)

    Reference:
        Xiong et al. (2020), figure 1: (b) is `pre`, (a) is `post`, arXiv:2002.04745.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.post_norm = config.norm_placement == "post"
        self.attention_norm = _norm(config)
        self.attention = CausalSelfAttention(config)
        self.feed_forward_norm = _norm(config)
        self.feed_forward = feed_forward(config.feed_forward, config.d_model, config.d_ff)

    def forward(self, x: Tensor, angles: Tensor | None) -> Tensor:
        """`batch seq d_model -> batch seq d_model`."""
        if self.post_norm:
            x = self.attention_norm(x + self.attention(x, angles))
            return self.feed_forward_norm(x + self.feed_forward(x))
        x = x + self.attention(self.attention_norm(x), angles)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Transformer(nn.Module):
    """Token ids to the logits of each next token.

    Args:
        config: The architecture.
        seed: Initial weights are a function of it and the architecture alone.

    Raises:
        ValueError: If the configuration describes what is not built here; the message names the field.
    """

    def __init__(self, config: ModelConfig, seed: int = 0) -> None:
        super().__init__()
        check_buildable(config)
        self.config = config
        self.activation_checkpointing = False
        """In training keep only each block's input and compute the block again in the backward: equal to the bit."""
        self.embedding = Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.num_layers))
        self.final_norm = _norm(config) if config.norm_placement == "pre" else Identity()
        self.lm_head = Linear(config.d_model, config.vocab_size)
        if config.tie_embeddings:
            # As the head, not as the embedding: unit-variance rows would start the logits d_model times too wide.
            self.embedding.weight = self.lm_head.weight
        initialise(self, torch.Generator().manual_seed(seed))
        self.register_buffer("rotary_table", None, persistent=False)
        self._form_rotary_table(config.context_length)

    def _form_rotary_table(self, length: int) -> None:
        """Cosines and sines of the first positions, `seq pair 2`: formed once, not in every step."""
        if self.config.positions == "rope":
            weight, config = self.embedding.weight, self.config
            positions = torch.arange(length, device="cpu")
            angles = functional.rotary_angles(positions, config.d_head, config.rope_theta, weight.dtype)
            self.rotary_table = torch.stack(angles, dim=-1).to(weight.device)

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> "Transformer":
        # What `to`, `double`, `cuda` ... go through. A converted table would keep the rounding of its former type.
        super()._apply(function, recurse)
        if self.rotary_table is not None:
            self._form_rotary_table(len(self.rotary_table))
        return self

    def hidden(self, ids: Tensor) -> Tensor:
        """The residual stream after the final norm: what the head reads.

        Args:
            ids: `batch seq`; any length, the table of rotary angles grows with it.

        Returns:
            `batch seq d_model`.
        """
        x, angles = self.embedding(ids), None
        if self.rotary_table is not None:
            if ids.shape[-1] > len(self.rotary_table):
                self._form_rotary_table(ids.shape[-1])
            angles = self.rotary_table[: ids.shape[-1]]
        again = self.activation_checkpointing and self.training and torch.is_grad_enabled()
        for block in self.blocks:
            # No random numbers are drawn in a block, so none need be kept.
            x = (
                checkpoint(block, x, angles, use_reentrant=False, preserve_rng_state=False)
                if again
                else block(x, angles)
            )
        return self.final_norm(x)

    def forward(
        self, ids: Tensor, targets: Tensor | None = None, *, chunk: int | None = None, z_loss: float = 0.0
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Logits, `batch seq -> batch seq vocab`; with targets, what `linear_cross_entropy` makes of them instead.

        One method for both, because what is wrapped around a model for training on several devices acts on this call.
        """
        if targets is None:
            return self.lm_head(self.hidden(ids))
        return linear_cross_entropy(self.hidden(ids), self.lm_head.weight, targets, chunk=chunk, z_loss=z_loss)
