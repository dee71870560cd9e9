"""A run: its model, data, optimizer and schedule, and how it is watched."""

from dataclasses import dataclass, field
from typing import Literal

from core.config.checks import check_name, normalise, require, require_at_least
from core.config.model import ModelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """AdamW, alone or beside Muon, with a global-norm gradient clip; names are those of `torch.optim.AdamW`."""

    kind: Literal["adamw", "muon"] = "adamw"
    """`muon`: Muon for the matrices of the blocks, AdamW for embedding, head and gains."""
    lr: float = 1e-3
    """AdamW's peak learning rate; the schedule says what fraction of it a step uses."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay rates of the running mean of the gradient and of its square."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    weight_decay: float = 0.1
    """Decoupled decay: every step shrinks a weight by the factor 1 - lr * weight_decay."""
    decayed: Literal["matrices", "all"] = "matrices"
    """What decays: the matrices of blocks and head, or embeddings and gains as well."""
    muon_lr: float = 0.02
    """Muon's peak learning rate; the schedule moves it in proportion to `lr`."""
    muon_momentum: float = 0.95
    """Decay rate of Muon's running sum of gradients."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down so that their global L2 norm does not exceed this."""

    def __post_init__(self) -> None:
        normalise(self)
        require(self.lr > 0, f"lr is {self.lr}: it must be positive")
        require(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            f"betas is {self.betas}: two numbers from 0 up to, but not including, 1",
        )
        require(self.eps > 0, f"eps is {self.eps}: it must be positive")
        require(self.weight_decay >= 0, f"weight_decay is {self.weight_decay}: it must not be negative")
        require(self.muon_lr > 0, f"muon_lr is {self.muon_lr}: it must be positive")
        require(
            0 <= self.muon_momentum < 1,
            f"muon_momentum is {self.muon_momentum}: it must be from 0 up to, but not including, 1",
        )
        require(self.max_grad_norm > 0, f"max_grad_norm is {self.max_grad_norm}: it must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate moves over a run: linear warm-up, then one of three descents or none."""

    kind: Literal["cosine", "linear", "wsd", "constant"] = "cosine"
    """`cosine` and `linear` descend from the end of warm-up; `wsd` (warm-up, stable, decay) holds, then descends;
    `constant` holds to the end."""
    warmup_steps: int = 0
    """Steps of linear rise from 0 to the peak."""
    decay_steps: int = 0
    """Length of the final descent in steps; used by `wsd` alone."""
    final_lr: float = 0.0
    """Learning rate at the last step of the run, and after it; `constant` has none."""

    def __post_init__(self) -> None:
        normalise(self)
        require_at_least(self, 0, "warmup_steps", "decay_steps", "final_lr")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Which tokens a run reads."""

    dataset: str
    """Name of a folder under `DATA/datasets`, made by `workbook data prepare` or by `workbook quickstart`."""
    eval_tokens: int = 131_072
    """Size of the fixed evaluation set: the first tokens of the validation file, cut back to a document's end."""

    def __post_init__(self) -> None:
        normalise(self)
        check_name(self.dataset, "dataset")
        require_at_least(self, 1, "eval_tokens")


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
    """Sequences per step, each `model.context_length` tokens, over all devices."""
    micro_batch_size: int | None = None
    """Sequences that pass through a device's model at once, their gradients summed until the step; None: all."""
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
    precision: Literal["float32", "tf32", "float64", "bfloat16-autocast"] = "float32"
    """`float32`, `float64`: of everything. `tf32`: float32 whose matrix products round their operands to 10 bits of
    mantissa (CUDA). `bfloat16-autocast`: float32 weights, statistics and residual stream, products in bfloat16."""
    compile: bool = False
    """Have `torch.compile` fuse the model's kernels: a minute or so once, faster steps after."""
    deterministic: bool = False
    """Only algorithms of one result, so that on CUDA, too, equal runs are bit-equal; slower there."""
    activation_checkpointing: bool = False
    """Keep only each block's input and compute the rest again in the backward: less memory, a third more products."""
    loss_chunk: int | None = None
    """Tokens whose logits exist at once; the others' losses and gradients come after. None: all logits at once."""
    z_loss: float = 0.0
    """Weight of the mean squared log-normaliser, added to what is minimised, not to what is reported."""
    ema_decay: float | None = None
    """Decay rate of a moving average of the weights, which is evaluated and generates in their place; None: none."""

    def __post_init__(self) -> None:
        normalise(self)
        check_name(self.name, "name")
        require_at_least(self, 1, "batch_size", "num_steps", "eval_every", "checkpoint_every", "keep_checkpoints")
        require_at_least(self, 1, "micro_batch_size", "loss_chunk")
        require(
            self.micro_batch_size is None or self.batch_size % self.micro_batch_size == 0,
            f"batch_size {self.batch_size} is not a multiple of micro_batch_size {self.micro_batch_size}",
        )
        require(self.z_loss >= 0, f"z_loss is {self.z_loss}: it must not be negative")
        require(
            self.ema_decay is None or 0 <= self.ema_decay < 1,
            f"ema_decay is {self.ema_decay}: it must be from 0 up to, but not including, 1",
        )
        require(0 <= self.seed < 2**63, f"seed is {self.seed}: it must be from 0 to 2^63 - 1")
        warmup, decay = self.schedule.warmup_steps, self.schedule.decay_steps
        require(
            warmup + decay <= self.num_steps,
            f"schedule.warmup_steps {warmup} + schedule.decay_steps {decay} exceed num_steps {self.num_steps}: "
            "lower them, or raise it",
        )
        require(
            self.schedule.kind != "constant" or self.schedule.final_lr == 0,
            f"schedule.final_lr is {self.schedule.final_lr}: the constant schedule ends where it was",
        )
        require(
            self.schedule.final_lr <= self.optimizer.lr,
            f"schedule.final_lr {self.schedule.final_lr} exceeds optimizer.lr {self.optimizer.lr}",
        )

    @property
    def batch_tokens(self) -> int:
        """Tokens that one step trains on."""
        return self.batch_size * self.model.context_length
