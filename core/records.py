"""The rows of `results/`: each dataclass is the schema of one parquet table. Missing is null, never 0."""

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
class TokenizerSpeedRow:
    """One measurement of a tokenizer's work, table `tokenizer_speed`: one engine, once."""

    bench_id: str
    """Of the run that it belongs to, in which the engines took turns; the file's name."""
    work: str
    """`compile` (the first use of compiled code on this machine), `train`, `encode_cold` (text file to token file in a
    fresh process), `encode_warm` (again in that process), `short_50`, `short_200`, `short_1000` (strings of so many
    characters to lists), `decode` (a list to text), `decode_bytes` (an array to bytes)."""
    engine: str
    """`ours` (the fast engine), `ours-reference`, or the library."""
    package_version: str | None
    corpus: str
    corpus_bytes: int
    corpus_sha256: str
    vocab_size: int
    """Asked for in training; every engine encodes with the vocabulary that ours trained on the corpus."""
    num_threads: int
    """Threads, and cores where the system lets a process be kept to some."""
    repeat: int
    """From 0."""
    wall_s: float
    """Of the work alone, the libraries imported and the vocabulary loaded."""
    process_s: float | None
    """From the start of the process to the end of the work; null where a process did other work before."""
    cpu_s: float
    """Of all threads during the work."""
    unwritten_s: float | None
    """What of `wall_s` had passed before the writing, where an engine holds the whole result in memory first."""
    peak_rss_bytes: int | None
    """Of the process up to the end of the work; null where several engines share one."""
    text_bytes: int
    """Of text read or made."""
    tokens: int
    """Ids written, lists' ids together, or in training the merges made."""
    calls: int
    agrees: bool | None
    """Whether the result is ours: the same ids, text or, in training, tokens in the same order."""
    device_name: str
    python_version: str
    numba_version: str | None
    git_commit: str | None
    utc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionRow:
    """What a tokenizer makes of a text, table `tokenizer_compression`.

    The text of a corpus is its pre-tokens; the markers that end its documents cut it and are counted nowhere.
    """

    study_id: str
    """Of the measurement that it belongs to; the file's name."""
    trained_on: str
    """Name of the corpus whose training part made the vocabulary."""
    train_bytes: int
    vocab_size: int
    """256 bytes and the merges: what training for the largest size gives, cut off here."""
    encoded: str
    """Name of the corpus whose text was encoded."""
    part: str
    """`held-out` (no vocabulary has seen it) or `training`."""
    text_sha256: str
    text_bytes: int
    tokens: int
    used_tokens: int
    """Distinct tokens that occur."""
    git_commit: str | None
    utc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FrequencyRow:
    """How often a piece of a corpus occurs in both of its parts, table `tokenizer_frequency`: a choice of the ranks."""

    study_id: str
    corpus: str
    vocab_size: int | None
    """Of the corpus's own vocabulary that cuts it into tokens; null where the pieces are pre-tokens."""
    kind: str
    """`rank` (the ranks of the pieces, evenly spread on a logarithmic scale) or `longest` (the longest tokens, which
    need not occur)."""
    rank: int
    """From 1: by count, or by length in bytes."""
    count: int
    piece: bytes
    git_commit: str | None
    utc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowthRow:
    """How many distinct pre-tokens the first bytes of a corpus hold, table `tokenizer_growth`."""

    study_id: str
    corpus: str
    read_bytes: int
    distinct_pre_tokens: int
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
