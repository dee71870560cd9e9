import math
from dataclasses import asdict, replace

import polars as pl
import pytest
from benchmark_rows import BASE

from core.benchmarks import load_benchmarks, read_set
from core.benchmarks.usual_speed import at_usual_speed, noise_floor, repeat_error
from core.results import to_frame, write_rows


def row(point_id, relative, reference_s, **changes):
    """A row of rounds that all took `relative` times the reference."""
    times = {"median_s": relative * reference_s, "iqr_s": 0.3 * relative * reference_s}
    times |= {"relative_median": relative, "relative_iqr": 0.1 * relative, "reference_s": reference_s}
    return replace(BASE, point_id=point_id, **times | changes)


def usual(*rows):
    frame = at_usual_speed(to_frame(rows, type(BASE)))
    return frame.select("median_s", "iqr_s", "clock_s", "clock_iqr_s").rows()


def test_the_machine_was_slow_for_one_row():
    # It usually needs 2 s for the reference, and needed 3 s beside the second row.
    found = usual(row("a", 10.0, 2.0), row("b", 10.0, 3.0), row("c", 7.0, 2.0))
    assert found[1] == pytest.approx((20.0, 2.0, 30.0, 9.0))
    assert found[0] == pytest.approx((20.0, 2.0, 20.0, 6.0))
    assert found[2][0] == pytest.approx(14.0)


def test_each_machine_and_precision_has_its_own_speed():
    others = [{"device_name": "Loom"}, {"num_threads": 7}, {"precision": "tf32"}]
    rows = [row("a", 10.0, 2.0), *(row("b", 10.0, 5.0 + place, **other) for place, other in enumerate(others))]
    assert [found[0] for found in usual(*rows)] == pytest.approx([20.0, 50.0, 60.0, 70.0])


def test_rows_without_a_reference_stay_as_they_are():
    old = replace(BASE, median_s=5.0, iqr_s=1.0)
    assert usual(old, row("b", 10.0, 2.0))[0] == (5.0, 1.0, 5.0, 1.0)
    foreign = at_usual_speed(pl.DataFrame({"median_s": [5.0], "seq_len": [3]}))
    assert foreign.to_dicts() == [{"median_s": 5.0, "seq_len": 3, "clock_s": 5.0, "clock_iqr_s": None}]
    nothing = pl.DataFrame({"seq_len": [3]})
    assert at_usual_speed(nothing).equals(nothing)


def test_result_sets_have_usual_times_and_rates(tmp_path):
    write_rows(tmp_path, "benchmarks", "mine", [row("a", 10.0, 2.0), row("b", 10.0, 3.0), row("c", 1.0, 2.0)])
    write_rows(tmp_path, "benchmarks", "other", [row("d", 10.0, 5.0)])  # the same machine, as fast as it usually is
    loaded, _ = load_benchmarks(tmp_path)
    assert loaded["source"].to_list() == ["mine.parquet"] * 3 + ["other.parquet"]
    usual_s = 2.5  # median of 2, 3, 2 and 5
    assert loaded["median_s"].to_list() == pytest.approx([10 * usual_s, 10 * usual_s, usual_s, 10 * usual_s])
    assert loaded["tokens_per_s"].to_list() == pytest.approx([26 / 25, 26 / 25, 26 / 2.5, 26 / 25])
    assert loaded["clock_s"].to_list() == pytest.approx([20.0, 30.0, 2.0, 50.0])
    alone, _ = read_set("other", tmp_path / "benchmarks" / "other.parquet")
    assert alone["median_s"].to_list() == [50.0]


def test_what_repeats_say_of_each_other():
    # Medians of the visits are e^1, e^3 and e^5 times the reference: a standard deviation of 2.
    relative = [0.5, math.e, 9.0, math.exp(3), math.exp(5), math.exp(5)]
    reference = [2.0, 3.0, 5.0, 7.0, 11.0, 13.0]
    rounds = {"round_s": [r * s for r, s in zip(relative, reference, strict=True)], "round_reference_s": reference}
    columns = asdict(BASE) | rounds | {"round_visit": [1, 1, 1, 2, 3, 3]}
    assert repeat_error(columns) == pytest.approx(2 / math.sqrt(3))
    assert repeat_error(columns | {"round_visit": [1] * 6}) is None
    assert repeat_error(asdict(BASE)) is None


def test_the_error_of_a_perfect_prediction():
    assert noise_floor([0.03, None, 0.05]) == pytest.approx(math.sqrt(2 / math.pi) * 0.04)
    assert noise_floor([None]) is None
