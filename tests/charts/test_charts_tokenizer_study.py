import pytest
from drawn import check, layers, marked

from core import charts

SIZES = (256, 512, 1024)
LINES = [
    {"trained_on": name, "own": name == "b", "vocab_size": size, "bytes_per_token": size / 256}
    for name in "ba"
    for size in SIZES
]


def test_vocabularies_are_lines_over_powers_of_two():
    chart = charts.vocabulary_chart(LINES, 512)
    check(chart)
    assert marked(chart, "line") == marked(chart, "point") == [LINES]
    assert marked(chart, "rule") == [[{"vocab_size": 512}]]
    encoding = layers(chart)[1][0]
    assert encoding["x"]["scale"] == {"type": "log", "base": 2, "nice": False}
    assert encoding["color"]["scale"]["domain"] == ["a", "b"]
    assert encoding["strokeWidth"]["scale"] == {"domain": [True, False], "range": [3.5, 1.5]}


def test_the_matrix_says_what_is_lost():
    pairs = [("a", "a", 0.0), ("a", "b", 0.153), ("b", "a", -0.02), ("b", "b", -0.001)]
    rows = [
        {"trained_on": one, "encoded": other, "loss": loss, "vocab_size": 512, "bytes_per_token": 3.0}
        for one, other, loss in pairs
    ]
    chart = charts.transfer_chart(rows)
    check(chart)
    (cells,) = marked(chart, "text")
    assert [cell["label"] for cell in cells] == ["0%", "-15%", "+2%", "0%"]
    assert [cell["change"] for cell in cells] == [0.0, -0.153, 0.02, 0.001]
    colour = layers(chart)[0][0]["color"]
    assert (colour["field"], colour["scale"]["domain"]) == ("change", [-0.153, 0, 0.153])
    assert "orange is lost, blue is gained" in colour["legend"]["title"][1]
    assert colour["scale"]["range"][1] == "rgba(136,136,136,0.06)"  # no change: the page is seen
    assert chart.height == 88
    check(charts.transfer_chart(rows[:1]))


def test_ranks_and_growth_are_on_two_logarithmic_scales():
    ranks = [{"corpus": "a", "rank": rank, "relative": 1 / rank, "piece": "·x"} for rank in (1, 2, 4)]
    chart = charts.rank_chart(ranks, [{"rank": 1, "relative": 1}, {"rank": 4, "relative": 0.25}])
    growth = [{"corpus": "a", "read_bytes": 10**n, "distinct_pre_tokens": 2**n} for n in range(3, 6)]
    other = charts.growth_of_vocabulary_chart(growth)
    for each, rows in ((chart, ranks), (other, growth)):
        check(each)
        assert rows in marked(each, "line")
        assert {encoding[axis]["scale"]["type"] for encoding, _ in layers(each) for axis in "xy"} == {"log"}


def test_used_shares_have_a_line_for_each_part():
    rows = [
        {"text": text, "kind": kind, "vocab_size": size, "used_share": 0.5}
        for text in "ba"
        for kind in ("held-out text", "training text")
        for size in SIZES
    ]
    chart = charts.used_chart(rows)
    check(chart)
    encoding = layers(chart)[0][0]
    assert encoding["strokeDash"]["scale"]["domain"] == ["held-out text", "training text"]
    assert encoding["color"]["scale"]["domain"] == ["a", "b"]
    check(charts.used_chart(rows[:3]))


def test_learning_curves_run_against_any_cost():
    rows = [
        {"run_id": run, "model": "bytes", "step": step, "bits_per_byte": 1 / step}
        | dict.fromkeys(charts.COSTS, 100.0 * step)
        for run in ("r0", "r1")
        for step in (1, 2)
    ]
    for cost, title in charts.COSTS.items():
        chart = charts.bits_chart(rows, cost, 0.08, ["bytes", "other"])
        check(chart)
        encoding = layers(chart)[0][0]
        assert (encoding["x"]["field"], encoding["x"]["title"]) == (cost, title)
        assert encoding["detail"]["field"] == "run_id"
        assert encoding["color"]["scale"]["domain"] == ["bytes", "other"]
    assert [rows[0]["bits_per_byte"] for rows in marked(chart, "rule")] == [0.08]
    assert marked(charts.bits_chart(rows, "read_bytes", None, ["bytes"]), "rule") == []
    with pytest.raises(ValueError, match="x is 'steps': one of model_flop, read_bytes, elapsed_s"):
        charts.bits_chart(rows, "steps", None, ["bytes"])


def test_speeds_have_their_range():
    rows = [
        {"engine": engine, "median_rate": rate, "lowest_rate": rate / 2, "highest_rate": 2 * rate, "repeats": 3}
        | {"median_us": 10.0, "lowest_us": 5.0, "highest_us": 20.0}
        for engine, rate in (("ours", 1e8), ("tiktoken", 1e7))
    ]
    chart = charts.speed_chart(rows)
    check(chart)
    encoding = layers(chart)[0][0]
    assert (encoding["x"]["field"], encoding["x2"]["field"]) == ("lowest_rate", "highest_rate")
    assert marked(chart, "point") == [rows]
    assert encoding["y"]["sort"] == ["ours", "tiktoken"]
    assert (chart.height, chart.background) == (92, "transparent")
    each_call = charts.speed_chart(rows, per_call=True)
    check(each_call)
    encoding = layers(each_call)[0][0]
    assert (encoding["x"]["field"], encoding["x"]["title"]) == ("lowest_us", "microseconds per call")


def test_files_grow_where_ids_no_longer_fit():
    rows = [
        {"vocab_size": size, "dtype": dtype, "bits": 16, "file_share": 0.5}
        for dtype in ("uint16", "uint32")
        for size in SIZES
    ]
    chart = charts.file_size_chart(rows)
    check(chart)
    assert marked(chart, "line") == [rows]
    assert marked(chart, "rule") == [[{"vocab_size": 65_536}]]
