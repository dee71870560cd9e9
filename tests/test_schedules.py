import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config import ScheduleConfig
from core.schedules import cosine, learning_rate, linear, warmup_stable_decay

KINDS = ["cosine", "linear", "wsd"]


def test_cosine_at_every_step_of_a_short_cycle():
    # CS336's own example: warm-up 7, cycle 21, from 1 to 0.1.
    rates = [cosine(step, max_lr=1.0, min_lr=0.1, warmup_steps=7, total_steps=21) for step in range(25)]
    descent = [0.55 + 0.45 * math.cos(math.pi * step / 14) for step in range(14)]
    assert rates == pytest.approx([step / 7 for step in range(7)] + descent + [0.1] * 4, rel=1e-12)
    assert rates[8] == pytest.approx(0.9887175604818206, rel=1e-12)
    assert rates[14] == pytest.approx(0.55, rel=1e-12)


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.0), (1, 0.4), (5, 2.0), (7, 1.6), (10, 1.0), (14, 0.2), (15, 0.0), (16, 0.0)]
)
def test_linear_at_known_steps(step, expected):
    assert linear(step, max_lr=2.0, min_lr=0.0, warmup_steps=5, total_steps=15) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.0), (2, 0.8), (5, 2.0), (11, 2.0), (12, 1.55), (13, 1.1), (15, 0.2), (99, 0.2)],
)
def test_warmup_stable_decay_at_known_steps(step, expected):
    rate = warmup_stable_decay(step, max_lr=2.0, min_lr=0.2, warmup_steps=5, decay_steps=4, total_steps=15)
    assert rate == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(("kind", "middle"), [("cosine", 3.25), ("linear", 3.25), ("wsd", 6.0)])
def test_the_rates_of_a_run(kind, middle):
    schedule = ScheduleConfig(kind=kind, warmup_steps=3, decay_steps=4 if kind == "wsd" else 0, final_lr=0.5)
    rates = [learning_rate(step, max_lr=6.0, num_steps=13, schedule=schedule) for step in range(13)]
    assert rates[:3] == pytest.approx([2.0, 4.0, 6.0])  # warm-up counts from 1: the first step moves
    assert rates[7] == pytest.approx(middle)
    assert rates[12] == 0.5
    assert min(rates[:12]) > 0.5


def test_the_constant_schedule_stays_where_warmup_ends():
    schedule = ScheduleConfig(kind="constant", warmup_steps=4)
    rates = [learning_rate(step, max_lr=2.0, num_steps=7, schedule=schedule) for step in range(7)]
    assert rates == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("warmup_steps", "expected"), [(0, 0.25), (1, 0.25)])
def test_a_run_of_one_step(kind, warmup_steps, expected):
    schedule = ScheduleConfig(kind=kind, warmup_steps=warmup_steps, final_lr=0.25)
    assert learning_rate(0, max_lr=1.0, num_steps=1, schedule=schedule) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_all_warmup_rises_until_its_last_step(kind):
    schedule = ScheduleConfig(kind=kind, warmup_steps=5, final_lr=0.5)
    rates = [learning_rate(step, max_lr=1.0, num_steps=5, schedule=schedule) for step in range(5)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.5])


def test_warmup_stable_decay_without_a_decay_holds_until_its_last_step():
    schedule = ScheduleConfig(kind="wsd", warmup_steps=2, final_lr=0.5)
    rates = [learning_rate(step, max_lr=1.0, num_steps=7, schedule=schedule) for step in range(7)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5])


@st.composite
def runs(draw):
    """A schedule with room for a descent, its peak and its length."""
    kind = draw(st.sampled_from(KINDS))
    num_steps = draw(st.integers(2, 60))
    warmup_steps = draw(st.integers(0, num_steps - 1))
    decay_steps = draw(st.integers(1, num_steps - warmup_steps)) if kind == "wsd" else 0
    max_lr = draw(st.floats(1e-6, 1.0))
    final_lr = max_lr * draw(st.floats(0.0, 1.0))
    schedule = ScheduleConfig(kind=kind, warmup_steps=warmup_steps, decay_steps=decay_steps, final_lr=final_lr)
    return schedule, max_lr, num_steps


@settings(deadline=None)
@given(runs())
def test_it_rises_to_the_peak_then_falls_to_the_final_rate_without_a_jump(run):
    schedule, max_lr, num_steps = run
    final_lr, warmup_steps = schedule.final_lr, schedule.warmup_steps
    # From the rate before the first step, which is `step` -1, to beyond the last one.
    rates = [
        learning_rate(step, max_lr=max_lr, num_steps=num_steps, schedule=schedule) for step in range(-1, num_steps + 3)
    ]
    slack = 1e-12 * max_lr
    assert rates[0] == pytest.approx(0 if warmup_steps else max_lr, rel=1e-12)
    assert rates[warmup_steps] == pytest.approx(max_lr, rel=1e-12)
    assert rates[num_steps:] == pytest.approx([final_lr] * 4, abs=slack)
    rises = [after - before for before, after in itertools.pairwise(rates)]
    assert rises[:warmup_steps] == pytest.approx([max_lr / warmup_steps if warmup_steps else 0] * warmup_steps)
    assert max(rises[warmup_steps:]) <= slack
    descent_steps = schedule.decay_steps if schedule.kind == "wsd" else num_steps - warmup_steps
    steepest = (math.pi / 2 if schedule.kind == "cosine" else 1) * (max_lr - final_lr) / descent_steps
    assert min(rises[warmup_steps:]) >= -steepest - slack
    # The descent is as long as was asked: the step before it still has the peak, the first of it has less.
    before_descent = num_steps - descent_steps
    assert rates[before_descent] == pytest.approx(max_lr, rel=1e-12)
    if final_lr < 0.99 * max_lr:
        assert rates[before_descent + 1] < rates[before_descent]


@settings(deadline=None)
@given(runs(), st.floats(0.01, 100))
def test_rates_scale_with_the_peak(run, factor):
    schedule, max_lr, num_steps = run
    scaled = ScheduleConfig(
        kind=schedule.kind,
        warmup_steps=schedule.warmup_steps,
        decay_steps=schedule.decay_steps,
        final_lr=schedule.final_lr * factor,
    )
    for step in (0, num_steps // 2, num_steps - 1):
        rate = learning_rate(step, max_lr=max_lr, num_steps=num_steps, schedule=schedule)
        larger = learning_rate(step, max_lr=max_lr * factor, num_steps=num_steps, schedule=scaled)
        assert larger == pytest.approx(rate * factor, rel=1e-9, abs=1e-14 * max_lr * factor)
