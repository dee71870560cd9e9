"""Three that train one model shape behind one face: this project's loop, Hugging Face's Llama, plain torch.

All start from the same weights and do the same arithmetic in their own way: mean cross-entropy over all targets,
gradients clipped by global norm, AdamW with the same groups at the schedule's rate. Their losses agree step by step up
to rounding, which is how one knows that they do the same work.
"""

import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.config import ModelConfig, RunConfig
from core.experiments.train_reference import TorchLlama
from core.schedules import learning_rate
from core.training.evaluation import EvaluationSet
from core.training.loop import Trainer
from core.training.numerics import autocast, weight_dtype

OURS = "ours"
_LLAMA = {
    "feed_forward": "swiglu",
    "norm": "rms_norm",
    "norm_placement": "pre",
    "positions": "rope",
    "bias": False,
    "qk_norm": False,
    "experts": None,
    "latent": None,
}
"""What a Llama is; sizes, groups of heads and tying are free."""
_HUGGING_FACE_NAMES = {
    "embedding.": "model.embed_tokens.",
    "final_norm.gain": "model.norm.weight",
    "blocks.": "model.layers.",
    ".attention_norm.gain": ".input_layernorm.weight",
    ".feed_forward_norm.gain": ".post_attention_layernorm.weight",
    ".attention.": ".self_attn.",
    ".feed_forward.": ".mlp.",
}


