import math

import numpy as np
import pytest

from core.curves import quartiles, smooth, speed, spread, thin


def test_smooth_is_the_least_squares_line_of_each_window():
    generator = np.random.default_rng(7)
    steps = np.cumsum(generator.integers(1, 5, size=61)).tolist()
    values = [None if place % 11 == 3 else value for place, value in enumerate(generator.normal(size=61).tolist())]
    known = [(step, value) for step, value in zip(steps, values, strict=True) if value is not None]
    for step, value, got in zip(steps, values, smooth(steps, values, 13), strict=True):
        if value is None:
            assert got is None
            continue
        reach = min(13, (step - steps[0]) / 3)
        near = np.array([(at - step, seen) for at, seen in known if abs(at - step) <= reach])
        line = np.polyfit(near[:, 0], near[:, 1], 1)[-1] if len(near) > 1 else value
        assert got == pytest.approx(line, rel=1e-9, abs=1e-12)


def test_smooth_keeps_a_constant_and_a_line_to_the_last_bit():
    """At the ends, too, and however unevenly the steps were recorded; every value here is a binary fraction."""
    steps = [1, 2, 3, 5, 8, 13, 21, 34, *range(35, 300), *range(300, 400, 7)]
    assert smooth(steps, [7.1] * len(steps), 20) == [7.1] * len(steps)
    line = [11.0 - step / 64 for step in steps]
    assert smooth(steps, line, 20) == line


def test_smooth_does_not_lag_a_steep_start():
    """Above 5 / step^p it lies by p (p + 1) / 54 of it, at step 4, whose window holds three values, by 1 / 48."""
    steps = range(1, 2001)
    curve = [5 / math.sqrt(step) for step in steps]
    off = [got / value - 1 for got, value in zip(smooth(steps, curve, 20), curve, strict=True)]
    assert off[:3] == [0, 0, 0]
    assert max(off) == off[3] == pytest.approx(0.75 / 48, rel=0.1)
    assert off[60] == pytest.approx(0.75 / 54, rel=0.1)
    assert min(off) > -1e-4  # at the end, where a line to one side of a curve lies below it


def test_smooth_averages_what_the_batches_scatter():
    """In the middle the mean of 2 h + 1 values."""
    values = [float(value) for value in np.random.default_rng(3).integers(0, 100, size=200)]
    assert smooth(range(200), values, 20)[100] == pytest.approx(np.mean(values[80:121]), rel=1e-14)


def test_smooth_of_half_width_zero_is_the_values():
    assert smooth([1, 2, 3], [3.0, None, 5.0], 0) == [3.0, None, 5.0]
    assert smooth([1, 2, 3], [3.1, 1e300, 5.3], 0.5) == [3.1, 1e300, 5.3]
    assert smooth([1, 2], [None, None], 5) == [None, None]


def test_smooth_forgets_a_spike_that_left_the_window_and_stays_among_the_values():
    values = [1e30 if step == 50 else 2.0 for step in range(100)]
    smoothed = smooth(range(100), values, 10)
    assert [step for step, value in enumerate(smoothed) if value != 2.0] == [*range(40, 61)]
    assert min(smooth(range(100), values, 49)) == 2.0  # the line of the last window alone would fall below 0


def test_smoothing_is_in_steps_however_often_they_were_recorded():
    steps = range(0, 3001)
    curve = [(step / 1024) ** 2 for step in steps]
    every, tenth = smooth(steps, curve, 40), smooth(steps[::10], curve[::10], 40)
    # A parabola is lifted by the mean of d^2 in the window.
    assert every[1000] - curve[1000] == pytest.approx(40 * 41 / 3 / 1024**2, rel=1e-9)
    assert tenth[100] - curve[1000] == pytest.approx(100 * 4 * 5 / 3 / 1024**2, rel=1e-9)


def test_smooth_refuses_values_without_positions():
    with pytest.raises(ValueError, match="2 positions for 3 values"):
        smooth([1, 2], [1.0, 2.0, 3.0], 5)


def test_thin_keeps_ends_and_protected_rows():
    rows = [{"n": n, "eval": n if n == 13 else None} for n in range(100)]
    kept = [row["n"] for row in thin(rows, 10, always="eval")]
    assert kept == [*range(0, 11, 10), 13, *range(20, 100, 10), 99]


def test_quartiles_are_numpys():
    values = np.random.default_rng(3).normal(size=101).tolist()
    assert quartiles(values) == pytest.approx(np.quantile(values, [0.25, 0.5, 0.75]), rel=1e-12)
    assert quartiles([5.0]) == (5.0, 5.0, 5.0)


def test_spread_counts_every_value_once():
    values = np.random.default_rng(5).normal(size=103).tolist()
    parts = spread(list(range(103)), values, bins=7)
    assert [part.count for part in parts] == [15, 15, 14, 15, 14, 15, 15]
    assert [part.position for part in parts] == sorted(part.position for part in parts)
    low, median, high = np.quantile(values[:15], [0.25, 0.5, 0.75])
    assert (parts[0].low, parts[0].median, parts[0].high) == pytest.approx((low, median, high), rel=1e-12)
    assert parts[0].position == 7


def test_spread_leaves_empty_stretches_out_and_takes_what_is_small():
    assert [part.position for part in spread([0, 100], [1.0, 2.0], bins=10)] == [0, 100]
    assert [(part.count, part.median) for part in spread([5, 5], [1.0, 2.0], bins=10)] == [(2, 1.5)]
    assert spread([], [], bins=3) == []


def steps(rates, stalls=None, segments=None) -> list[dict]:
    """Rows of steps of 7 tokens and 700 FLOP."""
    return [
        {
            "step": step,
            "tokens": 7 * step,
            "model_flop": 700.0 * step,
            "tokens_per_s": rate,
            "stall_s": None if stalls is None else stalls[step],
            "segment": 0 if segments is None else segments[step],
        }
        for step, rate in enumerate(rates)
    ]


def test_speed_is_the_median_step_s():
    went = speed(steps([None, 1.0, 70.0, 80.0, 90.0]))
    assert (went.tokens_per_s, went.low, went.high) == (75.0, 52.75, 82.5)
    assert went.flop_per_s == 75.0 * 100
    assert (went.stall_share, went.resumes) == (None, ())


def test_stall_share_is_of_the_steps_that_recorded_it():
    # Steps of 0.1 s, 0.2 s and 0.4 s; of the first nothing is recorded.
    went = speed(steps([None, 70.0, 35.0, 17.5], stalls=[None, None, 0.03, 0.06]))
    assert went.stall_share == pytest.approx(0.09 / 0.6, rel=1e-12)


def test_resumes_are_the_first_steps_after_them():
    assert speed(steps([None, 5.0, 5.0, 5.0, 5.0, 5.0], segments=[0, 0, 1, 1, 3, 3])).resumes == (2, 4)


def test_no_speed_without_a_timed_step():
    assert speed(steps([None])) is None
    assert speed([]) is None
