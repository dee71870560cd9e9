"""Models of small primes in every variant that `core.model` builds, and what torch counts of them."""

import itertools

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from core.accounting import account
from core.config import ModelConfig
from core.model.linear_cross_entropy import linear_cross_entropy
from core.model.transformer import Transformer

BATCH = 2
SIZES = {"vocab_size": 53, "context_length": 11, "d_model": 29, "head_dim": 14, "num_layers": 3, "d_ff": 37}
PRECISIONS = {"float32": False, "bfloat16-autocast": True}


def variants(attention: str = "") -> list[ModelConfig]:
    """Grouped heads x positions, and from the plain model one step in every other direction."""
    others = [{}, *({"norm_placement": place} for place in ("post", "none")), {"tie_embeddings": True}]
    others += [{"feed_forward": kind} for kind in ("silu", "relu2")]
    return [
        ModelConfig(num_heads=6, num_kv_heads=kv_heads, positions=positions, attention=chosen, **SIZES, **other)
        for chosen, kv_heads, positions, other in itertools.product(
            [attention] if attention else ["written_out", "sdpa"], [1, 2, 6], ["rope", "none"], others
        )
        if kv_heads != 1 or not other
    ]


def label(model: ModelConfig) -> str:
    words = [model.attention, f"{model.kv_heads}of{model.num_heads}", model.positions, model.norm_placement]
    return "-".join([*words, model.feed_forward, "tied" if model.tie_embeddings else "untied"])


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets, each a tensor of its own."""
    ids = torch.arange(BATCH * SIZES["context_length"]).view(BATCH, -1) % SIZES["vocab_size"]
    return ids, ids.flip(0).clone()


def training_loss(
    model: Transformer, ids: torch.Tensor, targets: torch.Tensor, autocast: bool = False, chunk: int | None = None
) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        return linear_cross_entropy(model.hidden(ids), model.lm_head.weight, targets, chunk=chunk)[0]


def costs_of(model: ModelConfig, precision: str = "float32", **workload):
    return account(model, batch_size=BATCH, precision=precision, **workload)


class MovedBytes(TorchDispatchMode):
    """What every kernel reads and writes: views move nothing, lookups what they look up, single numbers are nothing."""

    LOOKUPS = ("aten.index_select.default", "aten.gather.default")

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = str(function)
        views = ("aten.detach.default", "aten._unsafe_view.default")
        if function.is_view or function.namespace != "aten" or name in views:
            return result
        read, written = (
            [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor) and leaf.dim() > 0]
            for tree in ((args, kwargs or {}), result)
        )
        if name in self.LOOKUPS:
            read = [*read[1:], *written]
        elif name == "aten.scatter_.src":
            read, written = read[1:], read[2:]
        elif name in ("aten.new_zeros.default", "aten.new_ones.default"):
            read = []
        elif name == "aten.empty_like.default":
            return result
        self.bytes += sum(tensor.nbytes for tensor in [*read, *written])
        return result
