import pytest
from drawn import check, layers, marked

from core import charts
from core.accounting import account
from core.presets import preset

MODEL = preset("cs336-gpt2-small").model
COSTS = account(MODEL, batch_size=2)


def summed(costs, key):
    sums = {}
    for row in costs.rows:
        sums[getattr(row, key)] = sums.get(getattr(row, key), 0) + row.total("forward_flop")
    return {label: value for label, value in sums.items() if value}


def test_breakdown_draws_the_accounting_in_the_order_of_the_table():
    rows = [{"name": r.name, "group": r.group, "value": r.total("forward_flop")} for r in COSTS.rows]
    chart = charts.breakdown_chart(rows, "forward FLOP")
    check(chart)
    (bars,) = marked(chart, "bar")
    assert [row["name"] for row in bars] == [r.name for r in COSTS.rows]
    assert {row["name"]: row["value"] for row in bars if row["value"]} == summed(COSTS, "name")
    assert sum(row["share"] for row in bars) == pytest.approx(1, abs=1e-12)
    encoding = layers(chart)[0][0]
    assert encoding["y"]["sort"] is None  # else Vega-Lite sorts by name
    assert encoding["x"]["title"] == "forward FLOP"
    groups = encoding["color"]["scale"]
    assert dict(zip(groups["domain"], groups["range"], strict=True)) == charts.GROUP_COLOURS


def test_breakdown_adds_up_what_bears_one_name_and_keeps_every_digit():
    exact = 2**60 + 1
    rows = [{"name": "a", "group": "g", "value": exact}, {"name": "a", "group": "g", "value": 2}]
    (bars,) = marked(charts.breakdown_chart(rows, "FLOP"), "bar")
    assert [(row["value"], row["exact"], row["label"]) for row in bars] == [
        (exact + 2, "1,152,921,504,606,846,979", "100.0 %")
    ]


def test_breakdown_of_nothing_has_no_shares():
    (bars,) = marked(charts.breakdown_chart([{"name": "a", "group": "g", "value": 0}], "FLOP"), "bar")
    assert [row["share"] for row in bars] == [0]


GROWTH = [
    {"x": seq, "y": value, "component": group}
    for seq in (128, 256, 512)
    for group, value in summed(account(MODEL, seq=seq), "group").items()
]


@pytest.mark.parametrize(
    ("kind", "stack", "marks"),
    [
        ("lines", None, ["line", "point"]),
        ("stacked", "zero", ["area", "point"]),
        ("shares", "normalize", ["area", "point"]),
    ],
)
def test_growth_draws_every_row(kind, stack, marks):
    chart = charts.growth_chart(GROWTH, "tokens", "forward FLOP", kind=kind, log_x=True)
    check(chart)
    assert [layer["mark"]["type"] for layer in chart.to_dict()["layer"]] == marks
    for encoding, rows in layers(chart):
        assert [{name: row[name] for name in ("x", "y", "component")} for row in rows] == GROWTH
        assert encoding["y"]["stack"] == stack
        assert (encoding["x"]["scale"]["type"], encoding["y"]["scale"]["type"]) == ("log", "linear")


def test_growth_over_names_keeps_their_order():
    rows = [{"x": x, "y": y, "component": "a"} for x, y in (("small", 3), ("medium", 2), ("large", 5))]
    chart = charts.growth_chart(rows, "size", "parameters", kind="stacked")
    check(chart)
    ((encoding, drawn),) = layers(chart)
    assert [row["x"] for row in drawn] == ["small", "medium", "large"]
    assert (encoding["x"]["type"], encoding["x"]["sort"]) == ("nominal", None)


def test_growth_on_a_logarithmic_axis_leaves_out_what_has_no_logarithm():
    rows = [{"x": 1, "y": 0, "component": "a"}, {"x": 2, "y": 7, "component": "a"}]
    chart = charts.growth_chart(rows, "x", "y", log_y=True)
    assert [[row["y"] for row in drawn] for _, drawn in layers(chart)] == [[7], [7]]
    with pytest.raises(ValueError, match="log_y is True for kind 'stacked'"):
        charts.growth_chart(rows, "x", "y", kind="stacked", log_y=True)
    with pytest.raises(ValueError, match="kind is 'pie'"):
        charts.growth_chart(rows, "x", "y", kind="pie")


def sides(quantity: str, a: int, b: int) -> list[dict]:
    ratio = b / a if a else None
    return [{"quantity": quantity, "side": s, "value": v, "ratio": ratio} for s, v in (("A", a), ("B", b))]


def test_comparison_draws_factors_around_one():
    rows = sides("FLOP", 10, 25) + sides("cache", 8, 2) + sides("same", 5, 5) + sides("experts", 0, 8)
    chart = charts.comparison_chart([*rows, *sides("none", 0, 0), *sides("gone", 3, 0)])
    check(chart)
    (bars,) = marked(chart, "bar")
    assert [(row["quantity"], row["ratio"], row["label"], row["change"]) for row in bars] == [
        ("FLOP", 2.5, "× 2.5", "more in B"),
        ("cache", 0.25, "× 0.25", "less in B"),
        ("same", 1, "× 1", "equal"),
        ("experts", None, "0 in A", "equal"),
        ("none", None, "0 in both", "equal"),
        ("gone", None, "0 in B", "equal"),
    ]
    assert [(row["a"], row["b"]) for row in bars[:2]] == [("10", "25"), ("8", "2")]
    low, high = layers(chart)[0][0]["x"]["scale"]["domain"]
    assert low < 0.25 < 2.5 < high
