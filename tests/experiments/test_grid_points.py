import dataclasses

import pytest
import torch

from core.accounting import account, parameters, peak
from core.accounting.hardware import measured_device
from core.accounting.phases import phase_bound_s
from core.config.grid import SUBJECTS, GridConfig, GridPart
from core.experiments.grid_points import expand, predict
from core.experiments.grid_presets import GRIDS, grid_preset
from core.experiments.memory_measure import OPTIMIZERS

AXES = {
    "batch_size": (2, 3),
    "context_length": (5, 7),
    "d_model": (12, 20),
    "num_heads": (2, 3),
    "num_layers": 1,
    "d_ff": (11, 13),
    "vocab_size": 17,
}


def grid(*parts, **changes):
    return GridConfig(name="mine", parts=parts, **changes)


def part(constraints=(), axes=AXES, **changes):
    return GridPart(axes=axes, constraints=constraints, **changes)


def test_all_combinations_that_a_model_can_have():
    found = expand(grid(part()))
    # Of (12, 2), (12, 3), (20, 2), (20, 3) heads of width 6, 4, 10 and no whole one.
    assert len(found.points) == 2 * 2 * 3 * 2
    assert {(point.d_model, point.num_heads, point.d_head) for point in found.points} == {
        (12, 2, 6),
        (12, 3, 4),
        (20, 2, 10),
    }
    assert found.refused == 2 * 2 * 1 * 2
    assert "d_model 20 is not divisible by num_heads 3" in found.reason
    first = found.points[0]
    assert (first.precision, first.attention, first.compiled, first.optimizer) == ("float32", "sdpa", False, "adamw")
    assert first.phases == SUBJECTS["model"].phases
    assert {point.model.d_ff for point in found.points} == {11, 13}
    assert len({point.point_id for point in found.points}) == len(found.points)


def test_heads_follow_from_their_width():
    axes = {name: values for name, values in AXES.items() if name != "num_heads"}
    found = expand(grid(part(axes={**axes, "d_head": (4, 5, 6)})))
    # 5 is odd, and 6 divides 12 alone.
    assert {(point.d_model, point.num_heads, point.d_head) for point in found.points} == {
        (12, 3, 4),
        (20, 5, 4),
        (12, 2, 6),
    }


@pytest.mark.parametrize(
    ("constraint", "holds"),
    [
        ("d_model % d_ff == 1 and batch_size = 2", lambda p: p.d_model % p.d_ff == 1 and p.batch_size == 2),
        ("d_head in (4, 10)", lambda p: p.d_head in (4, 10)),
        ("d_ff / d_model between 1.0 and 1.1", lambda p: 1.0 <= p.d_ff / p.d_model <= 1.1),
        (
            "batch_size * context_length < 15 or d_ff = 13",
            lambda p: p.batch_size * p.context_length < 15 or p.d_ff == 13,
        ),
        ("parameters <= 2000", lambda p: parameters(p.model) <= 2000),
        ("step_flop > 1e5", lambda p: account(p.model, batch_size=p.batch_size).training_step_flop > 1e5),
        ("peak_bytes < 50000", lambda p: peak(account(p.model, batch_size=p.batch_size)).total < 50_000),
    ],
)
def test_constraints_are_conditions_on_a_point(constraint, holds):
    every = expand(grid(part())).points
    expected = {point.point_id for point in every if holds(point)}
    assert 0 < len(expected) < len(every)
    assert {point.point_id for point in expand(grid(part([constraint]))).points} == expected


def test_words_in_constraints():
    axes = {**AXES, "attention": ("sdpa", "written_out"), "precision": ("float32", "float64"), "compile": (True, False)}
    found = expand(grid(part(["attention = 'written_out' or precision = 'float64'", "not compile"], axes=axes)))
    assert len(found.points) == 3 * 24
    assert not any(point.compiled for point in found.points)


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        ("d_model <=", "constraint 'd_model <=' is no SQL expression"),
        ("d_modell > 3", "constraint 'd_modell > 3': there is no 'd_modell' .*; did you mean d_model?"),
        ("step_flops < 3", "there is no 'step_flops' .*peak_bytes.*; did you mean step_flop?"),
        ("d_model < 600 foo", "constraint 'd_model < 600 foo': more follows after the condition"),
        ("peak_bytes < 2 GiB", "constraint 'peak_bytes < 2 GiB': more follows after the condition"),
        ('attention = "sdpa"', "constraint 'attention = \"sdpa\"': .*single quotes"),
        ("d_model + 3", "constraint 'd_model \\+ 3' is no condition"),
        ("sum(d_model) > 3", "constraint 'sum\\(d_model\\) > 3' is no condition"),
        ("attention > 3", "constraint 'attention > 3': cannot compare"),
    ],
)
def test_bad_constraints_are_shown(constraint, message):
    with pytest.raises(ValueError, match=message):
        expand(grid(part([constraint])))


