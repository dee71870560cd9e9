import statistics
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from core.accounting import peak
from core.config.grid import SUBJECTS
from core.experiments import grid_measure
from core.experiments.grid_measure import (
    TrainingPhases,
    computing,
    is_out_of_memory,
    measure_model,
    time_call,
)
from core.experiments.grid_micro import Operation, measure_micro, optimizer_update
from core.experiments.grid_points import GridPoint
from core.model import functional
from core.model.linear_cross_entropy import linear_cross_entropy

STEADY = (2.0,) * 5
WILD = (1.0, 1.0, 2.0, 3.0, 3.0)
"""IQR / median is 1."""


def model_point(**changes):
    sizes = {"batch_size": 3, "context_length": 5, "d_model": 12, "num_heads": 3, "d_head": 4}
    sizes |= {"num_layers": 2, "d_ff": 11, "vocab_size": 17, "attention": "sdpa", "optimizer": "adamw"}
    return GridPoint(**{"subject": "model", "phases": SUBJECTS["model"].phases, **sizes, **changes})


class Scripted:
    """A Timer that does not run what it is given: it returns the measurements of its script, in turn."""

    def __init__(self, *script, runs=1):
        self.script, self.runs, self.asked = list(script), runs, []

    def __call__(self, statement, globals, num_threads):
        assert (statement, num_threads) == ("call()", torch.get_num_threads())
        return self

    def blocked_autorange(self, min_run_time):
        self.asked.append(min_run_time)
        return SimpleNamespace(times=list(self.script.pop(0)), number_per_run=self.runs)


def timed(*script, kind="cuda", **changes):
    scripted, calls, clock = Scripted(*script, **changes), [], iter([10.0, 17.0])
    found = time_call(lambda: calls.append(1), kind, make_timer=scripted, clock=lambda: next(clock))
    return found, scripted, len(calls)


def test_a_steady_phase_is_measured_once():
    found, scripted, calls = timed((3.0, 3.1, 2.9, 3.05, 2.95, 100.0, 3.0), runs=7)
    assert (found.median_s, found.num_blocks, found.runs_per_block, found.attempts) == (3.0, 7, 7, 1)
    assert found.iqr_s == pytest.approx(3.075 - 2.975)
    assert found.noisy is False
    assert found.warm_up_s == 7.0
    assert calls == 2  # the first, and one that settles
    assert scripted.asked == [grid_measure.MIN_RUN_S]


def test_what_spreads_is_measured_again_and_the_best_kept():
    nearly = (1.9, 1.95, 2.0, 2.05, 2.1)
    found, scripted, _ = timed(WILD, nearly, STEADY)
    assert (found.median_s, found.iqr_s, found.attempts, found.noisy) == (2.0, pytest.approx(0.1), 2, False)
    assert scripted.script == [STEADY]


def test_what_stays_wild_is_flagged_after_four_attempts():
    calmer = (1.0, 1.5, 2.0, 2.5, 3.0)
    found, scripted, _ = timed(WILD, calmer, WILD, WILD, STEADY)
    assert (found.attempts, found.noisy, found.iqr_s) == (4, True, 1.0)
    assert scripted.script == [STEADY]


def test_a_shared_cpu_may_spread_twice_as_much():
    between = (1.8, 1.92, 2.0, 2.08, 2.2)  # 8 %
    assert timed(between, kind="cpu")[0].noisy is False
    assert timed(*[between] * 4, kind="cuda")[0].noisy is True


def test_fewer_than_five_blocks_are_tried_again_and_then_have_no_range():
    found, scripted, _ = timed((2.0,), (2.0, 2.0, 2.0), STEADY, runs=3)
    assert (found.num_blocks, found.iqr_s, found.attempts) == (5, 0.0, 1)
    assert scripted.asked == [grid_measure.MIN_RUN_S, pytest.approx(1.2 * 5 * 6.0), pytest.approx(2.4 * 5 * 6.0)]
    found, scripted, _ = timed((2.0,), (2.0,), (2.0, 4.0))
    assert (found.num_blocks, found.iqr_s, found.noisy, found.median_s) == (2, None, None, 3.0)


