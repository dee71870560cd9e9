"""Rows about runs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """One step of a run, table `steps`. Step 0 is the untrained model, evaluated and nothing else."""

    run_id: str
    step: int
    """Optimizer steps done."""
    tokens: int
    """Tokens trained on so far."""
    elapsed_s: float
    """Seconds of training so far; evaluation and checkpoints are left out."""
    model_flop: float
    """Floating-point operations so far, forward and backward, the non-causal model convention (accounting)."""
    train_loss_nats: float | None
    """Mean over the step's batch, before the update."""
    eval_loss_nats: float | None
    """Mean over the fixed evaluation set, after the update; null at steps without an evaluation."""
    lr: float | None
    grad_norm: float | None
    """Global L2 norm before clipping."""
    tokens_per_s: float | None
    """Of this step alone."""
    segment: int
    """How often the run had been resumed when this step was made."""
    stall_s: float | None = None
    """Of this step's time, what was spent waiting for its batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run, table `runs`."""

    run_id: str
    name: str
    config_id: str
    config_json: str
    dataset_id: str
    tokenizer_id: str
    seed: int
    status: str
    """`finished`, `stopped` (by the user; it can be resumed) or `diverged` (a loss that is not finite)."""
    steps: int
    tokens: int
    elapsed_s: float
    parameters: int
    model_flop: float
    eval_tokens: int
    """Size of the evaluation set."""
    eval_bytes: int
    """The same in bytes of text, for bits per byte."""
    eval_loss_nats: float | None
    """The last evaluation, nats per token."""
    eval_step: int | None
    """The step after which it was made; a stopped run may have gone on since."""
    best_eval_loss_nats: float | None
    eval_bits_per_byte: float | None
    """The last evaluation, comparable across tokenizers."""
    floor_loss_nats: float | None
    """Exact mean of -log P(token) over the evaluation set under the process that wrote it; null where it is not known.
    No model's expected loss is lower; on one set a good model's may be, by luck."""
    device: str
    device_name: str
    world_size: int | None = None
    """Processes that trained it together, each with a device of its own, when the row was written."""
    parallel: str | None = None
    """How they shared the model: `ddp` (each holds all of it) or `fsdp` (each a part); null for a single one."""
    peak_bytes: int | None = None
    """The most memory that a device of the run held at once; null where a device cannot tell."""
    predicted_peak_bytes: int | None = None
    """What accounting says of the same."""
    num_threads: int
    torch_version: str
    git_commit: str | None
    """Of the code; `-dirty` is added where it had uncommitted changes."""
    utc: str
    """When the row was written, ISO 8601."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRow:
    """One text that a run's model wrote, table `samples`."""

    run_id: str
    sample: int
    prompt: str
    text: str
    """What followed the prompt."""
    temperature: float
    top_k: int | None
    top_p: float | None
    seed: int
