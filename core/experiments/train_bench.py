"""Training steps of ours and others', or of ours from plain to fast, in turns: rows of the table `train_speed`."""

import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from core.accounting import peak, training_step_flop
from core.accounting.runs import run_account
from core.config import RunConfig, canonical_json
from core.experiments.train_cases import BFLOAT16, Case
from core.experiments.train_contestants import OTHERS, OURS, Contestant, Ours, Start, transformers_version
from core.experiments.train_measure import GemmTimer, StepTimer, Turn, product_dtype
from core.provenance import utc_now
from core.records import TrainSpeedRow
from core.training.allocator import keep_freed_memory
from core.training.batches import batch
from core.training.device import device_name
from core.training.numerics import numerics

NUM_TOKENS = 1 << 20
"""Of the made-up text that all train on."""
AGREEMENT_STEPS = 20
"""Losses are compared so far; later, differences of rounding have grown by training itself."""
TOLERANCES_NATS = {"float64": 1e-4, "float32": 1e-3, "tf32": 0.02, BFLOAT16: 0.05}
"""How far a loss may be from the first case's. Hugging Face rounds some things to float32 in float64, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How many times as long one case takes as another, over rounds; quartiles are null for a single round."""

    median: float
    lower: float | None
    upper: float | None
    rounds: int


def speed_rows(
    cases: Sequence[Case],
    *,
    bench_id: str,
    rounds: int,
    warm_up: int,
    steps: int = 1,
    gemm_sizes: Sequence[int] | None = None,
    peak_flop_per_s: Callable[[str], float | None] = lambda dtype: None,
    git_commit: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    on_problem: Callable[[str], None] = lambda line: None,
) -> list[TrainSpeedRow]:
    """Train all cases in one process, in turns that begin with another one each round, on the same batches.

    Args:
        cases: Of one device, batch size and model; the first is ours, and the losses of all are compared with its.
        bench_id: Name of the rows' file.
        rounds: Measured.
        warm_up: Rounds before that; the first compiles.
        steps: Of a turn, without a pause between them.
        gemm_sizes: Of the matrix products that the device is measured with in every round; by its kind if None.
        peak_flop_per_s: A published peak of the device by dtype, for the rows.
        git_commit: Of the code, for the rows.
        progress: Called with (turns done, turns in all).
        on_problem: Given a line about a case that fails, for want of memory, say; it has no rows.

    Returns:
        A row a turn, those of warming up included.
    """
    first = cases[0]
    assert first.contestant == OURS, first
    keep_freed_memory(first.config.device)  # as a run does; in one process the others have it, too
    timers = _timers(cases, on_problem)
    gemm = GemmTimer([case.config for case in cases], gemm_sizes)
    tokens = made_up_tokens(first.config.model.vocab_size)
    found: list[tuple[Case, int, float, float, Turn, bool | None]] = []
    for number in range(warm_up + rounds):
        rates = gemm.rates()
        began = time.perf_counter()
        batches = [_batch(first.config, tokens, number * steps + place) for place in range(steps)]
        batch_s = (time.perf_counter() - began) / steps
        turns: dict[str, Turn] = {}
        for place in range(len(cases)):
            case = cases[(number + place) % len(cases)]
            progress(number * len(cases) + place, (warm_up + rounds) * len(cases))
            if case.name not in timers:
                continue
            try:
                with numerics(case.config):
                    turns[case.name] = timers[case.name].turn(batches, number * steps)
            except RuntimeError as error:  # no memory, no compiler
                del timers[case.name]
                on_problem(_problem(case, error))
        reference = turns.get(first.name)
        for case in cases:
            if case.name in turns:
                turn = turns[case.name]
                agrees = _agrees(turn, reference, case, first) if (number + 1) * steps <= AGREEMENT_STEPS else None
                found.append((case, number, rates[product_dtype(case.config.precision)], batch_s, turn, agrees))
    progress(1, 1)

    shared = {
        "bench_id": bench_id,
        "steps": steps,
        "device": first.config.device,
        "device_name": device_name(first.config.device),
        "num_threads": torch.get_num_threads(),
        "torch_version": str(torch.__version__),
        "transformers_version": transformers_version(),
        "git_commit": git_commit,
        "utc": utc_now(),
    }
    about = {case.name: _about(case, timers[case.name].contestant) for case in cases if case.name in timers}
    return [
        TrainSpeedRow(
            **about[case.name],
            **shared,
            round=number,
            warm_up=number < warm_up,
            step_s=turn.step_s,
            optimizer_s=turn.optimizer_s,
            batch_s=batch_s,
            loss_nats=turn.losses[-1],
            agrees=agrees,
            gemm_flop_per_s=rate,
            peak_flop_per_s=peak_flop_per_s(product_dtype(case.config.precision)),
            peak_bytes=turn.peak_bytes,
        )
        for case, number, rate, batch_s, turn, agrees in found
        if case.name in about
    ]


