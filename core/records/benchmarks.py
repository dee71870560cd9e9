"""Rows of the benchmark grids."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkRow:
    """One phase of one configuration, timed on one device beside its prediction, table `benchmarks`.

    A column that means nothing for what is measured is null: a softmax has no vocabulary.
    """

    bench_id: str
    """Of the grid on the device; the file's name."""
    point_id: str
    """A hash of what is measured, the phase left out: the subject, all axes, the configuration."""
    subject: str
    """`model`, or of micro-benchmarks `gemm`, `attention`, `softmax`, `rms_norm`, `cross_entropy`, `optimizer`."""
    phase: str
    """`forward` (to the logits), `forward_loss` (to the loss), `backward`, `optimizer` (clipping and update) or `step`
    (all of a training step); of micro-benchmarks `forward`, `backward` or `optimizer`."""
    batch_size: int | None
    context_length: int | None
    """Tokens of each sequence; all are computed."""
    d_model: int | None
    num_heads: int | None
    d_head: int | None
    num_layers: int | None
    d_ff: int | None
    vocab_size: int | None
    precision: str
    """A name of `core.accounting.PRECISIONS`."""
    attention: str | None
    """The implementation: `written_out`, `sdpa`; of micro-benchmarks also `flash`."""
    compiled: bool
    optimizer: str | None
    """A name of `core.accounting.OPTIMIZERS`."""
    config_json: str | None
    """Of the model; null for micro-benchmarks."""
    status: str
    """`ok`, `skipped_memory` (predicted not to fit, never tried), `out_of_memory` (tried) or `error`."""
    message: str | None
    """Why there is no measurement."""
    median_s: float | None
    """Over rounds; of a round, over its blocks."""
    iqr_s: float | None
    """Interquartile range over rounds; null for fewer than five."""
    num_blocks: int | None
    """In all rounds."""
    runs_per_block: int | None
    relative_median: float | None
    """Median over rounds of the time over that of a reference product (square, float32) beside it: free of how fast the
    machine happened to be."""
    relative_iqr: float | None
    """Interquartile range over rounds; null for fewer than five."""
    reference_s: float | None
    """Median over rounds of the reference product's time."""
    attempts: int | None
    """Visits to the point, spread over the grid's whole time: those that the grid asks for, and up to three more while
    the spread was too large."""
    noisy: bool | None
    """Whether the spread stayed too large: relative_iqr / relative_median above 5 %, on a CPU above 10 %."""
    round_s: tuple[float, ...] | None
    """The time of each round, median over its blocks."""
    round_reference_s: tuple[float, ...] | None
    """Of each round, the reference product's, mean of before and after."""
    round_visit: tuple[int, ...] | None
    """Of each round, which visit it belongs to, the first is 1."""
    warm_up_s: float | None
    """The first call: compiling, choosing kernels, filling caches. In no other time."""
    phases_over_step: float | None
    """(forward_loss + backward + optimizer) / step, of relative medians; in the row of the step."""
    adds_up: bool | None
    """Whether that is within 5 % of 1."""
    peak_bytes: int | None
    """The most that lived at once, everything counted, in the row of the step; null where the device cannot tell."""
    predicted_peak_bytes: int | None
    predicted_flop: float
    """Operations of the phase's matrix products, the non-causal model convention."""
    predicted_bytes: float
    """Read and written if each operation is one kernel (ideal)."""
    predicted_s: float | None
    """The roofline, which no measurement may beat: traffic counts as far as no cache can hold it. Null where the device
    has not been measured (`workbook device measure`)."""
    memory_bytes: int
    """Of the device."""
    device: str
    device_name: str
    num_threads: int
    torch_version: str
    git_commit: str | None
    utc: str

    def __post_init__(self) -> None:
        for name in ("round_s", "round_reference_s", "round_visit"):  # lists, as they come from a file
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))
