import json
import math

import pytest
from drawn import fields, layers

from core import charts
from core.charts.machine import MEMORY_PARTS
from core.charts.style import GREY

RUNS = [
    {"run_id": "a", "floor_loss_nats": 0.25, "eval_tokens": 300, "eval_bytes": 700},
    {"run_id": "b", "floor_loss_nats": None, "eval_tokens": None, "eval_bytes": None},
]


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
            "tokens_per_s": None if step == 0 else 20.0 + step % 5,
            "segment": 0,
        }
        for step in range(count)
    ]


@pytest.mark.parametrize("x", charts.X_AXES)
def test_every_field_of_every_layer_is_a_column_of_its_rows(x):
    """A misspelt field draws empty axes and raises nothing."""
    rows = steps("a", 500) + steps("b", 300)
    drawn = layers(charts.loss_chart(rows, RUNS, x))
    drawn += layers(charts.step_chart(rows, "grad_norm", "gradient norm", x))
    drawn += layers(charts.throughput_chart(rows, x))
    assert len(drawn) == 6 + 1 + 3
    for encoding, values in drawn:
        assert fields(encoding) <= set(values[0]), encoding
        assert len(values) > 0


def test_floor_is_drawn_where_it_is_known():
    rows = steps("a", 30) + steps("b", 30)
    rules = [values for encoding, values in layers(charts.loss_chart(rows, RUNS)) if "floor_loss" in values[0]]
    assert [row["floor_loss"] for row in rules[0]] == [0.25]
    without = layers(charts.loss_chart(steps("b", 30), RUNS))
    assert all("floor_loss" not in values[0] for _, values in without)


def test_a_shared_floor_is_drawn_once_and_grey():
    runs = [{"run_id": name, "floor_loss_nats": floor} for name, floor in (("a", 0.25), ("b", 0.5), ("c", 0.25))]
    rows = [row for run in "abc" for row in steps(run, 5)]
    (drawn,) = [
        values for encoding, values in layers(charts.loss_chart(rows, runs)) if encoding.get("stroke", {}) != {}
    ]
    told = [(row["runs"], row["floor_loss"], row["colour"]) for row in drawn]
    assert told == [("a, c", 0.25, GREY), ("b", 0.5, charts.PALETTE[1])]


def test_no_axis_cuts_a_point_in_half():
    for encoding, _ in layers(charts.loss_chart(steps("a", 201), RUNS)):
        for channel in ("x", "y"):
            if "scale" in encoding.get(channel, {}):
                assert encoding[channel]["scale"]["padding"] > math.sqrt(55 / math.pi)  # points of 55 square pixels


def test_long_runs_are_thinned_but_keep_evaluations_and_ends():
    drawn = layers(charts.loss_chart(steps("a", 50_001), RUNS))
    train, _, _, evaluation = (values for _, values in drawn[:4])
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


@pytest.mark.parametrize(
    ("show", "fields_drawn"), [("training", {"train_loss", "smoothed_loss"}), ("evaluation", {"eval_loss"})]
)
def test_one_loss_alone(show, fields_drawn):
    drawn = layers(charts.loss_chart(steps("a", 300), RUNS, show=show))
    assert {encoding["y"]["field"] for encoding, _ in drawn} == fields_drawn | {"floor_loss"}


def test_bits_per_byte_by_the_bytes_of_the_evaluation_set():
    rows = steps("a", 200) + steps("b", 200)
    drawn = layers(charts.loss_chart(rows, RUNS, half_width=0, unit="bits per byte"))
    factor = 300 / 700 / math.log(2)
    train, evaluation, floor = drawn[0][1], drawn[3][1], drawn[4][1]
    assert {row["run_id"] for row in train} == {"a"}  # of b the bytes are not known
    assert train[4]["train_loss"] == train[4]["smoothed_loss"] == pytest.approx(factor * (1 + 1 / train[4]["step"]))
    assert [row["eval_loss"] for row in evaluation] == [pytest.approx(factor * 2.0)] * 2
    assert floor[0]["floor_loss"] == pytest.approx(factor * 0.25)
    assert drawn[0][0]["y"]["title"] == "loss (bits per byte)"


def test_a_logarithmic_axis_has_no_place_for_the_untrained_model():
    rows = steps("a", 200)
    for x in charts.X_AXES:
        drawn = layers(charts.loss_chart(rows, RUNS, x, log_x=True)) + layers(
            charts.step_chart(rows, "lr", "learning rate", x, log_x=True)
        )
        drawn += layers(charts.throughput_chart(rows, x, log_x=True))
        with_x = [(encoding, values) for encoding, values in drawn if "field" in encoding.get("x", {})]
        assert len(with_x) == 4 + 1 + 3
        for encoding, values in with_x:
            assert encoding["x"]["scale"]["type"] == "log"
            assert min(row[x] for row in values) > 0


