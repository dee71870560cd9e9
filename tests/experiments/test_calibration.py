import dataclasses
import itertools
import json

import numpy as np
import pytest

from core.accounting import account, peak
from core.accounting.features import FEATURES, features
from core.config import ModelConfig
from core.experiments.calibration import calibrate, load, predict, save
from core.experiments.calibration_base import fit_prices
from core.experiments.calibration_errors import k_folds, predict_held_out, relative_errors, value_folds
from core.experiments.calibration_model import design, fit_time
from core.experiments.calibration_pressure import MOST, fit_pressure
from core.experiments.calibration_rows import RowFile, Workload
from core.experiments.calibration_shape import AXES, LEAST_ROWS, fit_correction

PRICES = {
    "projection_flop": 5e-11,
    "feed_forward_flop": 4e-11,
    "attention_flop": 7e-11,
    "head_flop": 3e-11,
    "score_bytes": 2e-10,
    "elementwise_bytes": 3e-10,
    "update_bytes": 1e-10,
    "calls": 1e-3,
}
MEMORY = 2**33


def workload(batch_size, context_length, d_model, num_heads, num_layers, d_ff):
    model = ModelConfig(
        vocab_size=101,
        context_length=context_length,
        d_model=d_model,
        num_heads=num_heads,
        num_layers=num_layers,
        d_ff=d_ff,
        attention="written_out",
    )
    return account(model, batch_size=batch_size)


def grid(num_rows, seed=0):
    """Workloads drawn from a grid of small primes, none twice."""
    axes = ((2, 3, 5), (11, 17, 31, 61), (14, 22, 26, 34, 38), (1,), (1, 2, 3, 5), (19, 29, 43, 71))
    points = list(itertools.product(*axes))
    chosen = np.random.default_rng(seed).permutation(len(points))[:num_rows]
    return [workload(*points[index]) for index in chosen]


def seconds_of(workloads, phase="step"):
    """By `PRICES` alone."""
    return np.array(
        [sum(price * features(costs, phase)[name] for name, price in PRICES.items()) for costs in workloads]
    )


def rows_of(workloads, seconds, phase="step", memory_bytes=MEMORY, repeat_error=None):
    rows = [
        Workload(row, costs, phase, False, float(time), repeat_error)
        for row, (costs, time) in enumerate(zip(workloads, seconds, strict=True))
    ]
    return RowFile(None, tuple(rows), "a box", memory_bytes)


def noisy(seconds, deviation=0.02, seed=1):
    return seconds * np.exp(deviation * np.random.default_rng(seed).standard_normal(len(seconds)))


@pytest.fixture(scope="module")
def calibration():
    """Of 60 rows with 2 % of noise."""
    workloads = grid(60)
    return calibrate(rows_of(workloads, noisy(seconds_of(workloads)), repeat_error=0.02), git_commit="abc")


def test_rows_of_known_prices_are_predicted_to_a_millionth():
    workloads = grid(80)
    seen, unseen = workloads[:53], workloads[53:]
    model = fit_time(design(seen), seconds_of(seen), MEMORY)
    assert model.predict(design(unseen)).seconds == pytest.approx(seconds_of(unseen), rel=1e-6)
    assert all(price >= 0 for price in model.prices.values())


def test_prices_that_the_rows_separate_are_recovered():
    random = np.random.default_rng(0)
    amounts, prices = random.uniform(1, 7, (31, 5)), np.array([2.0, 0.0, 3e-9, 5e4, 0.7])
    assert fit_prices(amounts, amounts @ prices) == pytest.approx(prices, rel=1e-6, abs=1e-9)


def test_prices_are_never_negative_and_absent_features_cost_nothing():
    random = np.random.default_rng(1)
    amounts = random.uniform(0, 1, (41, 7))
    amounts[:, 3] = 0
    # The second feature shortens the time: the best price it may have is none.
    prices = fit_prices(amounts, 5 + amounts[:, 0] - 3 * amounts[:, 1])
    assert prices.min() == 0
    assert prices[3] == prices[1] == 0


def test_one_row_that_is_far_off_does_not_move_the_prices():
    random = np.random.default_rng(2)
    amounts, prices = random.uniform(1, 2, (47, 3)), np.array([1.0, 2.0, 3.0])
    seconds = amounts @ prices
    seconds[11] *= 27
    assert fit_prices(amounts, seconds) == pytest.approx(prices, rel=1e-3)


