import statistics

import pytest
import torch
from model_point import model_point
from torch.testing import assert_close

from core.experiments.grid_micro import Update
from core.experiments.grid_model import TrainingPhases, computing
from core.experiments.grid_points import GridPoint
from core.model import functional
from core.model.linear_cross_entropy import linear_cross_entropy


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
    Update(point, "cpu").call("optimizer")()


def test_computing_leaves_torch_as_it_was():
    before = torch.get_float32_matmul_precision()
    with computing(model_point(precision="tf32"), "cpu"):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler uses what torch itself deprecates
def test_a_compiled_model_runs_in_all_phases():
    points = [model_point(compiled=True, d_ff=d_ff) for d_ff in (11, 13)]
    for point in points:  # the second would run into dynamo's limits or dynamic shapes if the first were kept
        with computing(point, "cpu"):
            phases = TrainingPhases(point, "cpu")
            for phase in point.phases:
                call = phases.call(phase)
                call()
                call()
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
