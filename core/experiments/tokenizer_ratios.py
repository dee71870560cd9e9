"""How the engines of a tokenizer benchmark compare. Needs neither torch nor the engines."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from core.records import TokenizerSpeedRow

OURS = "ours"
Case = tuple[str, int, str, str]
"""Corpus, vocabulary size, work, engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How many times as long as ours an engine takes, over the repeats."""

    median: float
    lowest: float
    highest: float


def ratios(rows: Iterable[TokenizerSpeedRow]) -> dict[Case, Ratio]:
    """How many times as long as ours each engine takes; of measurements of the same repeat, which followed each other.

    Returns:
        By corpus, vocabulary size, work and engine, in the order of the rows.
    """
    times: dict[Case, dict[int, float]] = {}
    for row in rows:
        times.setdefault(case(row), {})[row.repeat] = row.wall_s
    found = {}
    for (*given, engine), theirs in times.items():
        ours = times.get((*given, OURS), {})
        values = [theirs[repeat] / ours[repeat] for repeat in theirs if repeat in ours]
        if values:
            found[*given, engine] = Ratio(median=median(values), lowest=min(values), highest=max(values))
    return found


def case(row: TokenizerSpeedRow) -> Case:
    """What a row has in common with its repeats."""
    return row.corpus, row.vocab_size, row.work, row.engine
