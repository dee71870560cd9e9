import json
import math

import pytest
from drawn import fields, layers

from core import charts
from core.curves import smooth, thin

RUNS = [{"run_id": "a", "floor_loss_nats": 0.25}, {"run_id": "b", "floor_loss_nats": None}]


def steps(run_id: str, count: int) -> list[dict]:
    return [
        {
            "run_id": run_id,
            "step": step,
            "tokens": 10 * step,
            "elapsed_s": 0.5 * step,
            "model_flop": 1000 * step,
            "train_loss_nats": None if step == 0 else 1 + 1 / step,
            "eval_loss_nats": 2.0 if step % 100 == 0 else None,
            "lr": None if step == 0 else 0.1,
            "grad_norm": None if step == 0 else 1.0,
            "tokens_per_s": None if step == 0 else 20.0,
        }
        for step in range(count)
    ]


@pytest.mark.parametrize("x", charts.X_AXES)
def test_every_field_of_every_layer_is_a_column_of_its_rows(x):
    """A misspelt field draws empty axes and raises nothing."""
    rows = steps("a", 500) + steps("b", 300)
    drawn = layers(charts.loss_chart(rows, RUNS, x))
    drawn += layers(charts.step_chart(rows, "grad_norm", "gradient norm", x))
    assert len(drawn) == 6
    for encoding, values in drawn:
        assert fields(encoding) <= set(values[0]), encoding
        assert len(values) > 0


def test_floor_is_drawn_where_it_is_known():
    rows = steps("a", 30) + steps("b", 30)
    rules = [values for encoding, values in layers(charts.loss_chart(rows, RUNS)) if "floor_loss_nats" in values[0]]
    assert [row["floor_loss_nats"] for row in rules[0]] == [0.25]
    without = layers(charts.loss_chart(steps("b", 30), RUNS))
    assert all("floor_loss_nats" not in values[0] for _, values in without)


def test_long_runs_are_thinned_but_keep_evaluations_and_ends():
    drawn = layers(charts.loss_chart(steps("a", 50_001), RUNS))
    train, _, evaluation = (values for _, values in drawn[:3])
    assert len(train) <= charts.MAX_POINTS + 502
    assert (train[-1]["step"], len(evaluation)) == (50_000, 501)


def test_a_diverged_run_is_drawn_up_to_its_end():
    rows = steps("a", 10)
    rows[-1] |= {"train_loss_nats": math.nan, "grad_norm": math.inf, "eval_loss_nats": math.nan}
    drawn = [charts.loss_chart(rows, RUNS), charts.step_chart(rows, "grad_norm", "gradient norm")]
    for chart in drawn:
        json.dumps(chart.to_dict(), allow_nan=False)
    assert [row["step"] for row in layers(drawn[0])[0][1]] == list(range(1, 9))


def test_unknown_axis():
    with pytest.raises(ValueError, match="x is 'time': one of step, tokens"):
        charts.loss_chart([], [], "time")


def test_smooth_against_the_formula():
    values = [3.0, None, 5.0, 4.0]
    weight = 0.5 ** (1 / 2)
    expected = [3.0, None, (3 * weight + 5) / (weight + 1), (3 * weight**2 + 5 * weight + 4) / (weight**2 + weight + 1)]
    assert smooth(values, 2) == pytest.approx(expected)
    assert smooth(values, 0) == values
    assert smooth([7.0] * 50, 10) == pytest.approx([7.0] * 50)


def test_thin_keeps_ends_and_protected_rows():
    rows = [{"n": n, "eval": n if n == 13 else None} for n in range(100)]
    kept = [row["n"] for row in thin(rows, 10, always="eval")]
    assert kept == [*range(0, 11, 10), 13, *range(20, 100, 10), 99]