def test_the_correction_learns_a_shape_and_forgets_it_far_away():
    random = np.random.default_rng(3)
    shapes = random.uniform(0, 2, (61, len(AXES)))
    wave = 0.05 * np.sin(3 * shapes[:, 2])
    correction = fit_correction(shapes, wave)
    between, _ = correction.predict(shapes * 0.99)
    assert np.abs(between - 0.05 * np.sin(3 * 0.99 * shapes[:, 2])).mean() < 0.01
    far, deviation = correction.predict(shapes + 1000)
    assert far == pytest.approx(np.zeros(61), abs=1e-6)
    assert deviation.min() > correction.predict(shapes)[1].max()


def test_the_correction_needs_rows():
    shapes = np.random.default_rng(4).uniform(0, 1, (LEAST_ROWS - 1, len(AXES)))
    assert fit_correction(shapes, np.zeros(len(shapes))) is None


def pressed(num_rows=83, slow_share=0.15, factor=1.4):
    """Rows of which the hungriest are slow, and a device which these fill."""
    workloads = grid(num_rows)
    seconds = seconds_of(workloads)
    peaks = np.array([peak(costs).total for costs in workloads])
    slow = peaks > np.quantile(peaks, 1 - slow_share)
    return workloads, np.where(slow, factor * seconds, seconds), slow, int(1.5 * np.quantile(peaks, 1 - slow_share))


def test_slow_rows_near_the_limit_are_flagged_and_stay_out_of_the_prices():
    workloads, seconds, slow, memory_bytes = pressed()
    rows = design(workloads)
    model = fit_time(rows, seconds, memory_bytes)
    found = model.predict(rows)
    assert found.flagged[slow].all()
    assert found.flagged.mean() <= 0.25
    assert model.terms(rows).sum(axis=1) == pytest.approx(seconds_of(workloads), rel=0.01)
    top = np.argmax(found.score)
    assert found.seconds[top] / seconds_of(workloads)[top] == pytest.approx(MOST, rel=0.02)


def test_a_row_slow_for_another_reason_makes_no_pressure():
    workloads = grid(59)
    seconds = seconds_of(workloads)
    seconds[7] *= 3
    model = fit_time(design(workloads), seconds, MEMORY)
    found = model.predict(design(workloads))
    assert model.pressure.weights is None
    assert not found.flagged.any()


def test_where_no_row_is_slow_the_predicted_peak_tells():
    workloads = grid(31)
    peaks = np.array([peak(costs).total for costs in workloads])
    rows = design(workloads)
    pressure = fit_pressure(rows.memory, np.ones(31), int(peaks.max()))
    score = pressure.score(rows.memory, rows.peak_bytes)
    assert (score > pressure.threshold).tolist() == (peaks > 0.9 * peaks.max()).tolist()
    assert (pressure.slowdown(score) == 1).all()


def test_intervals_hold_four_of_five_unseen_rows(calibration):
    workloads = grid(240)[60:]
    seconds = noisy(seconds_of(workloads), seed=5)
    found = predict(calibration, rows_of(workloads, seconds).workloads)
    inside = [each.low_s <= time <= each.high_s for each, time in zip(found, seconds, strict=True)]
    assert 0.7 < np.mean(inside) < 0.92
    assert all(each.low_s <= each.predicted_s <= each.high_s for each in found)
    widths = np.log([each.high_s / each.low_s for each in found])
    assert np.median(widths) == pytest.approx(2 * 1.28 * 0.02, rel=0.4)


def test_cross_validation_finds_the_noise(calibration):
    (fit,) = calibration.fits.values()
    folds = {(errors.held_out, errors.rows): errors for errors in fit.errors}
    # The mean size of a normal deviate is sqrt(2 / pi) of its deviation.
    assert folds["10 folds", "all"].mean == pytest.approx(0.02 * np.sqrt(2 / np.pi), rel=0.35)
    assert folds["10 folds", "all"].num_rows == 60
    assert {name for name, _ in folds} == {"10 folds", "each width", "each depth", "each context"}
    assert sum(fit.shares.values()) == pytest.approx(1, abs=0.1)


def test_the_noise_floor_is_that_of_the_repeats(calibration):
    assert calibration.fits["step, float32"].noise_floor == pytest.approx(0.02 * np.sqrt(2 / np.pi))
    workloads = grid(8)
    alone = calibrate(rows_of(workloads, seconds_of(workloads)))
    assert alone.fits["step, float32"].noise_floor is None


