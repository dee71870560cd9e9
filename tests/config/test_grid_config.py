import pytest

from core.accounting import PRECISIONS
from core.config.grid import BOTH_WAYS, SUBJECTS, GridConfig, GridPart

MODEL = {
    "batch_size": 2,
    "context_length": [5, 7],
    "d_model": 6,
    "num_heads": 3,
    "num_layers": 1,
    "d_ff": 11,
    "vocab_size": 13,
}


def test_values_become_tuples_without_repeats():
    part = GridPart(axes={**MODEL, "context_length": [7, 5, 7], "compile": [False, True]}, constraints=["d_ff > 3"])
    assert part.axes["context_length"] == (7, 5)
    assert part.axes["batch_size"] == (2,)
    assert part.axes["compile"] == (False, True)
    assert part.constraints == ("d_ff > 3",)


def test_phases_come_in_the_order_of_measuring():
    assert GridPart(axes=MODEL, phases=("step", "forward", "step")).phases == ("forward", "step")
    assert SUBJECTS["gemm"].phases == BOTH_WAYS


def test_every_precision_of_a_grid_is_one_of_accounting():
    for subject in SUBJECTS.values():
        assert set(subject.precisions) <= set(PRECISIONS)
    assert SUBJECTS["model"].precisions == ("float32", "tf32", "float64", "bfloat16-autocast")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes": {**MODEL, "bach_size": 2}}, "axis of model is 'bach_size'.*did you mean batch_size"),
        ({"axes": {**MODEL, "d_model": []}}, "d_model is empty: an axis needs at least one value"),
        ({"axes": {**MODEL, "d_model": [64, 0]}}, "d_model is 0: it must be a whole number, at least 1"),
        ({"axes": {**MODEL, "d_model": True}}, "d_model is True: it must be a whole number"),
        (
            {"axes": {**MODEL, "precision": "bfloat16"}},
            "precision is 'bfloat16': there is float32, tf32, float64, bfloat16-autocast",
        ),
        ({"axes": {**MODEL, "attention": "flash"}}, "attention is 'flash': there is sdpa, written_out"),
        ({"axes": {**MODEL, "compile": "yes"}}, "compile is 'yes': it must be true or false"),
        ({"axes": {**MODEL, "optimizer": 3}}, "optimizer is 3: it must be a name"),
        ({"axes": {**MODEL, "d_head": 2}}, "num_heads and d_head given: one decides both"),
        ({"axes": {k: v for k, v in MODEL.items() if k != "num_heads"}}, "neither num_heads nor d_head given"),
        ({"axes": {k: v for k, v in MODEL.items() if k != "d_ff"}}, "axis d_ff is missing: model needs batch_size"),
        ({"axes": [1]}, r"axes is \[1\]: names of axes"),
        ({"axes": MODEL, "subject": "modell"}, "subject is 'modell'.*did you mean model"),
        ({"axes": MODEL, "phases": ("backwards",)}, "phase of model is 'backwards'.*did you mean backward"),
        ({"axes": MODEL, "phases": ()}, "phases is empty"),
        ({"axes": MODEL, "sample": 0}, "sample is 0: it must be at least 1"),
        ({"axes": MODEL, "constraints": "d_ff > 3"}, "constraints is 'd_ff > 3': a list of expressions"),
        ({"axes": {"batch_size": 2, "context_length": 3}, "subject": "gemm"}, "axis d_model is missing: gemm needs"),
        ({"axes": {"d_head": 2}, "subject": "softmax"}, "axis of softmax is 'd_head'"),
    ],
)
def test_a_part_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        GridPart(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": ()}, "grid mine has no parts"),
        ({"name": "a/b"}, "name is 'a/b'"),
        ({"memory_fraction": 1.5}, "memory_fraction is 1.5: it must be above 0 and at most 1"),
        ({"seed": -1}, "seed is -1: it must not be negative"),
    ],
)
def test_a_grid_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        GridConfig(**{"name": "mine", "parts": (GridPart(axes=MODEL),), **changes})
