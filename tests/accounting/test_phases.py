"""The phases of a step: they are torch's own counts, they add up, and no cache makes a bound larger."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from core.accounting import account
from core.accounting.hardware import measured_device
from core.accounting.phases import PHASES, phase_bound_s, phase_cost
from core.accounting.roofline import forward_time, training_time
from core.config import ModelConfig
from core.experiments import device_measure
from core.experiments.device_measure import last_level_cache_bytes
from core.model.transformer import Transformer

MODEL = ModelConfig(
    vocab_size=53, context_length=11, d_model=30, num_layers=3, num_heads=5, d_ff=37, attention="written_out"
)
BATCH = 2


def box(rate=7e6, bytes_per_s=3e6):
    return measured_device(
        "box", gemm_flop_per_s={"float32": rate}, copy_bytes_per_s=bytes_per_s, memory_bytes=1, source="by hand"
    )


@pytest.mark.parametrize("tied", [False, True])
def test_products_of_each_phase_are_torchs(tied):
    config = dataclasses.replace(MODEL, tie_embeddings=tied)
    model, costs = Transformer(config), account(config, batch_size=BATCH)
    ids = torch.arange(BATCH * MODEL.context_length).view(BATCH, -1) % MODEL.vocab_size
    with FlopCounterMode(display=False) as forward:
        model(ids)
    with FlopCounterMode(display=False) as forward_loss:
        loss = model(ids, ids.flip(0).clone())[0]
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    counted = {"forward": forward, "forward_loss": forward_loss, "backward": backward}
    assert {name: counter.get_total_flops() for name, counter in counted.items()} == {
        name: phase_cost(costs, name).flop for name in counted
    }
    assert phase_cost(costs, "step").flop == costs.training_step_flop


@pytest.mark.parametrize("workload", [{}, {"checkpointing": True}, {"optimizer": "muon"}, {"loss_chunk": 7}])
def test_phases_add_up_to_the_step(workload):
    costs = account(MODEL, batch_size=BATCH, **workload)
    parts = [phase_cost(costs, name) for name in ("forward_loss", "backward", "optimizer")]
    step = phase_cost(costs, "step")
    again = sum(row.total("forward_flop") for row in costs.rows if row.operation.in_block) if workload else 0
    assert sum(part.flop for part in parts) == step.flop == costs.training_step_flop
    assert costs.training_step_flop_hardware in (step.flop, step.flop + again)
    assert sum(part.ideal_bytes for part in parts) == step.ideal_bytes
    moved = costs.total("forward_ideal_bytes") + costs.total("backward_ideal_bytes")
    if "checkpointing" in workload:
        moved += sum(row.total("forward_ideal_bytes") for row in costs.rows if row.operation.in_block)
    assert step.ideal_bytes == moved


def test_the_optimizer_multiplies_no_matrix_of_the_model():
    assert phase_cost(account(MODEL, optimizer="muon"), "optimizer").flop == 0


def test_bounds_are_the_rooflines():
    costs, here = account(MODEL, batch_size=BATCH, checkpointing=True), box()
    bounds = {name: phase_bound_s(costs, name, here, cache_bytes=0) for name in PHASES}
    assert bounds["step"] == pytest.approx(training_time(costs, here).roofline_s, rel=1e-12)
    assert bounds["forward"] == pytest.approx(forward_time(costs, here).roofline_s, rel=1e-12)
    assert bounds["forward_loss"] + bounds["backward"] + bounds["optimizer"] == pytest.approx(bounds["step"])
    assert bounds["forward_loss"] > bounds["forward"]


def test_traffic_counts_as_far_as_no_cache_holds_it():
    costs = account(MODEL, batch_size=BATCH)
    slow = box(rate=1e15, bytes_per_s=1e3)  # all is memory
    update = {row.name: row.once("forward_ideal_bytes") for row in costs.rows if row.group == "update"}
    cache = min(update.values()) // 2 - 5
    expected = sum(moved - 2 * cache for moved in update.values()) / 1e3
    assert phase_bound_s(costs, "optimizer", slow, cache) == pytest.approx(expected, rel=1e-6)
    bounds = [phase_bound_s(costs, "step", slow, cache) for cache in (0, 100, 10_000, 10**9, None)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > 100 * bounds[-1]
    assert bounds[-2] == bounds[-1] == training_time(costs, slow).arithmetic_s


def test_an_unknown_phase_is_named():
    with pytest.raises(ValueError, match="phase is 'backwards'"):
        phase_cost(account(MODEL), "backwards")
    with pytest.raises(ValueError, match="phase is 'update'"):
        phase_bound_s(account(MODEL), "update", box())


def test_a_precision_without_a_peak_has_no_bound():
    with pytest.raises(ValueError, match="box has no known peak for bfloat16"):
        phase_bound_s(account(dataclasses.replace(MODEL), precision="bfloat16-autocast"), "step", box())


def test_the_last_cache_is_the_largest(monkeypatch, tmp_path):
    for place, text in enumerate(["64K", "512K\n", "3M"]):
        (tmp_path / f"index{place}").mkdir()
        (tmp_path / f"index{place}" / "size").write_text(text)
    monkeypatch.setattr(device_measure, "Path", lambda path: tmp_path if "cache" in str(path) else Path(path))
    assert last_level_cache_bytes("cpu") == 3 << 20
    monkeypatch.setattr(device_measure, "Path", lambda path: tmp_path / "nothing")
    assert last_level_cache_bytes("cpu") is None
    assert last_level_cache_bytes("mps") is None
