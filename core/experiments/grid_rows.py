"""From measured rounds to rows of the table `benchmarks`, back again, and what a grid came to."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from core.config import canonical_json
from core.experiments.grid_machine import Machine
from core.experiments.grid_points import GridPoint
from core.experiments.grid_rounds import Rounds
from core.provenance import utc_now
from core.records import BenchmarkRow

ADDS_UP_WITHIN = 0.05
FAILED = ("out_of_memory", "error")


def rounds_of(row: BenchmarkRow) -> Rounds:
    """What a row was made of."""
    return Rounds(
        seconds=row.round_s or (),
        reference_s=row.round_reference_s or (),
        visits=row.round_visit or (),
        num_blocks=row.num_blocks or 0,
        runs_per_block=row.runs_per_block or 1,
        warm_up_s=row.warm_up_s or 0.0,
    )


def point_rows(
    point: GridPoint,
    machine: Machine,
    rounds: Mapping[str, Rounds],
    *,
    bench_id: str,
    status: str = "ok",
    message: str | None = None,
    peak_bytes: int | None = None,
    git_commit: str | None = None,
) -> list[BenchmarkRow]:
    """A row for each phase of a point.

    Args:
        point: What was measured.
        machine: On which.
        rounds: By phase, those that were measured.
        bench_id: For the rows.
        status: Of the phases that were not.
        message: Why.
        peak_bytes: Measured in the step.
        git_commit: Of the code.
    """
    prediction, ratio = machine.predict(point), _phases_over_step(rounds)
    is_model, rows = point.subject == "model", []
    for phase in point.phases:
        measured, is_step = rounds.get(phase), phase == "step"
        row = BenchmarkRow(
            bench_id=bench_id,
            point_id=point.point_id,
            subject=point.subject,
            phase=phase,
            batch_size=point.batch_size,
            context_length=point.context_length,
            d_model=point.d_model,
            num_heads=point.num_heads,
            d_head=point.d_head,
            num_layers=point.num_layers,
            d_ff=point.d_ff,
            vocab_size=point.vocab_size,
            precision=point.precision,
            attention=point.attention,
            compiled=point.compiled,
            optimizer=point.optimizer,
            config_json=canonical_json(point.model) if is_model else None,
            status="ok" if measured else status,
            message=None if measured else message,
            **_measured(measured, machine),
            phases_over_step=ratio if is_step else None,
            adds_up=abs(ratio - 1) <= ADDS_UP_WITHIN if is_step and ratio is not None else None,
            peak_bytes=peak_bytes if is_step and measured else None,
            predicted_peak_bytes=prediction.peak_bytes if is_model and is_step else None,
            predicted_flop=float(prediction.flop[phase]),
            predicted_bytes=float(prediction.ideal_bytes[phase]),
            predicted_s=prediction.seconds[phase] if prediction.seconds else None,
            memory_bytes=machine.memory_bytes,
            device=machine.device,
            device_name=machine.device_name,
            num_threads=torch.get_num_threads(),
            torch_version=str(torch.__version__),
            git_commit=git_commit,
            utc=utc_now(),
        )
        rows.append(row)
    return rows


def _measured(rounds: Rounds | None, machine: Machine) -> dict[str, object]:
    """The columns that hold times."""
    names = ("median_s", "iqr_s", "num_blocks", "runs_per_block", "relative_median", "relative_iqr")
    names += ("attempts", "warm_up_s")
    return {
        **{name: getattr(rounds, name) if rounds else None for name in names},
        "reference_s": statistics.median(rounds.reference_s) if rounds else None,
        "noisy": rounds.noisy(machine.device.partition(":")[0]) if rounds else None,
        "round_s": rounds.seconds if rounds else None,
        "round_reference_s": rounds.reference_s if rounds else None,
        "round_visit": rounds.visits if rounds else None,
    }


def _phases_over_step(rounds: Mapping[str, Rounds]) -> float | None:
    """How much longer the parts take one by one than the step; None unless all were measured."""
    parts = ("forward_loss", "backward", "optimizer")
    if not {*parts, "step"} <= set(rounds):
        return None
    return sum(rounds[phase].relative_median for phase in parts) / rounds["step"].relative_median


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a grid came to."""

    points: dict[str, int]
    """By status, that of a point's worst row."""
    noisy: list[BenchmarkRow]
    do_not_add_up: list[BenchmarkRow]
    ratios: list[tuple[float, BenchmarkRow]]
    """Measured over predicted time of all that was measured, the largest first."""

    @property
    def median_ratio(self) -> float | None:
        """Of all ratios."""
        return statistics.median(ratio for ratio, _ in self.ratios) if self.ratios else None


def summary(rows: Sequence[BenchmarkRow]) -> Summary:
    """Counts and extremes of a grid's rows."""
    order = ("ok", "skipped_memory", *FAILED)
    worst: dict[str, str] = {}
    for row in rows:
        worst[row.point_id] = max(worst.get(row.point_id, "ok"), row.status, key=order.index)
    ratios = [(row.median_s / row.predicted_s, row) for row in rows if row.median_s and row.predicted_s]
    return Summary(
        points={status: count for status in order if (count := sum(each == status for each in worst.values()))},
        noisy=[row for row in rows if row.noisy],
        do_not_add_up=[row for row in rows if row.adds_up is False],
        ratios=sorted(ratios, key=lambda pair: -pair[0]),
    )
