import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from core.accounting import OPTIMIZERS
from core.accounting.hardware import measured_device
from core.accounting.micro import MICRO, MicroCost, micro_bound_s, micro_cost, micro_live_bytes
from core.experiments.grid_micro import Operation
from core.experiments.grid_points import GridPoint
from core.experiments.memory_measure import allocated_peak_bytes

SIZES = {
    "gemm": {"batch_size": 2, "context_length": 5, "d_model": 7, "d_ff": 11},
    "attention": {"batch_size": 2, "num_heads": 3, "context_length": 7, "d_head": 5},
    "softmax": {"batch_size": 2, "num_heads": 3, "context_length": 7},
    "rms_norm": {"batch_size": 2, "context_length": 5, "d_model": 7},
    "cross_entropy": {"batch_size": 2, "context_length": 5, "vocab_size": 13},
}


@pytest.mark.parametrize("subject", SIZES)
def test_flop_are_those_that_torch_counts(subject):
    attention = "written_out" if subject == "attention" else None
    point = GridPoint(subject=subject, phases=("forward", "backward"), attention=attention, **SIZES[subject])
    operation = Operation(point, "cpu")
    for phase in point.phases:
        call = operation.call(phase)
        with FlopCounterMode(display=False) as counter:
            call()
        assert micro_cost(subject, phase, SIZES[subject], attention=attention).flop == counter.get_total_flops()


def test_bytes_are_those_of_inputs_and_results():
    assert set(SIZES) == set(MICRO)
    x, w, y = 2 * 5 * 7, 7 * 11, 2 * 5 * 11
    assert micro_cost("gemm", "forward", SIZES["gemm"]).ideal_bytes == 4 * (x + w + y)
    assert micro_cost("gemm", "backward", SIZES["gemm"], precision="bfloat16").ideal_bytes == 2 * (y + 2 * x + 2 * w)
    heads = 2 * 3 * 7 * 5
    assert micro_cost("attention", "forward", SIZES["attention"]).ideal_bytes == 4 * 4 * heads
    assert micro_cost("attention", "backward", SIZES["attention"], precision="float64").ideal_bytes == 8 * 8 * heads
    scores = 2 * 3 * 7 * 7
    assert micro_cost("softmax", "backward", SIZES["softmax"]).ideal_bytes == 4 * 3 * scores
    assert micro_cost("cross_entropy", "forward", SIZES["cross_entropy"]).ideal_bytes == 4 * 2 * 5 * 13 + 8 * 2 * 5


def test_a_causal_kernel_may_leave_out_what_the_mask_hides():
    fused = micro_cost("attention", "forward", SIZES["attention"], attention="sdpa")
    written_out = micro_cost("attention", "forward", SIZES["attention"], attention="written_out")
    assert fused.flop == written_out.flop == written_out.least_flop == 4 * 2 * 3 * 7 * 7 * 5
    assert fused.least_flop == 4 * 2 * 3 * (7 * 8 // 2) * 5


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_costs_what_its_row_says(name):
    found = micro_cost("optimizer", "optimizer", {"d_model": 7, "d_ff": 5, "num_layers": 3}, optimizer=name)
    numbers = 3 * 7 * 5
    per_number = {"adamw": 7, "adamw-foreach": 7, "adamw-fused": 7, "muon": 5, "sgd-momentum": 5, "sgd": 3}
    assert found.ideal_bytes == 4 * per_number[name] * numbers
    newton_schulz = 3 * 5 * (4 * 5 * 5 * 7 + 2 * 5**3)
    assert found.flop == (newton_schulz if name == "muon" else 0)


def test_the_bound_is_the_longest_of_three():
    rates = {"copy_bytes_per_s": 1000.0, "memory_bytes": 10**9, "launch_overhead_s": 0.5, "source": "made up"}
    device = measured_device("box", gemm_flop_per_s={"float32": 100.0}, **rates)

    def bound(flop, moved, cache_bytes):
        cost = MicroCost(flop=2 * flop, least_flop=flop, ideal_bytes=moved)
        return micro_bound_s(cost, "float32", device, cache_bytes)

    assert bound(300, 5000, 0) == 5.0
    assert bound(300, 5000, 1500) == 3.0
    assert bound(300, 5000, 500) == 4.0
    assert bound(300, 5000, None) == 3.0
    assert bound(0, 5000, 2500) == 0.5
    with pytest.raises(ValueError, match="bfloat16"):
        micro_bound_s(MicroCost(flop=1, least_flop=1, ideal_bytes=1), "bfloat16", device)


@pytest.mark.parametrize("subject", SIZES)
def test_what_lives_is_not_underestimated(subject):
    sizes = {name: 8 * size for name, size in SIZES[subject].items()}
    attention = "written_out" if subject == "attention" else None
    point = GridPoint(subject=subject, phases=("forward", "backward"), attention=attention, **sizes)

    def both():
        operation = Operation(point, "cpu")
        result = operation.forward()
        return operation.gradients(result, torch.ones_like(result))

    peak_bytes = allocated_peak_bytes(both)
    assert peak_bytes <= micro_live_bytes(subject, sizes, attention=attention) * 1.1 + 20_000
    assert peak_bytes > micro_live_bytes(subject, sizes, attention=attention) / 3


def test_unknown_names():
    with pytest.raises(ValueError, match="subject is 'conv'"):
        micro_cost("conv", "forward", {})
    with pytest.raises(ValueError, match="phase is 'step'"):
        micro_cost("gemm", "step", SIZES["gemm"])
