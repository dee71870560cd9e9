"""What a run is: frozen dataclasses whose every field is final.

Nothing downstream rescales, rounds or defaults a field again; what can be derived is a property. Variants are made with
`dataclasses.replace`, grids with comprehensions.
"""

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def check_name(name: str, what: str) -> None:
    """Raise ValueError unless a name can be that of one folder or file."""
    _require(
        bool(name) and not set(name) & set("/\\\0") and not name.startswith("."),
        f"{what} is {name!r}: it must be a plain name, not a path, and not begin with a dot",
    )


def _normalise(config: Any) -> None:
    """Refuse values that are not of their field's type; make whole numbers in float fields floats.

    Otherwise `lr=1` and `lr=1.0` would be equal configurations with different canonical JSON.
    """
    for entry in dataclasses.fields(config):
        value = getattr(config, entry.name)
        numbers = value if entry.type == tuple[float, float] and isinstance(value, tuple | list) else (value,)
        if entry.type in (float, tuple[float, float]):
            ok = all(type(number) in (int, float) and math.isfinite(number) for number in numbers)
            _require(ok, f"{entry.name} is {value!r}: it must be finite")
            numbers = tuple(float(number) for number in numbers)
            object.__setattr__(config, entry.name, numbers[0] if entry.type is float else numbers)
        elif entry.type in (int, bool, str):
            _require(type(value) is entry.type, f"{entry.name} is {value!r}: it must be of type {entry.type.__name__}")


