"""`workbook bench train`: our training step beside others', or beside our own plainer ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from core.cli.options import DEFAULT_RESULTS, Commit, Device, Fresh, ResultsDir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from core.config import RunConfig
    from core.experiments.train_bench import Ratio
    from core.experiments.train_cases import Case
    from core.records import TrainSpeedRow


def train(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="PRESET|FILE",
            help="A preset's name, or a YAML or JSON file. [default: tinystories]",
            show_default=False,
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="FIELD=VALUE", help="Fields to change, such as model.d_ff=1024.", show_default=False),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(help="huggingface or torch; may be given twice. [default: both]", show_default=False),
    ] = None,
    ladder: Annotated[
        bool, typer.Option("--ladder", help="No others: our own step from plain to fast, one change at a time.")
    ] = False,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help="float32, tf32, bfloat16-autocast ...; may be given several times. "
            "[default: the configuration's, and bfloat16-autocast where it is fast]",
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Sequences a step, whatever the preset says. [default: 8 on a CPU, else 32]", show_default=False
        ),
    ] = None,
    compile_: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="All of them. [default: the configuration's]", show_default=False),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Measured. [default: 10 on a CPU, else 20]", show_default=False)
    ] = None,
    warm_up: Annotated[int | None, typer.Option(min=1, help="Rounds before. [default: 2]", show_default=False)] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Of each in a round. [default: 1 on a CPU, else 10]", show_default=False),
    ] = None,
    device: Device = "auto",
    peak: Annotated[
        str | None,
        typer.Option(
            help="Which known device this is (h200, say), for MFU of its maker's figures besides.", show_default=False
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(help="Name of the rows' file; from device, model and batch if not given.", show_default=False),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Other defaults: quickstart, 3 rounds after 1 to warm up.")
    ] = False,
    fresh: Fresh = False,
    results: ResultsDir = DEFAULT_RESULTS,
    commit: Commit = None,
) -> None:
    """Measure training steps in turns with Hugging Face's Llama and plain torch: same weights, batches and losses."""
    from core.cli.console import say, stage_progress
    from core.config import check_name
    from core.experiments.device_measure import default_device_id
    from core.experiments.train_bench import speed_rows
    from core.experiments.train_cases import contestant_cases, ladder_cases
    from core.model.transformer import check_buildable
    from core.provenance import git_commit
    from core.records import TrainSpeedRow
    from core.results import check_writable, read_rows, table_path, write_rows

    if ladder and (against or precision or compile_ is not None):
        raise ValueError("--ladder has its own precisions and compilation, and no others: give it none of these")
    config = _configuration(
        source or ("quickstart" if quick else "tinystories"), overrides, device, batch_size, compile_
    )
    check_buildable(config.model)
    peaks = _published(peak)
    cases, left_out = ladder_cases(config) if ladder else contestant_cases(config, against, precision)
    words = [default_device_id(config.device), config.name, f"batch-{config.batch_size}"]
    name = "-".join([*words, *["ladder"] * ladder, *["quick"] * quick]) if out is None else out
    check_name(name, "out")
    path = table_path(results, "train_speed", name)
    rows = [] if fresh else [TrainSpeedRow(**row) for row in read_rows(results, "train_speed", name)]
    if rows:
        _check_same(rows, cases, str(path))
        say(f"{path}: measured {rows[0].utc} (--fresh measures anew)")
    else:
        check_writable(results, ["train_speed"])
        commit = commit or git_commit()
        on_cpu = config.device == "cpu"
        for line in left_out:
            say(f"left out: {line}")
        problems: list[str] = []
        with stage_progress() as progress:
            rows = speed_rows(
                cases,
                bench_id=name,
                rounds=rounds or (3 if quick else 10 if on_cpu else 20),
                warm_up=warm_up or (1 if quick else 2),
                steps=steps or (1 if on_cpu else 10),
                peak_flop_per_s=peaks,
                git_commit=commit,
                progress=lambda done, total: progress("measuring", done, total),
                on_problem=problems.append,
            )
        write_rows(results, "train_speed", name, rows)
        for line in problems:
            say(f"left out: {line}")
        say(f"{path}: {rows[0].device_name}, {rows[0].num_threads} threads, torch {rows[0].torch_version}")
    for line in _table(rows):
        say(line)