@dataclass(frozen=True, slots=True)
class Start:
    """Where all begin: our weights before the first step, and which of them decay how much."""

    weights: dict[str, Tensor]
    decays: dict[str, float]

    @classmethod
    def of(cls, ours: "Ours") -> "Start":
        """The start of a trainer that has not trained yet."""
        decay_of = {
            parameter: group["weight_decay"]
            for optimizer in ours.optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        named = dict(ours.model.named_parameters())
        return cls(
            weights={name: parameter.detach().clone() for name, parameter in named.items()},
            decays={name: decay_of[parameter] for name, parameter in named.items()},
        )


class Contestant(Protocol):
    """Something that trains."""

    model: nn.Module
    optimizers: list[torch.optim.Optimizer]
    optimizer_name: str

    def update(self, inputs: Tensor, targets: Tensor, step: int) -> Tensor:
        """Make one optimizer step; the mean loss before it, nats, on the device."""


class Ours:
    """This project's training step, whatever the configuration says."""

    package = "lm-workbook"

    def __init__(self, config: RunConfig, tokens: np.ndarray) -> None:
        nothing = EvaluationSet(tokens[: config.model.context_length], None, 1, None)
        self._trainer = Trainer(config, tokens, nothing, OURS)
        self.model = self._trainer.model
        self.optimizers = list(self._trainer.optimizers)
        self.optimizer_name = config.optimizer.kind

    def update(self, inputs: Tensor, targets: Tensor, step: int) -> Tensor:
        """One step of the trainer."""
        return self._trainer.update(inputs, targets, step)[0]


class _Other:
    """What the other two share: weights copied, torch's clipping and AdamW, autocast and compilation as asked for.

    A whole batch passes at once: micro-batches, chunks of the loss and checkpointing are options of ours.

    Args:
        config: Its optimizer, schedule, precision and `compile` are followed.
        start: Of a trainer of the same model.

    Raises:
        ValueError: If the model is no Llama; names the field.
    """

    package = "torch"
    fused = False

    def __init__(self, config: RunConfig, start: Start) -> None:
        check_llama(config.model)
        self._config = config
        self.model = self.build(config.model).to(device=config.device, dtype=weight_dtype(config.precision))
        own = dict(self.model.named_parameters())
        names = {self.name_of(name): name for name in start.weights}
        assert own.keys() == names.keys(), own.keys() ^ names.keys()
        with torch.no_grad():
            for name, parameter in own.items():
                weight = start.weights[names[name]]
                if "q_proj" in name or "k_proj" in name:
                    weight = halves_from_interleaved(weight, config.model.d_head)
                parameter.copy_(weight)
        groups: dict[float, list[Tensor]] = {}
        for name, parameter in own.items():
            groups.setdefault(start.decays[names[name]], []).append(parameter)
        options = config.optimizer
        fused = self.fused and torch.device(config.device).type in ("cpu", "cuda", "mps")
        optimizer = torch.optim.AdamW(
            [{"params": parameters, "weight_decay": decay} for decay, parameters in groups.items()],
            lr=options.lr,
            betas=options.betas,
            eps=options.eps,
            fused=fused or None,  # None leaves the choice to torch: one call for many parameters where it has that
        )
        self.optimizers = [optimizer]
        self.optimizer_name = f"torch.optim.AdamW{'(fused=True)' if fused else ''}"
        self._loss: Callable[[Tensor, Tensor], Tensor] = torch.compile(self.loss) if config.compile else self.loss

    def build(self, config: ModelConfig) -> nn.Module:
        """The model, with weights that will be overwritten."""
        raise NotImplementedError

    def name_of(self, ours: str) -> str:
        """What its parameter is called that is `ours` here."""
        raise NotImplementedError

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The mean cross-entropy of a batch."""
        raise NotImplementedError

    def update(self, inputs: Tensor, targets: Tensor, step: int) -> Tensor:
        """Forward, backward, clipping, AdamW."""
        config, (optimizer,) = self._config, self.optimizers
        optimizer.zero_grad(set_to_none=True)
        with autocast(config):
            loss = self._loss(inputs, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), config.optimizer.max_grad_norm)
        lr = learning_rate(step, max_lr=config.optimizer.lr, num_steps=config.num_steps, schedule=config.schedule)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        return loss.detach()


class HuggingFace(_Other):
    """`LlamaForCausalLM` with its own loss, `scaled_dot_product_attention` and torch's fused AdamW."""

    package = "transformers"
    fused = True

    def build(self, config: ModelConfig) -> nn.Module:
        """A Llama from transformers."""
        from transformers import LlamaConfig, LlamaForCausalLM

        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=config.vocab_size,
                hidden_size=config.d_model,
                intermediate_size=config.d_ff,
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.num_heads,
                num_key_value_heads=config.kv_heads,
                head_dim=config.d_head,
                max_position_embeddings=config.context_length,
                rms_norm_eps=config.norm_eps,
                rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
                tie_word_embeddings=config.tie_embeddings,
                attn_implementation="sdpa",
                use_cache=False,
            )
        ).train()

    def name_of(self, ours: str) -> str:
        """Hugging Face's name of a parameter."""
        for part, theirs in _HUGGING_FACE_NAMES.items():
            ours = ours.replace(part, theirs)
        return ours

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Its own loss; targets that are shifted already, so that it drops none and averages over all."""
        targets = targets.contiguous()
        return self.model(input_ids=inputs, labels=targets, shift_labels=targets).loss


class PlainTorch(_Other):
    """A Llama from `torch.nn` as one writes it in an afternoon, and torch's AdamW as it comes."""

    def build(self, config: ModelConfig) -> nn.Module:
        """`TorchLlama`."""
        return TorchLlama(config)

    def name_of(self, ours: str) -> str:
        """`TorchLlama` names its modules as we do."""
        return ours.replace(".gain", ".weight")

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The mean over all targets."""
        return F.cross_entropy(self.model(inputs).flatten(0, 1), targets.flatten())


def halves_from_interleaved(weight: Tensor, d_head: int) -> Tensor:
    """Rows of each head reordered for rotary positions: our pair (2 i, 2 i + 1) is (i, i + d_head / 2) elsewhere.

    Args:
        weight: `(head d_head) d_model`, of queries or keys.
        d_head: Width of a head.
    """
    return weight.unflatten(0, (-1, d_head // 2, 2)).transpose(1, 2).flatten(0, 2)


def check_llama(model: ModelConfig) -> None:
    """Raise ValueError that names the first field in which a model is no Llama."""
    for name, value in _LLAMA.items():
        if (given := getattr(model, name)) != value:
            raise ValueError(f"model.{name} is {given!r}: the others train a Llama, where it is {value!r}")


OTHERS: dict[str, type[_Other]] = {"huggingface": HuggingFace, "torch": PlainTorch}


def installed(contestant: str) -> bool:
    """Whether the library that a contestant needs is there."""
    return contestant == OURS or importlib.util.find_spec(OTHERS[contestant].package) is not None


def transformers_version() -> str | None:
    """Null where it is not installed."""
    try:
        return importlib.metadata.version("transformers")
    except importlib.metadata.PackageNotFoundError:
        return None
