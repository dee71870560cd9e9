import pytest
from drawn import check, layers, marked

from core import charts
from core.accounting import account, by_layer, peak
from core.charts.machine import MEMORY_PARTS
from core.presets import preset

GIB = 2**30
MODEL = preset("cs336-gpt2-small").model


def moments(costs) -> list[dict]:
    return [
        {"order": order, "moment": str(moment), "phase": moment.phase, "total": moment.total}
        | {part: getattr(moment, part) for part in MEMORY_PARTS}
        for order, moment in enumerate(by_layer(costs))
    ]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_memory_marks_the_moment_of_the_peak(checkpointing):
    costs = account(MODEL, batch_size=8, checkpointing=checkpointing)
    rows = moments(costs)
    chart = charts.memory_walk_chart(rows)
    check(chart)
    highest = max(rows, key=lambda row: row["total"])
    (points,) = marked(chart, "point")
    assert [(row["order"], row["total"], row["moment"]) for row in points] == [
        (highest["order"], peak(costs).total, highest["moment"])
    ]
    assert points[0]["total_shown"] * GIB == peak(costs).total
    gib = f"{peak(costs).total / GIB:.3g} GiB"
    assert points[0]["label"] == gib
    assert chart.to_dict()["title"]["text"] == f"Peak {gib}: {highest['moment']}"


def test_memory_stacks_the_parts_of_every_moment():
    rows = moments(account(MODEL, batch_size=8))
    (areas,) = marked(charts.memory_walk_chart(rows), "area")
    for row in rows:
        held = [area for area in areas if area["order"] == row["order"]]
        assert [(area["part"], area["bytes"]) for area in held] == [(part, row[part]) for part in MEMORY_PARTS]
        assert held[0]["low"] == 0
        assert [area["low"] for area in held[1:]] == [area["high"] for area in held[:-1]]
        assert held[-1]["high"] * GIB == row["total"]
    assert {area["order"] for area in areas} == {row["order"] for row in rows} | {-0.5, len(rows) - 0.5}


def test_memory_has_a_band_for_every_phase_and_recomputing_belongs_to_the_backward():
    rows = moments(account(MODEL, batch_size=8, checkpointing=True))
    assert {row["phase"] for row in rows} == {"forward", "recompute", "backward", "update"}
    bands = marked(charts.memory_walk_chart(rows), "rect")[0]
    first = {phase: min(row["order"] for row in rows if row["phase"] == phase) for phase in ("backward", "update")}
    assert [(band["phase"], band["start"], band["end"]) for band in bands] == [
        ("forward", -0.5, first["backward"] - 0.5),
        ("backward", first["backward"] - 0.5, first["update"] - 0.5),
        ("update", first["update"] - 0.5, len(rows) - 0.5),
    ]


def test_memory_of_a_device_is_a_line_or_far_away():
    rows = moments(account(MODEL, batch_size=16))
    near = charts.memory_walk_chart(rows, 24 * GIB, "RTX 4090")
    check(near)
    lines = [drawn for drawn in marked(near, "rule") if "limit" in drawn[0]]
    assert lines == [[{"limit": 24, "label": "RTX 4090 24 GiB"}]]
    assert layers(near)[1][0]["y"]["scale"]["domain"][1] > 24
    far = charts.memory_walk_chart(rows, 80 * GIB, "H100")
    assert [drawn for drawn in marked(far, "rule") if "limit" in drawn[0]] == []
    assert far.to_dict()["title"]["subtitle"] == ["far below H100: 80 GiB"]


def test_memory_of_a_small_model_is_told_in_a_small_unit():
    chart = charts.memory_walk_chart(moments(account(preset("quickstart").model, batch_size=4)))
    assert layers(chart)[1][0]["y"]["title"] == "memory (MiB)"
    with pytest.raises(ValueError, match="no moment"):
        charts.memory_walk_chart([])


def point(name: str, intensity: float, share: float) -> dict:
    return {
        "name": name,
        "group": "attention",
        "phase": "forward",
        "intensity": intensity,
        "flop_per_s": min(1000e9, intensity * 50e9),
        "flop": int(intensity * 10**9),
        "bytes": 10**9,
        "seconds": share * 3.0,
        "share": share,
    }


def test_roofline_has_its_ridge_and_its_points_on_the_roof():
    points = [point("softmax", 0.5, 0.75), point("q_proj", 200.0, 0.25), point("lookup", 0.0, 0.0)]
    chart = charts.roofline_chart(points, peak_flop_per_s=1000e9, bytes_per_s=50e9, device="a device")
    check(chart)
    (roof,) = marked(chart, "line")
    for row in roof:
        assert row["flop_per_s"] == pytest.approx(min(1000e9, row["intensity"] * 50e9))
    (ridge,) = marked(chart, "rule")
    assert [(row["intensity"], row["label"]) for row in ridge] == [(20.0, "ridge 20 FLOP/B")]
    (drawn,) = marked(chart, "point")
    assert [(row["name"], row["intensity"], row["share"], row["flop_exact"]) for row in drawn] == [
        ("softmax", 0.5, 0.75, "500,000,000"),
        ("q_proj", 200.0, 0.25, "200,000,000,000"),
    ]
    named = [row["name"] for rows in marked(chart, "text") for row in rows if "name" in row]
    assert sorted(named) == ["q_proj", "softmax"]
    title = chart.to_dict()["title"]
    assert (title["text"], title["subtitle"]) == ("a device", "1 TFLOP/s, 50 GB/s")


def test_roofline_names_only_points_that_are_apart():
    points = [point("large", 1.0, 0.5), point("beside it", 1.1, 0.3), point("far off", 10.0, 0.2)]
    chart = charts.roofline_chart(points, peak_flop_per_s=1000e9, bytes_per_s=50e9, device="a device")
    named = [row["name"] for rows in marked(chart, "text") for row in rows if "name" in row]
    assert named == ["large", "far off"]


def test_roofline_without_points_is_the_roof():
    chart = charts.roofline_chart([], peak_flop_per_s=1000e9, bytes_per_s=50e9, device="a device")
    assert marked(chart, "point") == []
    assert [row["flop_per_s"] for row in marked(chart, "line")[0]] == [0.1 * 50e9, 1000e9, 1000e9]
