"""Rows about tokenizers."""

from dataclasses import dataclass


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