def test_no_block_of_the_real_timer_is_missing():
    a = torch.rand(64, 64)
    found = time_call(lambda: a @ a, "cpu")
    assert found.num_blocks >= 5
    assert found.iqr_s is not None
    assert 1 <= found.attempts <= 4


def test_a_large_product_takes_at_least_its_physical_floor():
    # 64 float32 products and sums a cycle (two units of 512 bits) at 6 GHz: more than any core does.
    size, peak_flop_per_s = 700, 64 * 2 * 6e9 * torch.get_num_threads()
    a, b = torch.rand(2, size, size)
    assert time_call(lambda: a @ b, "cpu").median_s >= 2 * size**3 / peak_flop_per_s


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_large_product_takes_at_least_its_physical_floor_on_cuda():
    a, b = torch.rand(2, 8192, 8192, device="cuda", dtype=torch.bfloat16)
    assert time_call(lambda: a @ b, "cuda").median_s >= 2 * 8192**3 / 5e15


@pytest.mark.skipif(not torch.backends.mps.is_available(), reason="no Apple GPU")
def test_a_large_product_takes_at_least_its_physical_floor_on_mps():
    a, b = torch.rand(2, 4096, 4096, device="mps")
    assert time_call(lambda: a @ b, "mps").median_s >= 2 * 4096**3 / 2e14


@pytest.mark.parametrize("attention", ["sdpa", "written_out"])
@pytest.mark.parametrize("precision", ["float64", "bfloat16-autocast"])
def test_the_backward_is_that_of_the_step_however_often_it_runs(attention, precision):
    phases = TrainingPhases(model_point(attention=attention, precision=precision), "cpu")
    backward = phases.call("backward")
    found = []
    for _ in range(3):
        backward()
        found.append([parameter.grad.clone() for parameter in phases.model.parameters()])
    phases.model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16-autocast"):
        hidden = phases.model.hidden(phases.inputs)
        loss = linear_cross_entropy(hidden, phases.model.lm_head.weight, phases.targets)[0]
    loss.backward()
    expected = [parameter.grad for parameter in phases.model.parameters()]
    assert sum(float(gradient.square().sum()) for gradient in expected) > 1e-3
    for gradients in found:
        assert_close(gradients, expected, rtol=0, atol=0)


def test_the_phases_compute_what_they_say():
    phases = TrainingPhases(model_point(precision="float64"), "cpu")
    before = [parameter.detach().clone() for parameter in phases.model.parameters()]
    logits = phases.call("forward")()
    assert not logits.requires_grad
    expected = functional.cross_entropy(logits, phases.targets).mean()
    assert_close(phases.call("forward_loss")(), expected)
    update = phases.call("optimizer")
    gradients = [parameter.grad for parameter in phases.model.parameters()]
    assert all(gradient is not None for gradient in gradients)
    update()
    update()
    assert all(p.grad is g for p, g in zip(phases.model.parameters(), gradients, strict=True))
    assert torch.stack([gradient.norm() for gradient in gradients]).norm() <= 1 + 1e-9
    phases.call("step")()
    states = [state["step"] for optimizer in phases.optimizers for state in optimizer.state.values()]
    assert states == [3] * len(before)
    # The rate is 0: every run computes the same.
    assert_close(list(phases.model.parameters()), before, rtol=0, atol=0)


@pytest.mark.parametrize("optimizer", ["adamw", "adamw-foreach", "adamw-fused", "muon", "sgd", "sgd-momentum"])
def test_weights_stand_still_under_every_optimizer(optimizer):
    phases = TrainingPhases(model_point(optimizer=optimizer), "cpu")
    before = [parameter.detach().clone() for parameter in phases.model.parameters()]
    phases.step()
    assert_close(list(phases.model.parameters()), before, rtol=0, atol=0)
    point = GridPoint(subject="optimizer", phases=("optimizer",), d_model=5, d_ff=3, num_layers=2, optimizer=optimizer)
    optimizer_update(point, "cpu")()