def _require_at_least(config: object, minimum: float, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _require(value >= minimum, f"{name} is {value}: it must be at least {minimum}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A decoder-only Transformer: pre-norm RMSNorm blocks, rotary positions, causal multi-head attention."""

    vocab_size: int
    """Rows of the embedding table and of the output head."""
    context_length: int
    """Longest sequence the model is trained on, in tokens."""
    d_model: int
    """Width of the residual stream."""
    num_layers: int
    """Number of blocks (attention, then feed-forward)."""
    num_heads: int
    """Attention heads; must divide `d_model`."""
    d_ff: int
    """Width of the feed-forward's hidden layer."""
    feed_forward: Literal["swiglu", "silu"] = "swiglu"
    """`swiglu`: down(silu(gate x) * up x), three matrices. `silu`: down(silu(up x)), two matrices, no gate."""
    rope_theta: float = 10_000.0
    """Base of the rotary frequencies; larger turns more slowly with position."""
    norm_eps: float = 1e-5
    """Added to the mean square in RMSNorm."""
    tie_embeddings: bool = False
    """Use the embedding table as the output head as well (initialised as the head, a linear layer, would be)."""
    attention: Literal["sdpa", "written_out"] = "sdpa"
    """Which of two equal implementations: torch's `scaled_dot_product_attention`, or the formula term by term."""

    def __post_init__(self) -> None:
        _normalise(self)
        _require_at_least(self, 1, "vocab_size", "context_length", "d_model", "num_layers", "num_heads", "d_ff")
        _require(
            self.d_model % self.num_heads == 0,
            f"d_model {self.d_model} is not divisible by num_heads {self.num_heads}: "
            f"a head's width must be a whole number (here {self.d_model / self.num_heads:.2f})",
        )
        _require(
            self.d_head % 2 == 0,
            f"d_model / num_heads is {self.d_head}: rotary positions turn pairs, so a head's width must be even",
        )
        _require(self.rope_theta > 0, f"rope_theta is {self.rope_theta}: it must be positive")
        _require(self.norm_eps > 0, f"norm_eps is {self.norm_eps}: it must be positive")
        _require(self.feed_forward in ("swiglu", "silu"), f"feed_forward is {self.feed_forward!r}: swiglu or silu")
        _require(self.attention in ("sdpa", "written_out"), f"attention is {self.attention!r}: sdpa or written_out")

    @property
    def d_head(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.num_heads


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """AdamW with a global-norm gradient clip; argument names are those of `torch.optim.AdamW`."""

    lr: float = 1e-3
    """Peak learning rate; the schedule says what fraction of it a step uses."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay rates of the running mean of the gradient and of its square."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    weight_decay: float = 0.1
    """Decoupled decay: every step shrinks a weight by the factor 1 - lr * weight_decay."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down so that their global L2 norm does not exceed this."""

    def __post_init__(self) -> None:
        _normalise(self)
        _require(self.lr > 0, f"lr is {self.lr}: it must be positive")
        _require(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            f"betas is {self.betas}: two numbers from 0 up to, but not including, 1",
        )
        _require(self.eps > 0, f"eps is {self.eps}: it must be positive")
        _require(self.weight_decay >= 0, f"weight_decay is {self.weight_decay}: it must not be negative")
        _require(self.max_grad_norm > 0, f"max_grad_norm is {self.max_grad_norm}: it must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate moves over a run: linear warm-up, then one of three descents."""

    kind: Literal["cosine", "linear", "wsd"] = "cosine"
    """`cosine` and `linear` descend from the end of warm-up; `wsd` (warm-up, stable, decay) holds, then descends."""
    warmup_steps: int = 0
    """Steps of linear rise from 0 to the peak."""
    decay_steps: int = 0
    """Length of the final descent in steps; used by `wsd` alone."""
    final_lr: float = 0.0
    """Learning rate at the last step of the run, and after it."""

    def __post_init__(self) -> None:
        _normalise(self)
        _require(self.kind in ("cosine", "linear", "wsd"), f"kind is {self.kind!r}: cosine, linear or wsd")
        _require_at_least(self, 0, "warmup_steps", "decay_steps", "final_lr")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Which tokens a run reads."""

    dataset: str
    """Name of a folder under `DATA/datasets`, made by `workbook data prepare` or by `workbook quickstart`."""
    eval_tokens: int = 131_072
    """Size of the fixed evaluation set: the first tokens of the validation file, cut back to a document's end."""

    def __post_init__(self) -> None:
        _normalise(self)
        check_name(self.dataset, "dataset")
        _require_at_least(self, 1, "eval_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """What is trained on what and how it is watched: two runs of equal configuration and data have equal losses."""

    name: str
    """What the run is called; its id is this and a hash of the whole configuration."""
    model: ModelConfig
    data: DataConfig
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    batch_size: int
    """Sequences per step, each `model.context_length` tokens."""
    num_steps: int
    """Optimizer steps of the whole run."""
    seed: int = 0
    """Decides initial weights, batches and samples, each through a stream of its own."""
    eval_every: int = 100
    """Steps between evaluations; the first and the last step are always evaluated."""
    checkpoint_every: int = 200
    """Steps between checkpoints; one is always written at the end."""
    keep_checkpoints: int = 2
    """How many of the latest checkpoints stay on disk, the best one besides."""
    device: str = "auto"
    """`auto` (the first of cuda, mps, cpu that is there), or a torch device such as `cpu`, `mps`, `cuda:1`."""
    dtype: Literal["float32", "float64"] = "float32"
    """Type of weights and activations."""

    def __post_init__(self) -> None:
        _normalise(self)
        check_name(self.name, "name")
        _require_at_least(self, 1, "batch_size", "num_steps", "eval_every", "checkpoint_every", "keep_checkpoints")
        _require(0 <= self.seed < 2**63, f"seed is {self.seed}: it must be from 0 to 2^63 - 1")
        _require(self.dtype in ("float32", "float64"), f"dtype is {self.dtype!r}: float32 or float64")
        warmup, decay = self.schedule.warmup_steps, self.schedule.decay_steps
        _require(
            warmup + decay <= self.num_steps,
            f"schedule.warmup_steps {warmup} + schedule.decay_steps {decay} exceed num_steps {self.num_steps}",
        )
        _require(
            self.schedule.final_lr <= self.optimizer.lr,
            f"schedule.final_lr {self.schedule.final_lr} exceeds optimizer.lr {self.optimizer.lr}",
        )

    @property
    def batch_tokens(self) -> int:
        """Tokens that one step trains on."""
        return self.batch_size * self.model.context_length


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as nested plain dictionaries in the order of its fields, ready for JSON or YAML."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def canonical_json(config: Any) -> str:
    """The one JSON text of a configuration: sorted keys, no spaces."""
    return json.dumps(dataclasses.asdict(config), sort_keys=True, separators=(",", ":"))


def config_id(config: Any) -> str:
    """SHA-256 of the canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical_json(config).encode()).hexdigest()
