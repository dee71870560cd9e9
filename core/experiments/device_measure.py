"""Measure the device at hand: how fast it multiplies, copies and starts an operation, and how much memory it has.

Only torch and psutil are needed to measure, so that this runs on a borrowed machine where nothing is installed.
"""

import contextlib
import os
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch.utils.benchmark import Timer

from core.accounting.hardware import Device, device_to_dict, measured_device
from core.files import read_json, write_json
from core.provenance import utc_now
from core.records import DeviceRow
from core.training.device import device_name

GEMM_SIZES = {"cpu": (512, 1024, 2048), "mps": (2048, 4096, 8192), "cuda": (4096, 8192, 16384)}
"""Edges of the matrices. The best of several: the smallest may not fill a device, the largest not fit its caches."""
COPY_BYTES = {"cpu": 1 << 29, "mps": 1 << 30, "cuda": 1 << 30}
"""Of each of the two arrays: far beyond any cache."""
ROUNDS = 5
MIN_RUN_TIME_S = 0.2
SLOWEST_S = 1.0
"""A product that would take longer is left out, unless it is the smallest."""
TOO_SLOW = 20
"""A dtype so many times slower than float32 is emulated, not supported, and left out."""

_TORCH_DTYPES = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One thing to time."""

    quantity: str
    dtype: str
    size: int

    def value(self, seconds: float) -> tuple[float, str]:
        """What the time of one operation says, and its unit."""
        if self.quantity == "gemm":
            return 2 * self.size**3 / seconds, "FLOP/s"
        if self.quantity == "copy":
            return 2 * self.size * _TORCH_DTYPES[self.dtype].itemsize / seconds, "B/s"
        return seconds, "s"


def measure_device(
    device: str,
    device_id: str,
    *,
    git_commit: str | None = None,
    on_progress: Callable[[str], None] = lambda line: None,
    gemm_sizes: Sequence[int] | None = None,
    copy_bytes: int | None = None,
    rounds: int | None = None,
    min_run_time_s: float | None = None,
) -> list[DeviceRow]:
    """Measure a device; under half a minute on two CPU cores.

        gemm: 2 size^3 / median    copy: 2 size bytes_per_element / median    launch: median

    Each operation is timed in blocks by torch's Timer, which synchronises accelerators. The rounds go through all
    operations in turn, so that a busy moment shows as spread instead of in one number.

    Args:
        device: Which, as torch names it; it must be there.
        device_id: Its name in `results/devices/`.
        git_commit: Of the code, for the rows.
        on_progress: Given a line about each operation and each round.
        gemm_sizes: Edges of the square matrices; by the kind of device if None.
        copy_bytes: Of each of the copy's two arrays; by the kind of device and its memory if None.
        rounds: Through all operations; `ROUNDS` if None.
        min_run_time_s: Of each operation in each round; `MIN_RUN_TIME_S` if None.

    Returns:
        A row per matrix product (dtype and size), one for the copy, one for the launch, one for the memory.
    """
    rounds, min_run_time_s = rounds or ROUNDS, min_run_time_s or MIN_RUN_TIME_S
    kind = torch.device(device).type
    memory_bytes = total_memory_bytes(device)
    sizes = sorted(gemm_sizes or GEMM_SIZES[kind])
    sizes = [n for n in sizes if n == sizes[0] or 3 * 4 * n * n <= memory_bytes // 8]
    copy_size = (copy_bytes or min(COPY_BYTES[kind], memory_bytes // 16)) // torch.float32.itemsize
    cases = [
        _Case(quantity="launch", dtype="float32", size=1),
        _Case(quantity="copy", dtype="float32", size=copy_size),
    ]
    with torch.cuda.device(device) if kind == "cuda" else contextlib.nullcontext():
        cases += _products(device, sizes, min_run_time_s / 10, on_progress)
        times: dict[_Case, list[float]] = {case: [] for case in cases}
        for done in range(rounds):
            on_progress(f"round {done + 1} of {rounds}: {len(cases)} operations")
            for case in cases:
                times[case] += _time(case, device, min_run_time_s)
    name, utc = device_name(device), utc_now()

    def row(quantity: str, value: float, unit: str, **columns: str | int | float | None) -> DeviceRow:
        absent = dict.fromkeys(("dtype", "accumulate_dtype", "size", "median_s", "iqr_s", "best_s", "blocks"))
        return DeviceRow(
            device_id=device_id,
            device=device,
            device_name=name,
            num_threads=torch.get_num_threads(),
            quantity=quantity,
            value=value,
            unit=unit,
            torch_version=str(torch.__version__),
            git_commit=git_commit,
            utc=utc,
            **absent | columns,
        )

    rows = [row("memory", float(memory_bytes), "B")]
    for case, blocks in times.items():
        median = statistics.median(blocks)
        quartiles = statistics.quantiles(blocks, n=4, method="inclusive") if len(blocks) > 1 else None
        rows.append(
            row(
                case.quantity,
                *case.value(median),
                dtype=case.dtype,
                accumulate_dtype="float32" if case.quantity == "gemm" else None,
                size=case.size,
                median_s=median,
                iqr_s=quartiles[2] - quartiles[0] if quartiles else None,
                best_s=min(blocks),
                blocks=len(blocks),
            )
        )
    return rows


def _products(
    device: str, sizes: Sequence[int], min_run_time_s: float, on_progress: Callable[[str], None]
) -> Iterator[_Case]:
    """The matrix products worth timing: of dtypes that the device supports, of sizes that do not take too long."""
    tf32 = torch.device(device).type == "cuda" and not torch.version.hip
    tf32 = tf32 and torch.cuda.get_device_capability(device) >= (8, 0)
    reference = None
    for dtype in _TORCH_DTYPES:
        if dtype == "tf32" and not tf32:
            continue
        probe = _Case(quantity="gemm", dtype=dtype, size=sizes[0])
        try:
            taken = statistics.median(_time(probe, device, min_run_time_s))
        except (RuntimeError, TypeError) as error:
            on_progress(f"{dtype}: not on this device ({str(error).splitlines()[0]})")
            continue
        reference = reference or taken
        if taken > TOO_SLOW * reference:
            on_progress(f"{dtype}: {taken / reference:.0f} times slower than float32, so left out")
            continue
        for size in sizes:
            if size == probe.size or taken * (size / probe.size) ** 3 <= SLOWEST_S:
                yield _Case(quantity="gemm", dtype=dtype, size=size)


def _time(case: _Case, device: str, min_run_time_s: float) -> list[float]:
    """Seconds per operation, of each block that was timed."""
    dtype = _TORCH_DTYPES[case.dtype]
    if case.quantity == "copy":
        a = b = torch.ones(case.size, device=device, dtype=dtype)
    else:  # random, as real data are: a GPU multiplies zeros faster, since they take less power
        generator = torch.Generator(device).manual_seed(0)
        shape = (case.size, case.size) if case.quantity == "gemm" else (case.size,)
        a, b = (torch.randn(shape, device=device, generator=generator).to(dtype) for _ in range(2))
    statement = {"gemm": "torch.mm(a, b, out=out)", "copy": "out.copy_(a)", "launch": "torch.add(a, b, out=out)"}
    timer = Timer(
        statement[case.quantity],
        globals={"a": a, "b": b, "out": torch.zeros_like(a)},
        num_threads=torch.get_num_threads(),
    )
    with _float32_products(device, "tf32" if case.dtype == "tf32" else "ieee"):
        if case.quantity == "launch":  # a cold first call would pass for a slow operation, timed in blocks of one
            timer.timeit(1000)
        return list(timer.blocked_autorange(min_run_time=min_run_time_s).times)


@contextlib.contextmanager
def _float32_products(device: str, precision: str) -> Iterator[None]:
    """How CUDA multiplies float32 matrices: as they are (`ieee`) or rounded (`tf32`)."""
    if torch.device(device).type != "cuda":
        yield
        return
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = precision
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


def total_memory_bytes(device: str) -> int:
    """All the memory of a device; of a CPU or an Apple GPU, the machine's."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return psutil.virtual_memory().total