def test_without_a_feasible_point_every_constraint_says_how_many_it_removed():
    with pytest.raises(ValueError, match="none of") as caught:
        expand(grid(part(), part(["d_model <= 12", "step_flop < 1"])))
    text = str(caught.value)
    assert text.startswith("grid mine, part 2: none of 32 combinations is feasible: ")
    assert "no model (d_model 20 is not divisible by num_heads 3" in text
    assert "removed 8;" in text
    assert "'d_model <= 12' removed 8; 'step_flop < 1' removed 16" in text


def test_a_sample_and_the_order_follow_the_seed():
    def ids(seed, **changes):
        return [point.point_id for point in expand(grid(part(["step_flop > 1e5"], **changes), seed=seed)).points]

    everything, sample = ids(0), ids(0, sample=5)
    assert len(sample) == 5
    assert set(sample) < set(everything)
    assert ids(0, sample=5) == sample
    assert set(ids(1, sample=5)) != set(sample)
    assert sorted(ids(1)) == sorted(everything)
    assert ids(1) != everything
    assert sorted(ids(0, sample=1000)) == sorted(everything)


def test_a_point_of_two_parts_is_measured_once_with_the_phases_of_both():
    found = expand(grid(part(phases=("forward",)), part(["d_ff = 11"], phases=("step",)))).points
    assert len(found) == 24
    assert {point.phases for point in found if point.d_ff == 11} == {("forward", "step")}
    assert {point.phases for point in found if point.d_ff == 13} == {("forward",)}
    assert {point.point_id for point in found} == {point.point_id for point in expand(grid(part())).points}


def test_refused_before_anything_is_measured():
    with pytest.raises(ValueError, match="optimizer is 'adam': there is adamw"):
        expand(grid(part(axes={**AXES, "optimizer": "adam"})))
    many = tuple(range(1, 2001))
    with pytest.raises(ValueError, match="combinations; more than 5,000,000 are refused"):
        expand(grid(part(axes={**AXES, "batch_size": many, "context_length": many})))


def test_the_flop_of_the_phases_are_those_of_accounting():
    for precision in ("float32", "bfloat16-autocast"):
        point = expand(grid(part(axes={**AXES, "precision": precision, "optimizer": "muon"}))).points[0]
        costs = account(point.model, batch_size=point.batch_size, precision=precision, optimizer="muon")
        found = predict(point)
        flop = found.flop
        assert flop["forward"] == costs.forward_flop
        assert flop["forward_loss"] + flop["backward"] + flop["optimizer"] == flop["step"] == costs.training_step_flop
        assert found.peak_bytes == peak(costs).total
        assert found.seconds is None


def test_times_are_those_of_the_roofline_and_unknown_without_a_peak():
    rates = {"copy_bytes_per_s": 1e10, "memory_bytes": 10**9, "launch_overhead_s": 1e-6, "source": "made up"}
    device = measured_device("box", gemm_flop_per_s={"float32": 1e11}, **rates)
    point = expand(grid(part())).points[0]
    seconds = predict(point, device, 1000).seconds
    costs = account(point.model, batch_size=point.batch_size)
    assert seconds == {phase: phase_bound_s(costs, phase, device, 1000) for phase in point.phases}
    assert predict(dataclasses.replace(point, precision="float64"), device).seconds is None


def test_presets():
    for name in GRIDS:
        config = grid_preset(name)
        assert config.name == name
        points = expand(config).points
        assert {point.optimizer for point in points} - {None} <= set(OPTIMIZERS)
    with pytest.raises(ValueError, match="'cuba' is neither a grid nor a file; did you mean cuda"):
        grid_preset("cuba")


def test_the_cpu_preset_covers_what_a_fit_needs():
    models = [point for point in expand(GRIDS["cpu"]()).points if point.subject == "model"]
    assert len(models) >= 130
    assert len({point.point_id for point in models}) == len(models)
    seen = {name: {getattr(point, name) for point in models} for name in models[0].sizes}
    assert (min(seen["batch_size"]), max(seen["batch_size"])) == (1, 16)
    assert (min(seen["context_length"]), max(seen["context_length"])) == (64, 512)
    assert seen["d_model"] == {64, 128, 192, 256, 512}
    assert seen["d_head"] == {16, 32, 64}
    assert seen["vocab_size"] == {512, 2048, 8192}
    assert {point.attention for point in models} == {"sdpa", "written_out"}
    flop = [predict(point).flop["step"] for point in models]
    assert min(flop) > 1e8
    assert max(flop) < 6e10
    assert sum(flop) < 2.5e12  # 20 s of products a pass at 1.2e11 FLOP/s


def test_smoke_has_every_subject():
    points = expand(GRIDS["smoke"]()).points
    assert {point.subject for point in points} == set(SUBJECTS)
    assert torch.tensor([sum(predict(point).flop.values()) for point in points]).max() < 1e8