def _configuration(
    source: str, overrides: Sequence[str] | None, device: str, batch_size: int | None, compile_: bool | None
) -> RunConfig:
    """What all train, on a device that is there."""
    import dataclasses

    from core.cli.configuration import load_config
    from core.training.device import resolve_device

    if device == "auto":
        device = load_config(source, overrides or ()).device
    device = resolve_device(device)
    words = [f"batch_size={batch_size or (8 if device == 'cpu' else 32)}", *(overrides or ())]
    config = dataclasses.replace(load_config(source, words), device=device)
    return config if compile_ is None else dataclasses.replace(config, compile=compile_)


def _published(name: str | None) -> Callable[[str], float | None]:
    """A known device's peak by dtype."""
    from core.accounting.hardware import device

    if name is None:
        return lambda dtype: None
    rates = {peak.input_dtype: peak.flop_per_s for peak in device(name).peaks if peak.accumulate_dtype == "float32"}
    return rates.get


def _check_same(rows: Sequence[TrainSpeedRow], cases: Sequence[Case], path: str) -> None:
    """Refuse to show what was measured of other configurations as what was asked for."""
    from core.config import canonical_json

    asked = {(case.name, canonical_json(case.config)) for case in cases}
    if not {(row.case, row.config_json) for row in rows} <= asked:
        raise ValueError(f"{path} holds a measurement of something else: --fresh replaces it, --out NAME spares it")


def _table(rows: Sequence[TrainSpeedRow]) -> Iterator[str]:
    """A line a case, then how much faster ours is than each of the others, or each step of the ladder than the last."""
    from statistics import median

    from core.accounting.text import bytes_text, count, duration
    from core.experiments.train_bench import case_names, first_turn_s, measured, time_ratio, utilisation

    names = case_names(rows)
    first = rows[0]
    rates = {row.precision: median(r.gemm_flop_per_s for r in measured(rows, row.case)) for row in rows}
    yield f"{count(first.parameters)} parameters, batch {first.batch_size} x {first.context_length}, " + ", ".join(
        f"matrix products {precision} {count(rate, 'FLOP/s')}" for precision, rate in rates.items()
    )
    yield (
        f"  {'':<30}{'step':>9}{'tokens/s':>11}{'of products':>12}{'of peak':>9}{'optimizer':>11}{'memory':>10}"
        f"{'predicted':>11}{'to start':>10}"
    )
    for name in names:
        turns = measured(rows, name)
        step_s = median(row.step_s for row in turns)
        shares = [row.optimizer_s / row.step_s for row in turns if row.optimizer_s is not None]
        peaks = [row.peak_bytes for row in turns if row.peak_bytes is not None]
        predicted = turns[0].predicted_peak_bytes
        cells = [
            f"{duration(step_s):>9}",
            f"{turns[0].step_tokens / step_s:>11,.0f}",
            f"{_percent(utilisation(rows, name)):>12}",
            f"{_percent(utilisation(rows, name, 'peak_flop_per_s')):>9}",
            f"{_percent(median(shares) if shares else None):>11}",
            f"{bytes_text(max(peaks)) if peaks else '':>10}",
            f"{bytes_text(predicted) if predicted is not None else '':>11}",
            f"{first_turn_s(rows, name) or 0.0:>8.1f} s",
        ]
        wrong = "  other losses" if any(row.agrees is False for row in rows if row.case == name) else ""
        yield f"  {name:<30}{''.join(cells)}{wrong}".rstrip()
    ours = [name for name in names if measured(rows, name)[0].contestant == "ours"]
    others = [name for name in names if name not in ours]
    pairs = [(mine, other) for mine in ours for other in others] or list(zip(names[1:], names, strict=False))
    for name, than in pairs:
        ratio = time_ratio(rows, than, name)
        if ratio is not None:
            yield f"{name} is {_times(ratio)} as fast as {than}, {ratio.rounds} rounds"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _times(ratio: Ratio) -> str:
    """The median and, in brackets, the quartiles."""
    quartiles = f" ({ratio.lower:.2f}-{ratio.upper:.2f})" if ratio.lower is not None else ""
    return f"{ratio.median:.2f}x{quartiles}"
