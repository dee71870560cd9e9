"""Measure the points of a benchmark grid in several passes, the rows so far always on disk."""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from core.accounting.text import bytes_text
from core.config.grid import GridConfig
from core.experiments.grid_machine import Machine, effort_s
from core.experiments.grid_points import GridPoint
from core.experiments.grid_rounds import ReferenceProduct, rounds_needed
from core.experiments.grid_rows import FAILED, point_rows, rounds_of
from core.experiments.grid_visit import visit_point
from core.records import BenchmarkRow
from core.results import write_rows
from core.training.allocator import keep_freed_memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Visits:
    """How often points are measured."""

    usual: int
    """Each, once in each pass over the grid."""
    more: int
    """At most, of what spreads too much."""
    retry: bool = False
    """Whether what failed is tried again."""

    @classmethod
    def of(cls, grid: GridConfig, retry: bool = False) -> "Visits":
        """Those that a grid asks for."""
        return cls(usual=grid.visits, more=grid.more_visits, retry=retry)


def due_phases(point: GridPoint, rows: Sequence[BenchmarkRow], visits: Visits) -> tuple[str, ...]:
    """The phases of a point that want another visit: not there yet, visited too seldom, or noisy.

    What failed stands, and with it its point, unless it is tried again.
    """
    found = {row.phase: row for row in rows}
    if not set(point.phases) <= set(found) or (visits.retry and any(row.status in FAILED for row in rows)):
        return point.phases
    if any(row.status != "ok" for row in rows):
        return ()
    return tuple(
        phase
        for phase in point.phases
        if (found[phase].attempts or 0) < visits.usual + (visits.more if found[phase].noisy else 0)
    )


def due_points(rows: Iterable[BenchmarkRow], points: Sequence[GridPoint], visits: Visits) -> list[GridPoint]:
    """The points that want a visit."""
    by_point = _by_point(rows)
    return [point for point in points if due_phases(point, by_point.get(point.point_id, []), visits)]


def run_grid(
    points: Sequence[GridPoint],
    *,
    bench_id: str,
    machine: Machine,
    results_dir: str | Path,
    visits: Visits,
    rows: Sequence[BenchmarkRow] = (),
    memory_fraction: float = 0.8,
    git_commit: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> list[BenchmarkRow]:
    """Measure points in their order, pass after pass; after each visit the file holds all rows so far.

    Args:
        points: Of the grid.
        bench_id: The file's name.
        machine: This one.
        results_dir: With the folder `benchmarks`.
        visits: How many passes over all points there are, and how many more over what is noisy.
        rows: That stand already, also of points that the grid no longer has.
        memory_fraction: What is predicted to need more of the memory is not tried.
        git_commit: Of the code, for the rows.
        progress: Called with (done, total), in microseconds of predicted effort.
        stop: Asked before each visit.

    Returns:
        All rows.
    """
    keep_freed_memory(machine.device)  # as a run does
    reference = functools.cache(lambda: ReferenceProduct(machine.device))
    by_point, num_rounds = _by_point(rows), rounds_needed(visits.usual)
    efforts = {p.point_id: max(1, round(1e6 * effort_s(machine.predict(p), num_rounds))) for p in points}
    done = 0
    for number in range(1, visits.usual + visits.more + 1):
        now = visits if number == 1 else replace(visits, retry=False)
        due = {
            point: phases for point in points if (phases := due_phases(point, by_point.get(point.point_id, []), now))
        }
        left = sum(efforts[point.point_id] for point in due) * max(1, visits.usual + 1 - number)
        for point, phases in due.items():
            progress(done, done + left)
            if stop():
                return _flat(by_point)
            standing = by_point.get(point.point_id, [])
            by_point[point.point_id] = measure_point(
                point,
                bench_id=bench_id,
                machine=machine,
                reference=reference,
                num_rounds=num_rounds,
                phases=phases,
                standing=standing,
                memory_fraction=memory_fraction,
                git_commit=git_commit,
            )
            write_rows(results_dir, "benchmarks", bench_id, _flat(by_point))
            done, left = done + efforts[point.point_id], left - efforts[point.point_id]
    progress(max(1, done), max(1, done))
    return _flat(by_point)


def measure_point(
    point: GridPoint,
    *,
    bench_id: str,
    machine: Machine,
    reference: Callable[[], Callable[[], float]],
    num_rounds: int,
    phases: Sequence[str] | None = None,
    standing: Sequence[BenchmarkRow] = (),
    memory_fraction: float = 0.8,
    git_commit: str | None = None,
) -> list[BenchmarkRow]:
    """Visit one point: a row per phase, of what does not fit or fails as well.

    Args:
        point: What is measured.
        bench_id: For the rows.
        machine: This one.
        reference: Makes the reference product, once something fits.
        num_rounds: In this visit.
        phases: Which are measured; all if None.
        standing: Rows of earlier visits, whose rounds stay beside the new ones where code, torch and threads are the
            same; else all phases are measured anew.
        memory_fraction: If it is predicted to need more of the memory, it is not tried.
        git_commit: Of the code, for the rows.
    """
    how = {"bench_id": bench_id, "git_commit": git_commit}
    prediction, limit = machine.predict(point), memory_fraction * machine.memory_bytes
    if prediction.peak_bytes > limit:
        needs, has = bytes_text(prediction.peak_bytes), bytes_text(machine.memory_bytes)
        message = f"predicted to need {needs}, more than {memory_fraction:.0%} of {has}"
        return point_rows(point, machine, {}, status="skipped_memory", message=message, **how)
    phases = point.phases if phases is None else tuple(phases)
    before = {row.phase: row for row in standing if row.status == "ok" and _same_way(row, machine, git_commit)}
    if set(point.phases) - set(phases) - set(before):
        phases, before = point.phases, {}
    rounds = {phase: rounds_of(row) for phase, row in before.items()}
    number = 1 + max((visit for each in rounds.values() for visit in each.visits), default=0)
    visit = visit_point(point, machine.device, phases, reference(), num_rounds=num_rounds, number=number)
    for phase, found in visit.rounds.items():
        rounds[phase] = rounds[phase].then(found) if phase in rounds else found
    peak_bytes = before["step"].peak_bytes if "step" in before else visit.peak_bytes
    return point_rows(point, machine, rounds, status=visit.status, message=visit.message, peak_bytes=peak_bytes, **how)


def _same_way(row: BenchmarkRow, machine: Machine, git_commit: str | None) -> bool:
    """Whether the rounds of a row may stand beside those measured now."""
    now = (git_commit, str(torch.__version__), torch.get_num_threads(), machine.device_name)
    return (row.git_commit, row.torch_version, row.num_threads, row.device_name) == now and bool(row.round_s)


def _by_point(rows: Iterable[BenchmarkRow]) -> dict[str, list[BenchmarkRow]]:
    found: dict[str, list[BenchmarkRow]] = {}
    for row in rows:
        found.setdefault(row.point_id, []).append(row)
    return found


def _flat(by_point: dict[str, list[BenchmarkRow]]) -> list[BenchmarkRow]:
    return [row for rows in by_point.values() for row in rows]