def last_level_cache_bytes(device: str) -> int | None:
    """What the last cache before the memory of a device holds; None where the system does not say."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_properties(device).L2_cache_size
    if kind != "cpu":
        return None
    sizes = [_read_size(path) for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    return max(sizes, default=None)


def _read_size(path: Path) -> int:
    """A size as Linux writes that of a cache, such as `32768K`."""
    text = path.read_text().strip()
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return int(text.rstrip("KMG")) * units.get(text[-1:], 1)


def default_device_id(device: str) -> str:
    """A name for a device's file: its product name in plain letters and, of a CPU, how many threads torch uses."""
    if torch.device(device).type != "cpu":
        return slug(device_name(device))
    threads = torch.get_num_threads()
    return f"{slug(device_name(device))}-{threads}-thread{'s' if threads > 1 else ''}"


def slug(text: str) -> str:
    """Lower-case letters and digits with single hyphens between them; trade marks are dropped.

    >>> slug("AMD EPYC(TM) 7B13")
    'amd-epyc-7b13'
    """
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm|c)\)", " ", text.lower())).strip("-")


def device_of_rows(rows: Iterable[DeviceRow]) -> Device:
    """One device from its rows, as bounds on time need it: the best rate per dtype, each of its fastest block.

    Rows of an older version, which do not say what the fastest took, count with their median.

    Raises:
        ValueError: If they are of several devices, or a quantity is missing.
    """
    rows = list(rows)
    ids = {row.device_id for row in rows}
    if len(ids) != 1:
        raise ValueError(f"rows of one device are needed; these are of {', '.join(sorted(ids)) or 'none'}")
    products: dict[str, float] = {}
    for row in rows:
        if row.quantity == "gemm" and row.dtype:
            products[row.dtype] = max(best_value(row), products.get(row.dtype, 0.0))
    others = {row.quantity: best_value(row) for row in rows if row.quantity != "gemm"}
    missing = [name for name in ("copy", "launch", "memory") if name not in others] + ([] if products else ["gemm"])
    if missing:
        raise ValueError(f"device {ids.pop()} has no row of {', '.join(missing)}: measure it anew")
    first = rows[0]
    threads = f" ({first.num_threads} thread{'s' if first.num_threads > 1 else ''})" if first.device == "cpu" else ""
    return measured_device(
        first.device_name + threads,
        gemm_flop_per_s=products,
        copy_bytes_per_s=others["copy"],
        memory_bytes=int(others["memory"]),
        launch_overhead_s=others["launch"],
        source=f"measured {first.utc}, torch {first.torch_version}, commit {first.git_commit or 'unknown'}",
    )


