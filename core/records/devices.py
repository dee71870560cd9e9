"""Rows about devices, and about what a step does to one: memory and speed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRow:
    """One quantity measured on one device, table `devices`: a rate of matrix products, of copies, or the like."""

    device_id: str
    device: str
    device_name: str
    num_threads: int
    quantity: str
    """`gemm` (a square matrix product), `copy` (within the device's memory), `launch` (an addition to one element) or
    `memory` (how much there is)."""
    dtype: str | None
    """Of the inputs; `tf32` is float32 rounded to 10 bits of mantissa."""
    accumulate_dtype: str | None
    """In which torch asks for the sums of a matrix product."""
    size: int | None
    """Elements along an edge of the matrices (`gemm`), of each array (`copy`) or in all (`launch`)."""
    median_s: float | None
    """Of one operation, over blocks."""
    iqr_s: float | None
    """Interquartile range; null for a single block."""
    best_s: float | None
    """Of one operation, the fastest block: what bounds on time are made of."""
    blocks: int | None
    """How many blocks of operations were timed, in several rounds among the other quantities."""
    value: float
    """What follows from the median."""
    unit: str
    """`FLOP/s`, `B/s` (bytes read and bytes written added), `s` or `B`."""
    torch_version: str
    git_commit: str | None
    utc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRow:
    """Predicted beside measured memory of one training step, table `memory`; bytes are of the whole device."""

    bench_id: str
    """Of the measurement that it belongs to; the file's name."""
    device: str
    device_name: str
    case: str
    """What of memory the workload is full of, and how it departs from the usual."""
    config_json: str
    """Of the model."""
    batch_size: int
    seq: int
    precision: str
    optimizer: str
    checkpointing: bool
    predicted_bytes: int
    """At the peak: parameters, optimizer state, gradients, saved activations, temporaries."""
    predicted_moment: str
    """In which operation of the step the peak is expected."""
    measured_bytes: int
    parameter_bytes: int
    optimizer_bytes: int
    saved_predicted_bytes: int
    """Kept from forward to backward, parameters left out."""
    saved_measured_bytes: int
    torch_version: str
    git_commit: str | None
    utc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSpeedRow:
    """One turn of a contestant that trained beside others in one process, table `train_speed`."""

    bench_id: str
    """Of the measurement that it belongs to; the file's name."""
    case: str
    """Its name there: the contestant and its precision, or the step towards speed."""
    contestant: str
    """`ours`, `huggingface` (LlamaForCausalLM) or `torch` (a Llama of torch.nn's modules)."""
    precision: str
    compiled: bool
    optimizer: str
    batch_size: int
    context_length: int
    config_json: str
    """Of the whole run."""
    parameters: int
    """Of the model as it was built."""
    round: int
    """From 0; in each, every contestant has one turn, on the same batches."""
    warm_up: bool
    """Whether the round came before those that count; the first compiles."""
    steps: int
    """Of the turn, without a pause: the device was idle before the first and after the last alone."""
    step_s: float
    """Forward, backward, clipping and update, the mean of the turn's steps."""
    optimizer_s: float | None
    """What of it the optimizer took."""
    batch_s: float
    """Making one step's batch, not in `step_s`: a run does it while the device works on the step before."""
    step_tokens: int
    model_flop: float
    """Of a step, forward and backward, non-causal convention."""
    gemm_flop_per_s: float
    """Of the best square matrix product in the precision's dtype, measured at the beginning of the round."""
    peak_flop_per_s: float | None
    """What the maker says of the same; null where nobody named the device."""
    loss_nats: float
    """Mean over the batch of the turn's last step, before its update."""
    agrees: bool | None
    """Whether the losses of all steps were those of the first case, up to rounding; null later than the first steps."""
    peak_bytes: int | None
    """The most that the contestant held; null where a device cannot tell."""
    predicted_peak_bytes: int | None
    """What accounting says of the same, of our own model."""
    device: str
    device_name: str
    num_threads: int
    torch_version: str
    transformers_version: str | None
    git_commit: str | None
    utc: str
