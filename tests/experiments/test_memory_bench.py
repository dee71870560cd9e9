import dataclasses
import json

import polars as pl
import pytest
import torch

from core.accounting import OPTIMIZERS, account, peak
from core.config import ModelConfig, from_dict
from core.experiments.memory_bench import SHAPES, MemoryCase, memory_cases, memory_row
from core.records import MemoryRow
from core.results import read_rows, schema, write_rows

TINY = ModelConfig(vocab_size=53, context_length=11, d_model=22, num_layers=2, num_heads=11, d_ff=29)
WORKLOAD = {"precision": "bfloat16-autocast", "optimizer": "sgd", "checkpointing": True}


@pytest.fixture(scope="module")
def row():
    case = MemoryCase(name="tiny", model=TINY, batch_size=3, workload=WORKLOAD)
    return memory_row(case, "box", git_commit="abc")


def test_a_row_holds_both_numbers_and_where_they_are_from(row):
    costs = account(TINY, batch_size=3, **WORKLOAD)
    assert (row.predicted_bytes, row.predicted_moment) == (peak(costs).total, str(peak(costs)))
    assert (row.saved_predicted_bytes, row.saved_measured_bytes) == (costs.saved_bytes, costs.saved_bytes)
    assert (row.parameter_bytes, row.optimizer_bytes) == (costs.parameter_bytes, 0)
    assert row.measured_bytes == pytest.approx(row.predicted_bytes, rel=0.05)  # so small a step shows every scalar
    assert (row.case, row.batch_size, row.seq, row.bench_id) == ("tiny", 3, 11, "box")
    assert {name: getattr(row, name) for name in WORKLOAD} == WORKLOAD
    assert from_dict(ModelConfig, json.loads(row.config_json)) == TINY
    assert (row.device, row.git_commit, row.torch_version) == ("cpu", "abc", str(torch.__version__))


def test_a_later_micro_batch_is_measured_as_such():
    case = MemoryCase(name="later", model=TINY, batch_size=3, workload={"accumulated": True, "loss_chunk": 7})
    later, first = (
        memory_row(dataclasses.replace(case, workload=workload), "box")
        for workload in (case.workload, {"loss_chunk": 7})
    )
    assert later.measured_bytes - first.measured_bytes == pytest.approx(later.predicted_bytes - first.predicted_bytes)
    assert later.measured_bytes > first.measured_bytes


def test_rows_survive_the_file(row, tmp_path):
    path = write_rows(tmp_path, "memory", "box", [row])
    assert path == tmp_path / "memory" / "box.parquet"
    assert [MemoryRow(**read) for read in read_rows(tmp_path, "memory", "box")] == [row]
    assert schema(MemoryRow)["checkpointing"] == pl.Boolean()


def test_the_grid_covers_every_kind_of_step():
    cases = memory_cases()
    costs = [account(case.model, batch_size=case.batch_size, **case.workload) for case in cases]
    assert 24 <= len(cases) == len({case.name + str(case.workload) for case in cases})
    assert {cost.optimizer for cost in costs} == set(OPTIMIZERS)
    assert {cost.precision for cost in costs} == {"float32", "float64", "bfloat16-autocast"}
    assert {cost.checkpointing for cost in costs} == {True, False}
    assert {cost.accumulated for cost in costs} == {True, False}
    assert {cost.loss_chunk for cost in costs} == {None, 64}
    fields = ("attention", "positions", "norm_placement", "feed_forward", "tie_embeddings")
    values = {field: {getattr(case.model, field) for case in cases} for field in fields}
    assert values == {
        "attention": {"sdpa", "written_out"},
        "positions": {"rope", "none"},
        "norm_placement": {"pre", "post", "none"},
        "feed_forward": {"swiglu", "silu", "relu2"},
        "tie_embeddings": {True, False},
    }
    assert any(case.model.kv_heads < case.model.num_heads for case in cases)
    moments = {str(peak(cost)).partition(" of layer")[0] for cost in costs}
    assert moments >= {
        "forward, loss",
        "backward, softmax",
        "backward, activation",
        "backward, embedding",
        "update, optimizer",
    }


def test_the_quick_selection_is_each_shape_once():
    quick = memory_cases(quick=True)
    assert [case.name for case in quick] == list(SHAPES)
    assert {dataclasses.replace(case.model, attention="sdpa") for case in quick} <= {c.model for c in memory_cases()}
