"""Measure the points of a benchmark grid one after another, the rows so far always on disk."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from core.accounting.hardware import Device
from core.accounting.text import bytes_text
from core.config import canonical_json
from core.experiments.device_measure import (
    default_device_id,
    last_level_cache_bytes,
    read_measured_devices,
    total_memory_bytes,
)
from core.experiments.grid_measure import (
    ADDS_UP_WITHIN,
    MIN_BLOCKS,
    MIN_RUN_S,
    Timing,
    free_memory,
    is_out_of_memory,
    measure_model,
    run_config,
)
from core.experiments.grid_micro import measure_micro
from core.experiments.grid_points import GridPoint, Prediction, predict
from core.provenance import utc_now
from core.records import BenchmarkRow
from core.results import write_rows
from core.training.allocator import keep_freed_memory
from core.training.device import device_name
from core.training.numerics import check_numerics

FAILED = ("out_of_memory", "error")
NOMINAL_FLOP_PER_S = 1e11
"""Of a device that has not been measured, for shares of the time left alone."""
CALLS = MIN_BLOCKS + 3
"""Of a phase that takes long: warming up twice, sizing a block, and the blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where a grid is measured, and what is known of it."""

    device: str
    device_name: str
    memory_bytes: int
    cache_bytes: int | None
    peaks: Device | None
    """None where it has not been measured."""

    @classmethod
    def at_hand(cls, device: str, results_dir: str | Path) -> "Machine":
        """The machine this runs on; its peaks are those of `results/devices/`."""
        return cls(
            device=device,
            device_name=device_name(device),
            memory_bytes=total_memory_bytes(device),
            cache_bytes=last_level_cache_bytes(device),
            peaks=read_measured_devices(results_dir).get(default_device_id(device)),
        )

    def predict(self, point: GridPoint) -> Prediction:
        """What a point asks for, and the least time here."""
        return predict(point, self.peaks, self.cache_bytes)


def effort_s(prediction: Prediction) -> float:
    """About how long measuring a point takes: each phase a certain time at least, or a certain number of calls."""
    return sum(
        max(MIN_RUN_S, CALLS * (prediction.seconds[phase] if prediction.seconds else flop / NOMINAL_FLOP_PER_S))
        for phase, flop in prediction.flop.items()
    )


def standing_rows(
    rows: Iterable[BenchmarkRow], points: Sequence[GridPoint], retry: bool = False
) -> tuple[list[BenchmarkRow], list[GridPoint]]:
    """Which rows stay, and which points are still to be measured.

    A point whose rows lack a phase is measured anew, with `retry` also one that failed. Rows of points that the grid no
    longer has stay.
    """
    by_point: dict[str, list[BenchmarkRow]] = {}
    for row in rows:
        by_point.setdefault(row.point_id, []).append(row)
    missing = []
    for point in points:
        found = by_point.get(point.point_id, [])
        complete = set(point.phases) <= {row.phase for row in found}
        if not complete or (retry and any(row.status in FAILED for row in found)):
            missing.append(point)
            by_point.pop(point.point_id, None)
    return [row for found in by_point.values() for row in found], missing


def check_points(points: Iterable[GridPoint], device: str) -> None:
    """Raise ValueError for a point that asks what the device has not: a precision, a compiler."""
    for way in {(point.precision, point.compiled): point for point in points}.values():
        check_numerics(run_config(way, device))


def run_grid(
    points: Sequence[GridPoint],
    *,
    bench_id: str,
    machine: Machine,
    results_dir: str | Path,
    rows: Sequence[BenchmarkRow] = (),
    memory_fraction: float = 0.8,
    git_commit: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> list[BenchmarkRow]:
    """Measure points in their order; after each one the file holds all rows so far.

    Args:
        points: Still to be measured.
        bench_id: The file's name.
        machine: This one.
        results_dir: With the folder `benchmarks`.
        rows: That stand already.
        memory_fraction: What is predicted to need more of the memory is not tried.
        git_commit: Of the code, for the rows.
        progress: Called with (done, total), in microseconds of predicted effort.
        stop: Asked before each point.

    Returns:
        All rows.
    """
    keep_freed_memory(machine.device)  # as a run does
    rows = list(rows)
    efforts = [max(1, round(1e6 * effort_s(machine.predict(point)))) for point in points]
    done = 0
    for point, effort in zip(points, efforts, strict=True):
        progress(done, sum(efforts))
        if stop():
            return rows
        rows += measure_point(
            point, bench_id=bench_id, machine=machine, memory_fraction=memory_fraction, git_commit=git_commit
        )
        write_rows(results_dir, "benchmarks", bench_id, rows)
        done += effort
    progress(max(1, done), max(1, done))
    return rows


def measure_point(
    point: GridPoint,
    *,
    bench_id: str,
    machine: Machine,
    memory_fraction: float = 0.8,
    git_commit: str | None = None,
) -> list[BenchmarkRow]:
    """Measure one point: a row per phase, of what does not fit or fails as well.

    Args:
        point: What is measured.
        bench_id: For the rows.
        machine: This one.
        memory_fraction: If it is predicted to need more of the memory, it is not tried.
        git_commit: Of the code, for the rows.
    """
    prediction = machine.predict(point)
    timings: dict[str, Timing] = {}
    peaks: dict[str, int | None] = {}
    status, message = "ok", None
    limit = memory_fraction * machine.memory_bytes

    def keep(phase: str, timing: Timing, peak_bytes: int | None) -> None:
        timings[phase], peaks[phase] = timing, peak_bytes

    if prediction.peak_bytes > limit:
        status = "skipped_memory"
        needs, has = bytes_text(prediction.peak_bytes), bytes_text(machine.memory_bytes)
        message = f"predicted to need {needs}, more than {memory_fraction:.0%} of {has}"
    else:
        try:
            (measure_model if point.subject == "model" else measure_micro)(point, machine.device, keep)
        except (RuntimeError, MemoryError) as error:
            status = "out_of_memory" if is_out_of_memory(error) else "error"
            message = next(iter(str(error).splitlines()), "") or type(error).__name__
        # Only here the error, whose traceback holds on to the tensors, is gone.
        free_memory(machine.device)
    ratio = _phases_over_step(timings)
    return [
        _row(
            point,
            phase,
            prediction,
            machine,
            timings.get(phase),
            bench_id=bench_id,
            status="ok" if phase in timings else status,
            message=None if phase in timings else message,
            phases_over_step=ratio if phase == "step" else None,
            adds_up=abs(ratio - 1) <= ADDS_UP_WITHIN if phase == "step" and ratio is not None else None,
            peak_bytes=peaks.get(phase),
            git_commit=git_commit,
        )
        for phase in point.phases
    ]


def _phases_over_step(timings: dict[str, Timing]) -> float | None:
    """How much longer the parts take one by one than the step; None unless all were measured."""
    parts = ("forward_loss", "backward", "optimizer")
    if not {*parts, "step"} <= set(timings):
        return None
    return sum(timings[phase].median_s for phase in parts) / timings["step"].median_s


def _row(
    point: GridPoint, phase: str, prediction: Prediction, machine: Machine, timing: Timing | None, **columns: object
) -> BenchmarkRow:
    measured = {name: getattr(timing, name, None) for name in Timing.__slots__}
    is_model = point.subject == "model"
    return BenchmarkRow(
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
        predicted_peak_bytes=prediction.peak_bytes if is_model and phase == "step" else None,
        predicted_flop=float(prediction.flop[phase]),
        predicted_bytes=float(prediction.ideal_bytes[phase]),
        predicted_s=prediction.seconds[phase] if prediction.seconds else None,
        memory_bytes=machine.memory_bytes,
        device=machine.device,
        device_name=machine.device_name,
        num_threads=torch.get_num_threads(),
        torch_version=str(torch.__version__),
        utc=utc_now(),
        **measured,
        **columns,
    )


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
