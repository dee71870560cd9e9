import pytest
import torch
from model_point import model_point
from torch.testing import assert_close

from core.accounting import peak
from core.config.grid import SUBJECTS
from core.experiments.grid_micro import Operation
from core.experiments.grid_points import GridPoint
from core.experiments.grid_rounds import Rounds
from core.experiments.grid_visit import PEAK_STEP_S, is_out_of_memory, visit_point


def visited(point, step_s=0.25, number=1):
    """A visit whose times are made up: each phase runs twice."""

    def twice(subject, phases, reference, *, num_rounds, visit, found):
        for phase in phases:
            call = subject.call(phase)
            call()
            call()
            found[phase] = Rounds(seconds=(step_s,), reference_s=(reference(),), visits=(visit,))

    return visit_point(point, "cpu", point.phases, lambda: 0.5, num_rounds=1, number=number, time_all=twice)


@pytest.mark.parametrize("precision", ["float32", "bfloat16-autocast"])
def test_every_phase_is_measured_and_the_peak_of_the_step(precision):
    point = model_point(precision=precision)
    found = visited(point)
    assert (tuple(found.rounds), found.status, found.message) == (point.phases, "ok", None)
    assert found.peak_bytes == pytest.approx(peak(point.account()).total, rel=0.02)


def test_no_peak_of_a_slow_step_nor_of_a_later_visit():
    point = model_point(phases=("step",))
    assert visited(point, step_s=PEAK_STEP_S + 0.1).peak_bytes is None
    assert visited(point, number=2).peak_bytes is None
    assert visited(point, step_s=PEAK_STEP_S).peak_bytes > 0


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB.\nMore"),
            "out_of_memory",
            "CUDA out of memory. Tried",
        ),
        (MemoryError(), "out_of_memory", "MemoryError"),
        (RuntimeError("no kernel for this\nat line 3"), "error", "no kernel for this"),
    ],
)
def test_what_fails_is_told(error, status, message):
    def failing(subject, phases, reference, *, found, **_):
        found["forward"] = Rounds(seconds=(1.0,), reference_s=(1.0,), visits=(1,))
        raise error

    found = visit_point(model_point(), "cpu", ("forward", "step"), lambda: 1.0, num_rounds=1, time_all=failing)
    assert (set(found.rounds), found.status, found.peak_bytes) == ({"forward"}, status, None)
    assert found.message.startswith(message)
    assert "\n" not in found.message


def test_other_errors_are_ours_and_not_hidden():
    def failing(*_, **__):
        raise KeyError("a slip")

    with pytest.raises(KeyError, match="a slip"):
        visit_point(model_point(), "cpu", ("forward",), lambda: 1.0, num_rounds=1, time_all=failing)


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
            visit = visited(point)
            assert (tuple(visit.rounds), visit.peak_bytes, visit.message) == (phases, None, None)
            found.append(precision)
    assert "float32" in found


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
