import math

import numpy as np
import pytest

from core.curves import quartiles, smooth, speed, spread, thin


def test_smooth_against_the_formula():
    steps, values, tau = [1, 2, 5, 7], [3.0, None, 5.0, 4.0], 3.0
    for place, got in enumerate(smooth(steps, values, tau)):
        if values[place] is None:
            assert got is None
            continue
        pairs = [(math.exp((s - steps[place]) / tau), v) for s, v in zip(steps, values, strict=True) if v is not None]
        before = pairs[: len([v for v in values[: place + 1] if v is not None])]
        assert got == pytest.approx(sum(w * v for w, v in before) / sum(w for w, _ in before), rel=1e-14)


def test_smooth_is_corrected_for_its_start():
    assert smooth(range(1, 51), [7.0] * 50, 10) == pytest.approx([7.0] * 50, rel=1e-15)
    assert smooth([4, 5], [2.0, 8.0], 1e-9) == [2.0, 8.0]
    assert smooth([4, 5], [2.0, 8.0], 1e12) == pytest.approx([2.0, 5.0], rel=1e-9)


def test_smooth_of_time_constant_zero_is_the_values():
    assert smooth([1, 2, 3], [3.0, None, 5.0], 0) == [3.0, None, 5.0]


def test_smoothing_is_in_steps_however_often_they_were_recorded():
    """A tenth of the rows of a straight line lie on the same smoothed line, behind it by the time constant."""
    steps = list(range(0, 3001))
    every = smooth(steps, [0.5 * step for step in steps], 40)
    tenth = smooth(steps[::10], [0.5 * step for step in steps[::10]], 40)
    assert 0.5 * 3000 - every[-1] == pytest.approx(0.5 / (math.exp(1 / 40) - 1), rel=1e-9)
    assert 0.5 * 3000 - tenth[-1] == pytest.approx(0.5 * 10 / (math.exp(10 / 40) - 1), rel=1e-9)


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