def test_a_run_that_has_measured_nothing_yet_has_empty_axes():
    rows = [row | {"eval_loss_nats": None} for row in steps("a", 1)]
    assert [list(values) for _, values in layers(charts.loss_chart(rows, RUNS))] == [[]]


def test_a_run_has_one_colour_in_every_figure():
    rows = steps("z", 30) + steps("a", 30)
    drawn = [charts.loss_chart(rows, RUNS), charts.step_chart(rows, "lr", "lr"), charts.throughput_chart(rows)]
    scales = [encoding["color"]["scale"] for chart in drawn for encoding, _ in layers(chart) if "color" in encoding]
    assert [scale["domain"] for scale in scales] == [["z", "a"]] * len(scales)
    assert [scale["range"] for scale in scales] == [charts.PALETTE[:2]] * len(scales)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"show": "all"}, "show is 'all': one of training and"),
        ({"unit": "bits"}, "unit is 'bits': one of nats per token"),
    ],
)
def test_unknown_choices(options, said):
    with pytest.raises(ValueError, match=said):
        charts.loss_chart([], [], **options)


def test_throughput_is_the_median_of_stretches():
    band, line, hover = layers(charts.throughput_chart(steps("a", 601)))
    assert len(band[1]) == len(line[1]) == len(hover[1]) == 60
    assert sum(row["steps"] for row in line[1]) == 600
    # Ten steps each of 20 to 24 tokens a second, all equally often.
    assert {(row["low"], row["median"], row["high"]) for row in line[1][1:-1]} == {(21.0, 22.0, 23.0)}


def test_a_resume_breaks_the_line_and_is_marked():
    rows = [row | {"segment": 0 if row["step"] < 41 else 2} for row in steps("a", 101)]
    *drawn, (encoding, rules) = layers(charts.throughput_chart(rows))
    assert [(row["step"], row["resumed"]) for row in rules] == [(41, "resumed before step 41")]
    assert "y" not in encoding  # from top to bottom
    line = drawn[1]
    assert line[0]["detail"]["field"] == "segment"
    assert [sum(row["steps"] for row in line[1] if row["segment"] == segment) for segment in (0, 2)] == [40, 60]
    assert len(line[1]) == 60


def test_a_share_of_a_rate_is_drawn_of_the_runs_that_have_one():
    rows = steps("a", 50) + steps("b", 50)
    plain = layers(charts.throughput_chart(rows, title="MFU"))[1][1]
    shares = layers(charts.throughput_chart(rows, factors={"b": 0.01}, title="MFU"))[1][1]
    assert {row["run_id"] for row in shares} == {"b"}
    of_b = [row for row in plain if row["run_id"] == "b"]
    assert [row["median"] for row in shares] == pytest.approx([0.01 * row["median"] for row in of_b])
    with pytest.raises(ValueError, match="x is 'time': one of step, tokens"):
        charts.throughput_chart(rows, "time")


def test_memory_of_runs_in_one_unit_with_what_was_measured():
    parts = dict(zip(MEMORY_PARTS, (2, 3, 5, 7, 11), strict=True))
    row = {part: size * 2**20 for part, size in parts.items()}
    rows = [{"run_id": "a", **row, "measured": None}, {"run_id": "b", **row, "measured": 31 * 2**20}]
    chart = charts.run_memory_chart(rows)
    (bars, held), (ticks, measured) = layers(chart)
    assert [(row["run_id"], row["part"], row["value"]) for row in held[:5]] == [("a", *item) for item in parts.items()]
    assert sum(row["share"] for row in held) == pytest.approx(2)
    assert bars["x"]["title"] == ticks["x"]["title"] == "memory at the peak (MiB)"
    assert [(row["run_id"], row["value"]) for row in measured] == [("b", 31.0)]
    assert len(layers(charts.run_memory_chart(rows[:1]))) == 1
    ((bars, held),) = layers(charts.run_memory_chart([rows[0] | {"gradients": 0}]))
    present = [part for part in MEMORY_PARTS if part != "gradients"]
    assert [row["part"] for row in held] == bars["color"]["scale"]["domain"] == present
    assert bars["color"]["scale"]["range"] == [MEMORY_PARTS[part] for part in present]
    with pytest.raises(ValueError, match="rows is empty"):
        charts.run_memory_chart([])
