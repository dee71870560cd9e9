import dataclasses

import polars as pl
import pytest

from core.accounting import account
from core.config import ModelConfig, canonical_json
from core.experiments.calibration_rows import read_workloads
from core.records import BenchmarkRow
from core.results import to_frame

FOREIGN = {
    "batch_size": [2, 3],
    "seq_len": [11, 13],
    "d_model": [22, 34],
    "num_heads": [11, 17],
    "num_layers": [3, 5],
    "d_ff": [29, 31],
    "median_s": [0.5, 0.7],
}
MODEL = ModelConfig(
    vocab_size=53, context_length=11, d_model=22, num_layers=3, num_heads=11, d_ff=29, tie_embeddings=True
)


def write(tmp_path, columns):
    path = tmp_path / "rows.parquet"
    (columns if isinstance(columns, pl.DataFrame) else pl.DataFrame(columns)).write_parquet(path)
    return path


def benchmark_row(**changes):
    values = {entry.name: None for entry in dataclasses.fields(BenchmarkRow)}
    values |= {
        "bench_id": "box",
        "point_id": "abc",
        "subject": "model",
        "phase": "forward_loss",
        "batch_size": 2,
        "context_length": 7,
        "d_model": 22,
        "num_heads": 11,
        "d_head": 2,
        "num_layers": 3,
        "d_ff": 29,
        "vocab_size": 53,
        "precision": "bfloat16-autocast",
        "attention": "sdpa",
        "compiled": True,
        "optimizer": "sgd",
        "config_json": canonical_json(MODEL),
        "status": "ok",
        "median_s": 0.25,
        "predicted_flop": 1.0,
        "predicted_bytes": 1.0,
        "memory_bytes": 2**34,
        "device": "cpu",
        "device_name": "a box",
        "num_threads": 2,
        "torch_version": "2.13.0",
        "utc": "2026-11-21T00:00:00+00:00",
    }
    return BenchmarkRow(**values | changes)


def test_rows_of_others_mean_what_is_absent(tmp_path):
    file = read_workloads(write(tmp_path, FOREIGN), measured=True)
    assert (file.device_name, file.memory_bytes) == (None, None)
    assert [(each.row, each.seconds, each.setting) for each in file.workloads] == [
        (0, 0.5, "step, float32"),
        (1, 0.7, "step, float32"),
    ]
    model = ModelConfig(
        vocab_size=10_000, context_length=13, d_model=34, num_layers=5, num_heads=17, d_ff=31, attention="written_out"
    )
    assert file.workloads[1].costs == account(model, batch_size=3)


def test_columns_that_are_there_count(tmp_path):
    more = {
        "vocab_size": [53, None],
        "attention": ["sdpa", None],
        "precision": ["tf32", None],
        "optimizer": ["muon", None],
        "phase": ["backward", None],
        "compiled": [True, None],
        "d_head": [6, 2],
        "device_name": ["x", "x"],
        "memory_bytes": [2**33, 2**33],
    }
    file = read_workloads(write(tmp_path, FOREIGN | more), measured=True)
    first, second = file.workloads
    assert (first.setting, second.setting) == ("backward, tf32, compiled", "step, float32")
    costs = first.costs
    assert (costs.model.vocab_size, costs.model.attention, costs.optimizer) == (53, "sdpa", "muon")
    assert (costs.model.d_head, second.costs.model.head_dim) == (6, None)
    assert (second.costs.model.vocab_size, second.costs.model.attention) == (10_000, "written_out")
    assert (file.device_name, file.memory_bytes) == ("x", 2**33)


def test_our_own_rows(tmp_path):
    micro = dict.fromkeys(("batch_size", "context_length", "d_model", "num_heads", "num_layers", "d_ff"))
    rows = [
        benchmark_row(subject="gemm", phase="forward", config_json=None, **micro),
        benchmark_row(),
        benchmark_row(status="out_of_memory", median_s=None),
    ]
    path = write(tmp_path, to_frame(rows, BenchmarkRow))
    file = read_workloads(path, measured=True)
    (found,) = file.workloads
    assert (found.row, found.seconds, found.setting) == (1, 0.25, "forward_loss, bfloat16-autocast, compiled")
    assert found.costs == account(MODEL, batch_size=2, seq=7, precision="bfloat16-autocast", optimizer="sgd")
    assert (file.device_name, file.memory_bytes) == ("a box", 2**34)
    asked = read_workloads(path, measured=False)
    assert [(each.row, each.seconds) for each in asked.workloads] == [(1, 0.25), (2, None)]
    assert asked.frame.height == 3


