"""`workbook bench`: predictions against measurements, and ours against others'."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from core.cli.bench_fit import fit, predict
from core.cli.bench_grid import grid
from core.cli.bench_tokenizer import tokenizer
from core.cli.bench_train import train
from core.cli.options import DEFAULT_RESULTS, Commit, Fresh, ResultsDir

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from core.records import MemoryRow

app = typer.Typer(
    help="Predictions against measurements, ours against others'.", no_args_is_help=True, rich_markup_mode=None
)
app.command("tokenizer")(tokenizer)
app.command("train")(train)
app.command("grid")(grid)
app.command("fit")(fit)
app.command("predict")(predict)


@app.command()
def memory(
    out: Annotated[
        str | None,
        typer.Option(help="Name of the rows' file; from the device's product name if not given.", show_default=False),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    quick: Annotated[bool, typer.Option("--quick", help="One configuration of each kind alone.")] = False,
    fresh: Fresh = False,
    results: ResultsDir = DEFAULT_RESULTS,
    commit: Commit = None,
) -> None:
    """Measure the memory of training steps of every kind beside its prediction; a minute or two."""
    from core.cli.console import say, stage_progress
    from core.config import check_name
    from core.experiments.device_measure import default_device_id
    from core.experiments.memory_bench import memory_cases, memory_row
    from core.experiments.memory_measure import check_measurable
    from core.provenance import git_commit
    from core.records import MemoryRow
    from core.results import check_writable, read_rows, table_path, write_rows
    from core.training.device import resolve_device

    device = resolve_device(device)
    check_measurable(device)
    name = default_device_id(device) + ("-quick" if quick else "") if out is None else out
    check_name(name, "out")
    path = table_path(results, "memory", name)
    rows = [] if fresh else [MemoryRow(**row) for row in read_rows(results, "memory", name)]
    if rows:
        say(f"{path}: measured {rows[0].utc} (--fresh measures anew)")
    else:
        check_writable(results, ["memory"])
        commit = commit or git_commit()
        cases = memory_cases(quick)
        with stage_progress() as progress:
            for done, case in enumerate(cases):
                progress("measuring", done, len(cases))
                rows.append(memory_row(case, name, device, commit))
            progress("measuring", len(cases), len(cases))
        write_rows(results, "memory", name, rows)
        say(f"{path}: {rows[0].device_name}, torch {rows[0].torch_version}")
    for line in _table(rows):
        say(line)


def difference(row: MemoryRow) -> float:
    """How far the predicted peak is above the measured one, as a fraction of it."""
    return row.predicted_bytes / row.measured_bytes - 1


def _table(rows: Iterable[MemoryRow]) -> Iterator[str]:
    from core.accounting.text import bytes_text

    rows = list(rows)
    yield f"{'':<42}{'precision':<19}{'predicted':>10}{'measured':>10}{'differ':>9}  peak in"
    for row in rows:
        sizes = f"{bytes_text(row.predicted_bytes):>10}{bytes_text(row.measured_bytes):>10}"
        yield f"{row.case:<42}{row.precision:<19}{sizes}{difference(row):>+9.3%}  {row.predicted_moment}"
    worst = max(rows, key=lambda row: abs(difference(row)))
    yield f"worst of {len(rows)}: {difference(worst):+.3%} ({worst.case}, {worst.precision})"
    exact = sum(row.saved_predicted_bytes == row.saved_measured_bytes for row in rows)
    yield f"saved bytes: {exact} of {len(rows)} equal"
