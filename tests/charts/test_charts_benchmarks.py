import pytest
from drawn import check, layers
from drawn import marked as marked_rows

from core import charts

ROWS = [
    {"label": f"L{place}", "machine": machine, "source": "s", "phase": "step", "used": "measured"}
    | {"used_bytes": 7 * 2**place, "tokens_per_s": rate, "tokens_per_s_per_gib": rate, "flop_per_s": 1e9 * rate}
    | {"median_s": 1 / rate, "iqr_s": spread, "low_tokens_per_s": rate / 2, "high_tokens_per_s": rate * 2}
    | {"x": 2**place, "group": "g", "intensity": 3.0 * (place + 1), "mfu_noncausal": 0.1 * (place + 1)}
    | {"predicted": 1.1 / rate, "error": 0.1, "low_s": 1 / rate, "high_s": 1.3 / rate, "regime": regime}
    for place, (machine, rate, spread, regime) in enumerate(
        [("a", 5.0, 0.02, "compute"), ("a", 3.0, None, "bandwidth"), ("b", 11.0, 0.01, "compute")]
    )
]


def marked(chart, mark):
    return [list(rows) for rows in marked_rows(chart, mark)]


def test_the_frontier_is_drawn_over_all_points():
    chart = charts.pareto_chart(ROWS, ROWS[:1] + ROWS[2:], picked=ROWS[1:2])
    check(chart)
    assert marked(chart, "point") == [ROWS, [ROWS[0], ROWS[2]], [ROWS[1]]]
    assert marked(chart, "line") == [[ROWS[0], ROWS[2]]]
    assert {encoding[axis]["scale"]["type"] for encoding, _ in layers(chart) for axis in "xy"} == {"log"}
    assert layers(chart)[0][0]["color"]["scale"]["domain"] == ["a", "b"]
    assert len(marked(charts.pareto_chart(ROWS, ROWS, "flop_per_s"), "point")) == 2
    with pytest.raises(ValueError, match="gain is 'speed': one of tokens_per_s, "):
        charts.pareto_chart(ROWS, ROWS, "speed")


def test_lines_have_the_bars_that_were_measured():
    chart = charts.scaling_chart(ROWS, "batch size")
    check(chart)
    assert layers(chart)[0][0]["detail"] == [
        {"field": "group", "type": "nominal"},
        {"field": "source", "type": "nominal"},
    ]
    (bars,) = marked(chart, "rule")
    assert [(bar["x"], bar["low"], bar["high"]) for bar in bars] == [(1, 2.5, 10.0), (4, 5.5, 22.0)]
    (bars,) = marked(charts.scaling_chart(ROWS, "batch size", "median_s"), "rule")
    assert (bars[0]["low"], bars[0]["high"]) == pytest.approx((0.19, 0.21))
    assert marked(charts.scaling_chart(ROWS, "batch size", "used_bytes"), "rule") == []
    assert marked(charts.scaling_chart(ROWS[1:2], "batch size"), "rule") == []
    with pytest.raises(ValueError, match="quantity is 'x': one of tokens_per_s, "):
        charts.scaling_chart(ROWS, "batch size", "x")


def test_pairs_lie_about_the_diagonal():
    rows = [
        {"label": "L", "phase": "step", "one_s": one, "other_s": other, "times": one / other}
        for one, other in ((3.0, 5.0), (2.0, 7.0))
    ]
    chart = charts.pairs_chart(rows, "here", "there")
    check(chart)
    assert marked(chart, "line") == [[{"one_s": 2.0, "other_s": 2.0}, {"one_s": 7.0, "other_s": 7.0}]]
    assert layers(chart)[1][0]["y"]["title"] == "there (s)"


def test_predictions_stand_beside_the_diagonal_with_their_intervals():
    rows = [*ROWS, ROWS[0] | {"low_s": None, "high_s": None, "regime": "unknown"}]
    chart = charts.diagonal_chart(rows, "fitted time")
    check(chart)
    assert marked(chart, "rule") == [ROWS]
    assert marked(chart, "point") == [rows]
    ends = [{"median_s": end, "predicted": end} for end in (1 / 11, 1.1 / 3)]
    assert marked(chart, "line") == [ends]
    scale = layers(chart)[-1][0]["color"]["scale"]
    assert scale["domain"] == ["compute", "bandwidth", "unknown"]
    assert scale["range"] == [charts.REGIME_COLOURS[name] for name in scale["domain"]]
    residuals = charts.residual_chart(rows, "fitted time")
    check(residuals)
    assert marked(residuals, "point") == [rows]


def test_utilisation_lies_under_the_roofline():
    chart = charts.mfu_chart(ROWS, flop_per_s=6e12, bytes_per_s=1e12, device="Abacus")
    check(chart)
    (roof,) = marked(chart, "line")
    assert roof[1] == {"intensity": 6.0, "mfu_noncausal": 1}
    assert roof[0] == {"intensity": 1.5, "mfu_noncausal": 0.25}
    x, y = (layers(chart)[0][0][axis]["scale"]["domain"] for axis in "xy")
    for row in ROWS:
        assert x[0] < row["intensity"] < x[1]
        assert y[0] < row["mfu_noncausal"] < y[1]
    assert chart.title.text == "Abacus"


def test_shares_are_stacked_in_one_order():
    shares = {"compute": 0.5, "bandwidth": 0.3, "launches": 0.2}
    rows = [{"order": 0, "part": part, "share": share} | ROWS[0] for part, share in reversed(shares.items())]
    chart = charts.limits_chart(rows)
    check(chart)
    assert [row["place"] for row in layers(chart)[0][1]] == [2, 1, 0]
    assert layers(chart)[0][0]["color"]["scale"]["domain"] == list(shares)