def best_value(row: DeviceRow) -> float:
    """The value that follows from the fastest block."""
    if row.best_s is None or row.median_s is None:
        return row.value
    return row.best_s if row.unit == "s" else row.value * row.median_s / row.best_s


def read_measured_devices(results_dir: str | os.PathLike[str]) -> dict[str, Device]:
    """The devices of `results/devices/` by id, without the files that cannot be read (`read_table` names them).

    Raises:
        ValueError: If a file lacks a quantity.
    """
    return {device_id: device_of_rows(rows) for device_id, rows in _rows_by_id(results_dir)[0].items()}


def export_devices(results_dir: str | os.PathLike[str], path: str | os.PathLike[str]) -> list[str]:
    """Write the devices of `results/devices/` as the JSON that a page in the browser reads, where no parquet is.

    A list by id, each as `device_to_dict` has it with its `id` and `utc`. The same rows make the same bytes, and a file
    that holds them already is not touched.

    Returns:
        The ids.

    Raises:
        ValueError: If a file cannot be read or lacks a quantity: an export without a device would go unnoticed.
    """
    by_id, problems = _rows_by_id(results_dir)
    if problems:
        raise ValueError("; ".join(problems))
    by_id = dict(sorted(by_id.items()))
    devices = [
        {"id": device_id, **device_to_dict(device_of_rows(rows)), "utc": rows[0].utc}
        for device_id, rows in by_id.items()
    ]
    with contextlib.suppress(ValueError):  # none yet, or damaged
        if read_json(path) == devices:
            return list(by_id)
    write_json(path, devices)
    return list(by_id)


def _rows_by_id(results_dir: str | os.PathLike[str]) -> tuple[dict[str, list[DeviceRow]], list[str]]:
    """The rows of each device, and a line about each file that cannot be read."""
    from core.results import read_table  # polars, which a borrowed machine need not have

    frame, problems = read_table(Path(results_dir), "devices")
    by_id: dict[str, list[DeviceRow]] = {}
    for row in frame.iter_rows(named=True):
        by_id.setdefault(row["device_id"], []).append(DeviceRow(**row))
    return by_id, problems
