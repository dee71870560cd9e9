import dataclasses
import json
from pathlib import Path

import psutil
import pytest
import torch

from core.accounting.hardware import device_from_dict, measured_device
from core.experiments import device_measure
from core.experiments.device_measure import (
    default_device_id,
    device_of_rows,
    export_devices,
    measure_device,
    read_measured_devices,
    slug,
)
from core.records import DeviceRow
from core.results import RUN_TABLES, TABLES, check_writable, read_rows, read_table, write_rows

ROOT = Path(__file__).parents[2]
TINY = {"gemm_sizes": (13, 29), "copy_bytes": 4 * 1009, "rounds": 2, "min_run_time_s": 1e-3}


@pytest.fixture(scope="module")
def progress():
    return []


@pytest.fixture(scope="module")
def rows(progress):
    return measure_device("cpu", "box", git_commit="abc", on_progress=progress.append, **TINY)


def of(rows, quantity):
    return [row for row in rows if row.quantity == quantity]


def test_values_follow_from_the_medians(rows):
    products = of(rows, "gemm")
    assert {(row.dtype, row.size) for row in products} >= {("float32", 13), ("float32", 29)}
    for row in products:
        assert row.value == 2 * row.size**3 / row.median_s
        assert (row.accumulate_dtype, row.unit) == ("float32", "FLOP/s")
    (copy,) = of(rows, "copy")
    assert (copy.size, copy.unit, copy.accumulate_dtype) == (1009, "B/s", None)
    assert copy.value == 2 * 4 * 1009 / copy.median_s  # read and written
    (launch,) = of(rows, "launch")
    assert (launch.size, launch.unit, launch.value) == (1, "s", launch.median_s)
    for row in [*products, copy, launch]:
        assert row.median_s > 0
        assert row.iqr_s >= 0
        assert row.blocks >= TINY["rounds"]


def test_memory_and_where_it_was_measured(rows):
    (memory,) = of(rows, "memory")
    assert (memory.value, memory.unit) == (psutil.virtual_memory().total, "B")
    nothing = (memory.dtype, memory.accumulate_dtype, memory.size, memory.median_s, memory.iqr_s, memory.blocks)
    assert nothing == (None,) * 6
    assert {(row.device_id, row.device, row.git_commit) for row in rows} == {("box", "cpu", "abc")}
    assert {(row.num_threads, row.torch_version) for row in rows} == {(torch.get_num_threads(), str(torch.__version__))}
    assert len({row.utc for row in rows}) == 1


def test_rounds_are_told(rows, progress):
    operations = len(rows) - 1  # all but the memory
    told = [line for line in progress if line.startswith("round")]
    assert told == [f"round {done} of 2: {operations} operations" for done in (1, 2)]


def test_slow_and_missing_dtypes_are_left_out(monkeypatch):
    seconds = {"float32": 1e-3, "bfloat16": 21e-3}

    def slow(case, device, min_run_time_s):
        if case.dtype == "float16":
            raise RuntimeError('"addmm_impl" not implemented for Half\nmore')
        return [seconds[case.dtype]] * 3

    monkeypatch.setattr(device_measure, "_time", slow)
    told = []
    kept = list(device_measure._products("cpu", [32, 64, 512], 0.1, told.append))
    # At 512 a product would take 1e-3 * 16^3 = 4 s.
    assert [(case.dtype, case.size) for case in kept] == [("float32", 32), ("float32", 64)]
    assert told == [
        "bfloat16: 21 times slower than float32, so left out",
        'float16: not on this device ("addmm_impl" not implemented for Half)',
    ]


def test_rows_survive_the_file_and_become_a_device(rows, tmp_path):
    write_rows(tmp_path, "devices", "box", rows)
    assert [DeviceRow(**row) for row in read_rows(tmp_path, "devices", "box")] == rows
    built = device_of_rows(rows)
    assert read_measured_devices(tmp_path) == {"box": built}
    products, copies = of(rows, "gemm"), of(rows, "copy")
    assert all(0 < row.best_s <= row.median_s for row in (*products, *copies))
    best = max(2 * row.size**3 / row.best_s for row in products if row.dtype == "float32")
    assert built.peak("float32").flop_per_s == pytest.approx(best)
    assert built.memory_bytes_per_s == pytest.approx(2 * 4 * copies[0].size / copies[0].best_s)
    assert built.memory_bytes == psutil.virtual_memory().total
    assert built.launch_overhead_s == of(rows, "launch")[0].best_s


def made(quantity, value, **columns):
    empty = dict.fromkeys(field.name for field in dataclasses.fields(DeviceRow))
    given = {"device_id": "x", "device": "cuda", "device_name": "X", "num_threads": 2, "utc": "now"}
    return DeviceRow(**{**empty, **given, "torch_version": "3", "quantity": quantity, "value": value, **columns})


MADE = [
    made("gemm", 30.0, dtype="float32", size=7),
    made("gemm", 50.0, dtype="float32", size=11),
    made("gemm", 40.0, dtype="float32", size=13),
    made("gemm", 90.0, dtype="bfloat16", size=7),
    made("copy", 5.0),
    made("launch", 1e-6),
    made("memory", 17.0),
]


