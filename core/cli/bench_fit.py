"""`workbook bench fit` and `predict`: step times predicted from measured rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.cli.options import Commit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from core.experiments.calibration import Calibration, Fit, PredictedTime
    from core.experiments.calibration_errors import Errors
    from core.experiments.calibration_rows import Workload

DEFAULT_MEMORY_GIB = 24
"""Of the Apple M4 whose rows do not say."""
COLUMNS = ("predicted_s", "low_s", "high_s", "memory_pressure")
"""What `predict` adds."""


def fit(
    rows: Annotated[
        Path,
        typer.Argument(
            metavar="ROWS.parquet",
            help="Measured rows: ours of the table benchmarks, or any with batch_size, seq_len or context_length, "
            "d_model, num_heads, num_layers, d_ff and median_s.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FIT.json", help="Where the fit goes.")],
    memory_gib: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            max=1e6,
            help="Memory of the device in GiB, where the rows do not say. [default: 24]",
            show_default=False,
        ),
    ] = None,
    commit: Commit = None,
) -> None:
    """Fit what a step's time consists of to measured rows of one device; less than a minute for 300."""
    from core.cli.console import say
    from core.experiments.calibration import by_setting, calibrate, save
    from core.experiments.calibration_rows import read_workloads
    from core.outputs import check_output
    from core.provenance import git_commit

    check_output(out, [rows])
    file = read_workloads(rows, measured=True)
    memory_bytes = None if memory_gib is None else round(memory_gib * 2**30)
    if memory_bytes is None and file.memory_bytes is None:
        memory_bytes = DEFAULT_MEMORY_GIB * 2**30
        say(f"no column memory_bytes: taken for {DEFAULT_MEMORY_GIB} GiB (--memory-gib says otherwise)")
    calibration = calibrate(file, memory_bytes=memory_bytes, git_commit=commit or git_commit())
    save(calibration, out)
    for line in _fit_lines(calibration):
        say(line)
    for setting, group in by_setting(file.workloads).items():
        if setting not in calibration.fits:
            say(f"{setting}: left out, its {len(group)} rows are too few")
    say(f"{out}: {calibration.num_rows} rows of {calibration.device_name or 'an unnamed device'}")


def predict(
    configs: Annotated[
        Path, typer.Argument(metavar="CONFIGS.parquet", help="Rows with the same columns; times are not needed.")
    ],
    fit: Annotated[Path, typer.Option(metavar="FIT.json", help="What `workbook bench fit` wrote.")],
    out: Annotated[Path, typer.Option(metavar="OUT.parquet", help="Where the rows go, predictions beside them.")],
) -> None:
    """Predict the time of each row, with an interval that holds 80 % of measurements, and flag memory pressure.

    The columns predicted_s, low_s, high_s and memory_pressure are added, or replaced where the rows have them.
    """
    import polars as pl

    from core.cli.console import say
    from core.experiments import calibration
    from core.experiments.calibration_rows import read_workloads
    from core.files import atomic_path
    from core.outputs import check_output

    check_output(out, [fit])
    known = calibration.load(fit)
    file = read_workloads(configs, measured=False)
    predictions = calibration.predict(known, file.workloads)
    by_row = {workload.row: found for workload, found in zip(file.workloads, predictions, strict=True)}
    types = {name: pl.Boolean if name == "memory_pressure" else pl.Float64 for name in COLUMNS}
    added = [
        pl.Series(name, [getattr(by_row.get(row), name, None) for row in range(file.frame.height)], dtype=kind)
        for name, kind in types.items()
    ]
    with atomic_path(out) as temporary:
        file.frame.with_columns(added).write_parquet(temporary)
    flagged = sum(found.memory_pressure for found in predictions)
    say(f"{out}: {len(predictions)} rows predicted, {flagged} of them under memory pressure")
    errors = list(_errors(file.workloads, predictions))
    for line in _error_lines(errors):
        say(line)
    if errors:
        say("  rows that the fit was made of are no test of it: `workbook bench fit` shows its errors on rows left out")


def _fit_lines(calibration: Calibration) -> Iterator[str]:
    for setting, fit in calibration.fits.items():
        yield f"{setting}: {fit.num_rows} rows"
        yield from _term_lines(calibration, fit)
        yield from _error_lines(fit.errors)
        if fit.noise_floor is not None:
            floor = f"{fit.noise_floor:.2%}"
            yield f"  repeats of these rows differ so much that a perfect prediction has a mean of {floor}"


def _term_lines(calibration: Calibration, fit: Fit) -> Iterator[str]:
    from core.accounting.features import FEATURES

    yield f"  {'of a median row':>15}  {'price':>10}  {'':<13}  term"
    for name, feature in FEATURES.items():
        price = fit.model.prices[name]
        if price > 0:
            what = f"{name}: {feature.meaning}"
            yield f"  {fit.shares[name]:>15.1%}  {price:>10.3g}  {calibration.units[name]:<13}  {what}"


def _error_lines(errors: Iterable[Errors]) -> Iterator[str]:
    errors = list(errors)
    if errors:
        yield f"  {'predicted':<14}{'rows':<12}{'number':>7}{'median':>9}{'mean':>9}{'p90':>9}"
    for each in errors:
        figures = "".join(f"{figure:>9.2%}" for figure in (each.median, each.mean, each.p90))
        yield f"  {each.held_out:<14}{each.rows:<12}{each.num_rows:>7}{figures}"


def _errors(workloads: Sequence[Workload], predictions: Sequence[PredictedTime]) -> Iterator[Errors]:
    """Of the rows that have a time."""
    import numpy as np

    from core.experiments.calibration_errors import relative_errors, summary

    pairs = [(w, p) for w, p in zip(workloads, predictions, strict=True) if w.seconds is not None and w.seconds > 0]
    if pairs:
        predicted = np.array([found.predicted_s for _, found in pairs])
        measured = np.array([workload.seconds for workload, _ in pairs])
        flagged = np.array([found.memory_pressure for _, found in pairs])
        yield from summary("these rows", relative_errors(predicted, measured), flagged)