def test_rows_to_predict_need_no_time(tmp_path):
    columns = {name: values for name, values in FOREIGN.items() if name != "median_s"}
    assert [each.seconds for each in read_workloads(write(tmp_path, columns), measured=False).workloads] == [None, None]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_ff": None}, "no column d_ff; needed are batch_size, context_length, d_model"),
        ({"seq_len": None}, r"no column context_length \(or seq_len\)"),
        ({"d_model": ["22", "34"]}, "column d_model is String: it must hold whole numbers"),
        ({"d_model": [22.0, 34.0]}, "column d_model is Float64: it must hold whole numbers"),
        ({"median_s": None}, "no column median_s: the measured seconds to fit to"),
        ({"median_s": ["fast", "slow"]}, "column median_s is String: it must hold seconds"),
        ({"median_s": [0.5, 0.0]}, "row 1: median_s is 0.0: it must be positive seconds"),
        ({"median_s": [-1.0, 0.5]}, "row 0: median_s is -1.0: it must be positive seconds"),
        ({"median_s": [0.5, float("nan")]}, "row 1: median_s is nan: it must be positive seconds"),
        ({"median_s": [0.5, None]}, "row 1: median_s is empty: it must be positive seconds"),
        ({"num_heads": [11, 16]}, "row 1: d_model 34 is not divisible by num_heads 16"),
        ({"num_heads": [11, 0]}, "row 1: num_heads is 0: it must be at least 1"),
        ({"batch_size": [0, 2]}, "row 0: batch_size is 0: it must be a whole number"),
        ({"seq_len": [None, 11]}, "row 0: seq_len is empty"),
        ({"precision": ["fp32", "fp32"]}, "row 0: precision is 'fp32': there is float32"),
        ({"phase": ["step", "steps"]}, "row 1: phase is 'steps': there is .*; did you mean step"),
        ({"optimizer": ["adamw", "adam"]}, "row 1: optimizer is 'adam': there is adamw"),
        ({"attention": ["sdpa", "fast"]}, "row 1: attention is 'fast': it must be sdpa or"),
        ({"vocab_size": [1.5, 2.0]}, "row 0: vocab_size is 1.5: it must be of type int"),
        ({"compiled": [1, 0]}, "row 0: compiled is 1: it must be true or false"),
        ({"config_json": ["{", "{}"]}, "row 0: config_json is not JSON"),
        ({"config_json": ["{}", "{}"]}, "row 0: vocab_size is missing"),
        ({"d_head": ["wide", "wide"]}, "row 0: head_dim is 'wide': it must be of type int"),
        ({"memory_bytes": [1.5, 2.5]}, "column memory_bytes is Float64: it must hold whole numbers"),
        ({"device_name": ["x", "y"]}, r"rows of 2 devices \(x, y\): a fit is of one"),
        ({"status": ["error", "error"]}, "no measured row of a whole model among 2 rows"),
    ],
)
def test_bad_rows_are_named(changes, message, tmp_path):
    columns = {name: values for name, values in (FOREIGN | changes).items() if values is not None}
    path = write(tmp_path, columns)
    with pytest.raises(ValueError, match=message) as raised:
        read_workloads(path, measured=True)
    assert str(raised.value).startswith(f"{path}: ")


def test_no_rows_at_all(tmp_path):
    frame = pl.DataFrame(FOREIGN).clear()
    with pytest.raises(ValueError, match="no row of a whole model among 0 rows"):
        read_workloads(write(tmp_path, frame), measured=False)


def test_files_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        read_workloads(tmp_path / "none.parquet", measured=True)
    with pytest.raises(ValueError, match="a folder"):
        read_workloads(tmp_path, measured=True)
    (tmp_path / "text.parquet").write_text("batch_size,seq_len\n")
    with pytest.raises(ValueError, match=r"text.parquet: not a parquet file \("):
        read_workloads(tmp_path / "text.parquet", measured=True)