def once(call, kind):
    """A time without a measurement: the call runs once."""
    call()
    return SimpleNamespace(median_s=0.25)


@pytest.mark.parametrize("precision", ["float32", "bfloat16-autocast"])
def test_every_phase_is_reported_and_the_peak_with_the_step(precision):
    point, found = model_point(precision=precision), []
    measure_model(point, "cpu", lambda *one: found.append(one), once)
    assert [phase for phase, _, _ in found] == list(point.phases)
    peaks = {phase: peak_bytes for phase, _, peak_bytes in found}
    assert peaks.pop("step") == pytest.approx(peak(point.account()).total, rel=0.02)
    assert set(peaks.values()) == {None}


def test_no_peak_of_a_slow_step():
    found = []
    slow = SimpleNamespace(median_s=grid_measure.PEAK_STEP_S + 0.1)
    measure_model(model_point(phases=("step",)), "cpu", lambda *one: found.append(one), lambda call, kind: slow)
    assert found == [("step", slow, None)]


ATTENTION = {"batch_size": 2, "num_heads": 3, "context_length": 7, "d_head": 8}


@pytest.mark.parametrize("attention", ["sdpa", "flash"])
def test_implementations_of_attention_agree(attention):
    results = {}
    for name in ("written_out", attention):
        point = GridPoint(
            subject="attention", phases=("forward", "backward"), attention=name, precision="float64", **ATTENTION
        )
        operation = Operation(point, "cpu")
        results[name] = [operation.forward(), *operation.call("backward")()]
    assert_close(results[attention], results["written_out"])


@pytest.mark.parametrize(
    ("subject", "sizes", "phases"),
    [
        ("gemm", {"batch_size": 2, "context_length": 3, "d_model": 5, "d_ff": 7}, ("forward", "backward")),
        ("softmax", {"batch_size": 2, "num_heads": 3, "context_length": 5}, ("backward",)),
        ("rms_norm", {"batch_size": 2, "context_length": 3, "d_model": 5}, ("forward", "backward")),
        ("cross_entropy", {"batch_size": 2, "context_length": 3, "vocab_size": 5}, ("forward", "backward")),
        ("optimizer", {"d_model": 5, "d_ff": 3, "num_layers": 2}, ("optimizer",)),
    ],
)
def test_every_operation_runs_in_its_phases(subject, sizes, phases):
    found = []
    for precision in SUBJECTS[subject].precisions:
        point = GridPoint(subject=subject, phases=phases, precision=precision, **sizes)
        if precision != "tf32":
            measure_micro(point, "cpu", lambda phase, timing, peak_bytes: found.append((phase, peak_bytes)), once)
    assert found == [(phase, None) for phase in phases] * (len(found) // len(phases))
    assert len(found) >= len(phases)


def test_computing_leaves_torch_as_it_was():
    before = torch.get_float32_matmul_precision()
    with computing(model_point(precision="tf32"), "cpu"):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, is_it):
    assert is_out_of_memory(error) == is_it


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler uses what torch itself deprecates
def test_a_compiled_model_is_timed_in_all_phases():
    points = [model_point(compiled=True, d_ff=d_ff) for d_ff in (11, 13)]
    for point in points:  # the second would run into dynamo's limits or dynamic shapes if the first were kept
        found = []

        def once_more(call, kind):
            call()
            return once(call, kind)

        measure_model(point, "cpu", lambda phase, timing, peak_bytes: found.append(phase), once_more)  # noqa: B023
        assert found == list(point.phases)
    with computing(points[0], "cpu"):
        compiled, plain = TrainingPhases(points[0], "cpu"), TrainingPhases(model_point(), "cpu")
        gradients = []
        for phases in (compiled, plain):
            backward = phases.call("backward")
            backward()
            backward()
            gradients.append([parameter.grad for parameter in phases.model.parameters()])
        assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)
        assert statistics.fmean(float(gradient.abs().mean()) for gradient in gradients[1]) > 1e-5