def made_up_tokens(vocab_size: int, num_tokens: int = NUM_TOKENS) -> np.ndarray:
    """Ids whose frequencies fall with the rank as those of words do: the logarithm is uniform."""
    uniform = np.random.default_rng(0).random(num_tokens)
    return np.minimum(np.exp(uniform * math.log1p(vocab_size)).astype(np.int64), vocab_size) - 1


def _timers(cases: Sequence[Case], on_problem: Callable[[str], None]) -> dict[str, StepTimer]:
    """All at their start, with the clocks that time them."""
    tokens = made_up_tokens(cases[0].config.model.vocab_size)
    timers, start = {}, None
    for case in cases:
        try:
            if case.contestant == OURS:
                contestant = Ours(case.config, tokens)
                start = start or Start.of(contestant)
            else:
                contestant = OTHERS[case.contestant](case.config, start)
            timers[case.name] = StepTimer(contestant, case.config.device)
        except RuntimeError as error:
            if start is None:
                raise
            on_problem(_problem(case, error))
    return timers


def _problem(case: Case, error: RuntimeError) -> str:
    return f"{case.name}: {str(error).strip().splitlines()[0]}"


def _batch(config: RunConfig, tokens: np.ndarray, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    return batch(tokens, config.model.context_length, config.batch_size, config.seed, step, config.device)


def _agrees(turn: Turn, reference: Turn | None, case: Case, first: Case) -> bool | None:
    if reference is None:
        return None
    tolerance = max(TOLERANCES_NATS[each.config.precision] for each in (case, first))
    return all(abs(a - b) <= tolerance for a, b in zip(turn.losses, reference.losses, strict=True))


def _about(case: Case, contestant: Contestant) -> dict[str, object]:
    """The columns that are the same in all rows of a case."""
    config = case.config
    return {
        "case": case.name,
        "contestant": case.contestant,
        "precision": config.precision,
        "compiled": config.compile,
        "optimizer": contestant.optimizer_name,
        "batch_size": config.batch_size,
        "context_length": config.model.context_length,
        "config_json": canonical_json(config),
        "parameters": sum(parameter.numel() for parameter in contestant.model.parameters()),
        "step_tokens": config.batch_tokens,
        "model_flop": float(training_step_flop(config.model, config.batch_size)),
        "predicted_peak_bytes": predicted_peak_bytes(config) if case.contestant == OURS else None,
    }


def predicted_peak_bytes(config: RunConfig) -> int | None:
    """What accounting expects our step to hold at the most, not compiled; None if it knows no such step."""
    try:
        return peak(run_account(config)).total
    except ValueError:
        return None


def measured(rows: Iterable[TrainSpeedRow], case: str) -> list[TrainSpeedRow]:
    """The rows of a case without those of warming up."""
    return [row for row in rows if row.case == case and not row.warm_up]


def case_names(rows: Iterable[TrainSpeedRow]) -> list[str]:
    """The cases, in the order in which they were given."""
    return list(dict.fromkeys(row.case for row in rows))


def time_ratio(rows: Sequence[TrainSpeedRow], case: str, over: str) -> Ratio | None:
    """How many times as long a case takes as another, of turns in the same round; None if they share none."""
    times = {row.round: row.step_s for row in measured(rows, over)}
    values = [row.step_s / times[row.round] for row in measured(rows, case) if row.round in times]
    if not values:
        return None
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else (None,) * 3
    return Ratio(median=statistics.median(values), lower=lower, upper=upper, rounds=len(values))


def utilisation(rows: Sequence[TrainSpeedRow], case: str, of: str = "gemm_flop_per_s") -> float | None:
    """The median share of the device's rate that a case's model FLOP use, non-causal convention.

    Args:
        rows: Of a measurement.
        case: Whose.
        of: `gemm_flop_per_s`, measured in the same round, or `peak_flop_per_s`, published; None if that is not known.
    """
    shares = [
        row.model_flop / row.step_s / rate for row in measured(rows, case) if (rate := getattr(row, of)) is not None
    ]
    return statistics.median(shares) if shares else None


def first_turn_s(rows: Sequence[TrainSpeedRow], case: str) -> float | None:
    """What the first turn took longer than later ones: compilation, first use of kernels; None without warming up."""
    turns = [row.step_s * row.steps for row in rows if row.case == case and row.warm_up and row.round == 0]
    later = [row.step_s * row.steps for row in measured(rows, case)]
    return max(turns[0] - statistics.median(later), 0.0) if turns and later else None