def test_the_best_product_counts():
    assert device_of_rows(MADE) == measured_device(
        "X",
        gemm_flop_per_s={"float32": 50.0, "bfloat16": 90.0},
        copy_bytes_per_s=5.0,
        memory_bytes=17,
        launch_overhead_s=1e-6,
        source="measured now, torch 3, commit unknown",
    )
    # Bounds are made of the fastest blocks, where rows tell them.
    fast = [made("gemm", 45.0, dtype="float32", size=7, median_s=2.0, best_s=1.0), *MADE[3:4], *MADE[6:]]
    fast += [made("copy", 5.0, median_s=3.0, best_s=2.0), made("launch", 1e-6, median_s=1e-6, best_s=9e-7, unit="s")]
    device = device_of_rows(fast)
    assert [device.peak(dtype).flop_per_s for dtype in ("float32", "bfloat16")] == [90.0, 90.0]
    assert (device.memory_bytes_per_s, device.launch_overhead_s) == (7.5, 9e-7)
    threads = [dataclasses.replace(row, device="cpu", git_commit="abc") for row in MADE]
    assert device_of_rows(threads).name == "X (2 threads)"
    assert device_of_rows(threads).memory_source == "measured now, torch 3, commit abc"


def test_a_page_reads_the_devices_that_were_measured(rows, tmp_path):
    others = [dataclasses.replace(row, device_id="a-box", utc="2026-01-02T03:04:05Z") for row in rows]
    write_rows(tmp_path, "devices", "box", rows)
    write_rows(tmp_path, "devices", "a-box", others)
    path = tmp_path / "public" / "devices.json"
    assert export_devices(tmp_path, path) == ["a-box", "box"]
    exported = json.loads(path.read_text())
    assert [(entry["id"], entry["utc"]) for entry in exported] == [("a-box", others[0].utc), ("box", rows[0].utc)]
    assert {entry["id"]: device_from_dict(entry) for entry in exported} == read_measured_devices(tmp_path)
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    export_devices(tmp_path, path)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    for stale in ("[]", "[{"):
        path.write_text(stale)
        export_devices(tmp_path, path)
        assert path.read_bytes() == before[0]
    (tmp_path / "devices" / "torn.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"torn\.parquet: cannot be read"):
        export_devices(tmp_path, path)


def test_the_committed_devices_of_the_page_are_those_of_the_rows(tmp_path):
    path = ROOT / "notebooks" / "public" / "devices.json"
    committed = json.loads(path.read_text()) if path.exists() else []
    export_devices(ROOT / "results", tmp_path / "devices.json")
    measured = {entry["id"]: entry for entry in json.loads((tmp_path / "devices.json").read_text())}
    assert committed == [measured.get(entry["id"]) for entry in committed], "workbook publish architecture refreshes it"


def test_incomplete_rows_say_what_is_missing():
    with pytest.raises(ValueError, match="device x has no row of copy, launch: measure it anew"):
        device_of_rows([row for row in MADE if row.quantity not in ("copy", "launch")])
    with pytest.raises(ValueError, match="device x has no row of gemm"):
        device_of_rows(MADE[4:])
    with pytest.raises(ValueError, match="rows of one device are needed; these are of x, y"):
        device_of_rows([*MADE, dataclasses.replace(MADE[0], device_id="y")])


def test_no_results_are_no_devices(tmp_path):
    assert read_measured_devices(tmp_path / "gone") == {}
    write_rows(tmp_path, "devices", "x", MADE)
    (tmp_path / "devices" / "torn.parquet").write_bytes(b"PAR1")
    assert list(read_measured_devices(tmp_path)) == ["x"]
    assert len(read_table(tmp_path, "devices")[1]) == 1


def test_runs_do_not_touch_the_devices(tmp_path):
    assert {"devices", "memory"} <= set(TABLES) - set(RUN_TABLES)
    check_writable(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(RUN_TABLES)
    check_writable(tmp_path, ["devices"])
    assert list((tmp_path / "devices").iterdir()) == []


def test_ids_are_plain_names():
    assert slug("AMD EPYC(TM) 7B13 64-Core") == "amd-epyc-7b13-64-core"
    assert slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
    threads = torch.get_num_threads()
    assert default_device_id("cpu").endswith(f"-{threads}-thread{'s' if threads > 1 else ''}")


def test_median_and_spread_are_over_all_blocks(monkeypatch):
    blocks = iter([[1.0, 2.0, 9.0], [4.0, 3.0]])
    case = device_measure._Case(quantity="gemm", dtype="float32", size=3)
    monkeypatch.setattr(device_measure, "_products", lambda *_: [case])
    monkeypatch.setattr(device_measure, "_time", lambda case, *_: next(blocks) if case.quantity == "gemm" else [0.5])
    (row,) = of(measure_device("cpu", "box", **TINY), "gemm")
    assert (row.median_s, row.iqr_s, row.blocks, row.value) == (3.0, 2.0, 5, 18.0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_measured_and_keeps_its_settings():
    before = torch.backends.cuda.matmul.fp32_precision
    rows = measure_device("cuda", "gpu", **TINY | {"gemm_sizes": (1024,)})
    assert {row.dtype for row in of(rows, "gemm")} >= {"float32", "float16"}
    assert of(rows, "memory")[0].value == torch.cuda.get_device_properties("cuda").total_memory
    assert torch.backends.cuda.matmul.fp32_precision == before
