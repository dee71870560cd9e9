"""`workbook bench grid`: measurements over a grid of configurations, each beside its prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from core.cli.options import DEFAULT_RESULTS, Commit, Device, Fresh, ResultsDir

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from core.experiments.grid_machine import Machine
    from core.experiments.grid_points import Expansion, GridPoint
    from core.experiments.grid_run import Visits
    from core.records import BenchmarkRow

SHOWN = 5
"""Of the largest ratios."""


def grid(
    spec: Annotated[str, typer.Argument(metavar="PRESET|FILE", help="smoke, cpu, mps, cuda, or a YAML file.")],
    device: Device = "auto",
    out: Annotated[
        str | None,
        typer.Option(help="Name of the rows' file; from the device and the grid if not given.", show_default=False),
    ] = None,
    fresh: Fresh = False,
    retry: Annotated[bool, typer.Option("--retry", help="Try again what failed.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Show the points with their predictions, and stop.")] = False,
    results: ResultsDir = DEFAULT_RESULTS,
    commit: Commit = None,
) -> None:
    """Measure a grid of models and operations beside their predictions; what stands is skipped, Ctrl-C saves."""
    from core.cli.console import say, stage_progress
    from core.cli.grid_file import load_grid
    from core.config import check_name
    from core.experiments.device_measure import default_device_id
    from core.experiments.grid_machine import Machine, check_points
    from core.experiments.grid_points import expand
    from core.experiments.grid_run import Visits, due_points, run_grid
    from core.provenance import git_commit
    from core.records import BenchmarkRow
    from core.results import check_writable, read_rows, table_path
    from core.training.device import resolve_device
    from core.training.interrupt import stop_on_signals

    config = load_grid(spec)
    device = resolve_device(device)
    name = f"{default_device_id(device)}-{config.name}" if out is None else out
    check_name(name, "out")
    expansion = expand(config)
    check_points(expansion.points, device)
    machine = Machine.at_hand(device, results)
    for line in _about(expansion, machine):
        say(line)
    if list_:
        for line in _list(expansion.points, machine, Visits.of(config)):
            say(line)
        return
    path = table_path(results, "benchmarks", name)
    found = [] if fresh else [BenchmarkRow(**row) for row in read_rows(results, "benchmarks", name)]
    if any(row.point_id is None for row in found):
        raise ValueError(f"{path}: not the rows of a grid; give another name (--out) or --fresh, which replaces them")
    visits = Visits.of(config, retry)
    rows, due = found, due_points(found, expansion.points, visits)
    if len(due) < len(expansion.points):
        say(f"{path}: {len(expansion.points) - len(due)} points stand (--fresh measures anew)")
    if due:
        check_writable(results, ["benchmarks"])
        with stop_on_signals() as stopping, stage_progress() as progress:
            rows = run_grid(
                expansion.points,
                bench_id=name,
                machine=machine,
                results_dir=results,
                visits=visits,
                rows=rows,
                memory_fraction=config.memory_fraction,
                git_commit=commit or git_commit(),
                progress=lambda done, total: progress("measuring", done, total),
                stop=lambda: stopping.requested,
            )
        left = len(due_points(rows, expansion.points, Visits.of(config)))
        if left:
            words = f"stopped with {left} of {len(due)} points to measure, or to visit once more"
            say(f"{words}; what is measured is saved, run it again to go on")
    if rows:
        say(f"{path}: {rows[-1].device_name}, {rows[-1].num_threads} threads, torch {rows[-1].torch_version}")
        asked = {point.point_id for point in expansion.points}
        for line in _summary([row for row in rows if row.point_id in asked]):
            say(line)


def _about(expansion: Expansion, machine: Machine) -> Iterator[str]:
    """What the grid came to, what was left out, what is not known."""
    if expansion.refused:
        yield f"{expansion.refused:,} combinations left out that no model can have ({expansion.reason})"
    if machine.peaks is None:
        yield f"no predicted times: {machine.device_name} has not been measured (workbook device measure)"


def _list(points: Sequence[GridPoint], machine: Machine, visits: Visits) -> Iterator[str]:
    """A line a point: its sizes, how it computes, the predicted time of all its phases and memory."""
    from core.accounting.text import bytes_text, count, duration
    from core.experiments.grid_machine import effort_s
    from core.experiments.grid_rounds import rounds_needed

    total_s = 0.0
    yield f"{'':<100}{'products':>12}{'at least':>11}{'memory':>11}"
    for point in points:
        predicted = machine.predict(point)
        total_s += visits.usual * effort_s(predicted, rounds_needed(visits.usual))
        flop = predicted.flop.get("step", sum(predicted.flop.values()))
        least = predicted.seconds and predicted.seconds.get("step", sum(predicted.seconds.values()))
        seconds = "" if not least else duration(least)
        yield f"{_words(point):<100}{count(flop, 'FLOP'):>12}{seconds:>11}{bytes_text(predicted.peak_bytes):>11}"
    more = f", and what spreads too much up to {visits.more} times more" if visits.more else ""
    yield f"{len(points)} points, about {duration(total_s)}{more}"


def _words(point: GridPoint | BenchmarkRow) -> str:
    """What a point is, in short."""
    names = {"batch_size": "batch", "context_length": "context", "num_heads": "heads", "num_layers": "layers"}
    names |= {"d_model": "d_model", "d_ff": "d_ff", "vocab_size": "vocab"}
    words = [f"{short} {getattr(point, name)}" for name, short in names.items() if getattr(point, name) is not None]
    ways = [point.precision, point.attention, "compiled" * point.compiled]
    ways.append(point.optimizer if point.optimizer != "adamw" else None)
    return " ".join([point.subject, *words, *filter(None, ways)])


def _summary(rows: Sequence[BenchmarkRow]) -> Iterator[str]:
    """Points by status, what is noisy, what does not add up, the largest ratios."""
    from core.accounting.text import duration
    from core.experiments.grid_rows import ADDS_UP_WITHIN, summary

    found = summary(rows)
    yield "points: " + ", ".join(f"{count} {status}" for status, count in found.points.items())
    unmeasured = {row.point_id: row for row in rows if row.status != "ok"}
    for row in [*unmeasured.values()][:SHOWN]:
        yield f"  {row.status}: {_words(row)}: {row.message}"
    timed = sum(row.median_s is not None for row in rows)
    steps = sum(row.adds_up is not None for row in rows)
    yield f"noisy: {len(found.noisy)} of {timed} phases"
    yield f"phases do not add up to the step within {100 * ADDS_UP_WITHIN:.0f} %: {len(found.do_not_add_up)} of {steps}"
    for row in found.do_not_add_up[:SHOWN]:
        yield f"  {row.phases_over_step:.3f}  {_words(row)}"
    if found.ratios:
        yield f"measured over predicted time: median {found.median_ratio:.2f}, largest"
        for ratio, row in found.ratios[:SHOWN]:
            yield f"  {ratio:>8.2f}  {row.phase}, {duration(row.median_s)}: {_words(row)}"
        beaten = [ratio for ratio, _ in found.ratios if ratio < 1]
        if beaten:
            yield f"  {len(beaten)} below 1, the least {min(beaten):.3f}: the device is faster than it was measured"