def test_saved_and_loaded_it_predicts_the_same(calibration, tmp_path):
    path = tmp_path / "fit.json"
    save(calibration, path)
    again = load(path)
    assert again == calibration
    rows = rows_of(grid(97), np.ones(97)).workloads
    expected, found = predict(calibration, rows), predict(again, rows)
    for name in ("predicted_s", "low_s", "high_s", "memory_pressure"):
        assert [getattr(each, name) for each in found] == pytest.approx(
            [getattr(each, name) for each in expected], 1e-9
        )
    values = json.loads(path.read_text())
    assert (values["device_name"], values["num_rows"], values["git_commit"]) == ("a box", 60, "abc")
    assert values["units"]["score_bytes"] == "s/B"
    assert list(values["fits"]["step, float32"]["model"]["prices"]) == list(FEATURES)


def test_every_phase_and_precision_has_prices_of_its_own():
    workloads = grid(13)
    forward = rows_of(workloads, seconds_of(workloads, "forward"), "forward").workloads
    step = rows_of(workloads, 3 * seconds_of(workloads)).workloads
    calibration = calibrate(RowFile(None, forward + step, None, MEMORY))
    assert list(calibration.fits) == ["forward, float32", "step, float32"]
    found = predict(calibration, (*step, *forward))
    assert [each.predicted_s for each in found] == pytest.approx([row.seconds for row in (*step, *forward)], rel=1e-3)
    half = dataclasses.replace(step[0], costs=account(step[0].costs.model, precision="bfloat16-autocast"), row=41)
    with pytest.raises(
        ValueError, match="row 41: the fit has no rows of step, bfloat16-autocast; it has forward, float"
    ):
        predict(calibration, [half])


def test_settings_of_few_rows_are_left_out():
    workloads = grid(19)
    rows = rows_of(workloads, seconds_of(workloads)).workloads
    few = tuple(dataclasses.replace(row, phase="backward") for row in rows[:7])
    calibration = calibrate(RowFile(None, rows + few, None, MEMORY))
    assert (list(calibration.fits), calibration.num_rows) == (["step, float32"], 19)
    with pytest.raises(ValueError, match=r"7 rows of a setting at most \(backward, float32\): a fit needs 8 or more"):
        calibrate(RowFile(None, few, None, MEMORY))


def test_the_memory_must_be_known():
    workloads = grid(11)
    with pytest.raises(ValueError, match="the rows have no column memory_bytes"):
        calibrate(rows_of(workloads, seconds_of(workloads), memory_bytes=None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 0}, "no calibration of version 2"),
        ({"fits": None}, "not a whole calibration .fits: Input should be a valid dictionary"),
        ({"units": {"calls": 3}}, "not a whole calibration .units.calls"),
    ],
)
def test_a_file_that_is_no_calibration(change, message, calibration, tmp_path):
    path = tmp_path / "fit.json"
    save(calibration, path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        load(path)


@pytest.mark.parametrize("part", ["prices", "shapes", "log_hyperparameters", "weights"])
def test_a_file_of_other_features(part, calibration, tmp_path):
    path = tmp_path / "fit.json"
    save(calibration, path)
    values = json.loads(path.read_text())
    model = values["fits"]["step, float32"]["model"]
    match part:
        case "prices":
            del model["prices"]["calls"]
        case "weights":
            model["pressure"]["weights"] = {"state": 1.0}
        case "shapes":
            model["correction"]["shapes"][3].pop()
        case "log_hyperparameters":
            model["correction"]["log_hyperparameters"].pop()
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="its features are not those of this version: fit it again"):
        load(path)


def test_folds_hold_every_row_out_once():
    folds = k_folds(23, 5)
    assert np.sort(np.concatenate([left for _, left in folds])).tolist() == list(range(23))
    assert all(np.intersect1d(fitted, left).size == 0 and len(fitted) + len(left) == 23 for fitted, left in folds)
    values = np.repeat([2.0, 3.0, 5.0], 7)
    assert [(len(fitted), values[left].tolist()) for fitted, left in value_folds(values)] == [
        (14, [value] * 7) for value in (2.0, 3.0, 5.0)
    ]
    assert value_folds(np.ones(31)) == []


def test_held_out_rows_are_predicted_without_themselves():
    workloads = grid(37)
    seconds = seconds_of(workloads)
    rows, clean = design(workloads), seconds.copy()
    seconds[5] *= 2
    held = predict_held_out(rows, seconds, MEMORY, k_folds(37, 5))
    assert held.seconds[5] == pytest.approx(clean[5], rel=0.1)
    assert np.median(relative_errors(held.seconds, clean)) < 0.01
