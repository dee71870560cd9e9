"""`workbook device`: measure the device at hand, list what is known of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from core.accounting.hardware import DEVICES
from core.cli.options import DEFAULT_RESULTS, Commit, Fresh, ResultsDir
from core.cli.options import Device as DeviceName

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.accounting.hardware import Device
    from core.records import DeviceRow

app = typer.Typer(
    help="Devices: measure this one's rates, list the peaks of others.", no_args_is_help=True, rich_markup_mode=None
)


@app.command()
def measure(
    device: DeviceName = "auto",
    name: Annotated[
        str | None,
        typer.Option(help="Name of the device's rows; from its product name if not given.", show_default=False),
    ] = None,
    results: ResultsDir = DEFAULT_RESULTS,
    fresh: Fresh = False,
    commit: Commit = None,
) -> None:
    """Measure matrix products, copies and the launch of an operation; half a minute on an idle machine."""
    from core.cli.console import say
    from core.config import check_name
    from core.experiments.device_measure import default_device_id, device_of_rows, measure_device
    from core.provenance import git_commit
    from core.records import DeviceRow
    from core.results import check_writable, read_rows, table_path, write_rows
    from core.training.device import resolve_device

    device = resolve_device(device)
    device_id = default_device_id(device) if name is None else name
    check_name(device_id, "name")
    if device_id in DEVICES:
        raise ValueError(f"name is {device_id!r}: the published figures have this name; choose another")
    path = table_path(results, "devices", device_id)
    rows = [] if fresh else [DeviceRow(**row) for row in read_rows(results, "devices", device_id)]
    if rows:
        say(f"{path}: measured {rows[0].utc} (--fresh measures anew)")
    else:
        check_writable(results, ["devices"])
        rows = measure_device(
            device, device_id, git_commit=commit or git_commit(), on_progress=lambda line: say(f"  {line}")
        )
        write_rows(results, "devices", device_id, rows)
        say(f"{path}: {device_of_rows(rows).name}, torch {rows[0].torch_version}")
    say(f"{'':<10}{'dtype':<10}{'size':>11}{'median':>12}{'IQR':>7}{'blocks':>8}  value (at best)")
    for row in rows:
        say(_row_line(row))


@app.command("list")
def list_devices(results: ResultsDir = DEFAULT_RESULTS) -> None:
    """List every known device: peaks (dense) by dtype, memory, and the intensity from which arithmetic is the limit."""
    from core.cli.console import say
    from core.experiments.device_measure import read_measured_devices
    from core.results import read_table

    def show(devices: dict[str, Device]) -> None:
        for device_id, device in devices.items():
            for line in _device_lines(device_id, device):
                say(line)

    show(DEVICES)
    for problem in read_table(results, "devices")[1]:
        say(problem)
    show(read_measured_devices(results))


def _row_line(row: DeviceRow) -> str:
    from core.experiments.device_measure import best_value

    scale, unit = {"FLOP/s": (1e9, "GFLOP/s"), "B/s": (1e9, "GB/s"), "s": (1e-6, "µs"), "B": (1e9, "GB")}[row.unit]
    size = "" if row.size is None else f"{row.size:,}"
    median = "" if row.median_s is None else f"{row.median_s * 1e3:,.4f} ms"
    spread = "" if row.iqr_s is None or not row.median_s else f"{row.iqr_s / row.median_s:.1%}"
    blocks = "" if row.blocks is None else f"{row.blocks}"
    line = f"{row.quantity:<10}{row.dtype or '':<10}{size:>11}{median:>12}{spread:>7}{blocks:>8}"
    best = "" if row.best_s is None else f" ({best_value(row) / scale:,.2f})"
    return f"{line}  {row.value / scale:,.2f} {unit}{best}"


def _device_lines(device_id: str, device: Device) -> Iterator[str]:
    launch = f", {device.launch_overhead_s * 1e6:.2f} µs a launch" if device.launch_overhead_s else ""
    yield (
        f"{device_id}: {device.name}, {device.memory_bytes / 1e9:.1f} GB at "
        f"{device.memory_bytes_per_s / 1e9:,.4g} GB/s{launch} ({device.memory_status})"
    )
    for peak in device.peaks:
        ridge = device.ridge(peak.input_dtype, peak.accumulate_dtype)
        pair = f"{peak.input_dtype} accumulated in {peak.accumulate_dtype}"
        yield f"  {pair:<32}{peak.flop_per_s / 1e12:>10,.4g} TFLOP/s {ridge:>8.1f} FLOP/byte  {peak.status}"
