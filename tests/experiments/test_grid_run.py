import dataclasses

import polars as pl
import pytest
import torch

from core.accounting import account, peak
from core.accounting.hardware import measured_device
from core.config import canonical_json
from core.config.grid import SUBJECTS
from core.experiments import grid_run
from core.experiments.grid_measure import Timing
from core.experiments.grid_points import GridPoint, predict
from core.experiments.grid_run import (
    Machine,
    check_points,
    effort_s,
    measure_point,
    run_grid,
    standing_rows,
    summary,
)
from core.records import BenchmarkRow
from core.results import read_rows

MODEL = GridPoint(
    subject="model",
    phases=SUBJECTS["model"].phases,
    batch_size=3,
    context_length=5,
    d_model=12,
    num_heads=3,
    d_head=4,
    num_layers=2,
    d_ff=11,
    vocab_size=17,
    attention="written_out",
    optimizer="adamw",
)
SOFTMAX = GridPoint(
    subject="softmax", phases=("forward", "backward"), batch_size=2, num_heads=3, context_length=7, precision="bfloat16"
)
PEAKS = measured_device(
    "box",
    gemm_flop_per_s={"float32": 1e10},
    copy_bytes_per_s=1e9,
    memory_bytes=10**9,
    launch_overhead_s=1e-6,
    source="made up",
)
MACHINE = Machine(device="cpu", device_name="box", memory_bytes=10**9, cache_bytes=1000, peaks=PEAKS)
HOW = {"bench_id": "mine", "machine": MACHINE, "git_commit": "abc"}
SECONDS = {"forward": 1.0, "forward_loss": 2.0, "backward": 4.0, "optimizer": 0.5, "step": 6.4}


def timing(seconds, noisy=False):
    return Timing(median_s=seconds, iqr_s=0.25, num_blocks=5, runs_per_block=3, attempts=2, noisy=noisy, warm_up_s=9.0)


@pytest.fixture
def measured(monkeypatch):
    """Made-up times instead of measurements; the ids of the points that were measured, and what to raise in which."""

    class Measured:
        def __init__(self):
            self.ids, self.fail = [], {}

        def __call__(self, point, device, on_phase):
            self.ids.append(point.point_id)
            for phase in point.phases:
                if self.fail.get(point.point_id, (None,))[0] == phase:
                    raise self.fail[point.point_id][1]
                on_phase(phase, timing(SECONDS[phase]), 777 if phase == "step" else None)

    found = Measured()
    monkeypatch.setattr(grid_run, "measure_model", found)
    monkeypatch.setattr(grid_run, "measure_micro", found)
    return found


def variants(number):
    return [dataclasses.replace(MODEL, batch_size=size) for size in (2, 3, 5, 7, 11)[:number]]


def test_a_row_per_phase_holds_measurement_and_prediction(measured):
    rows = {row.phase: row for row in measure_point(MODEL, **HOW)}
    assert list(rows) == list(MODEL.phases)
    predicted = predict(MODEL, PEAKS, 1000)
    costs = account(MODEL.model, batch_size=3)
    for phase, row in rows.items():
        assert (row.median_s, row.iqr_s, row.status, row.message) == (SECONDS[phase], 0.25, "ok", None)
        assert (row.num_blocks, row.runs_per_block, row.attempts, row.warm_up_s) == (5, 3, 2, 9.0)
        assert row.predicted_flop == predicted.flop[phase]
        assert row.predicted_bytes == predicted.ideal_bytes[phase]
        assert row.predicted_s == predicted.seconds[phase]
        assert (row.point_id, row.config_json) == (MODEL.point_id, canonical_json(MODEL.model))
        assert (row.d_head, row.attention, row.compiled, row.precision) == (4, "written_out", False, "float32")
        assert (row.bench_id, row.device_name, row.memory_bytes, row.git_commit) == ("mine", "box", 10**9, "abc")
        assert (row.num_threads, row.torch_version) == (torch.get_num_threads(), torch.__version__)
    step = rows.pop("step")
    assert step.phases_over_step == pytest.approx(6.5 / 6.4)
    assert step.adds_up is True
    assert (step.peak_bytes, step.predicted_peak_bytes) == (777, peak(costs).total)
    others = {(row.phases_over_step, row.adds_up, row.peak_bytes, row.predicted_peak_bytes) for row in rows.values()}
    assert others == {(None, None, None, None)}


@pytest.mark.parametrize(("step_s", "adds_up"), [(6.2, True), (6.1, False), (6.84, True), (6.85, False)])
def test_phases_that_do_not_add_up_are_flagged(measured, monkeypatch, step_s, adds_up):
    monkeypatch.setitem(SECONDS, "step", step_s)
    assert measure_point(MODEL, **HOW)[-1].adds_up is adds_up


def test_an_operation_has_rows_of_the_same_kind(measured):
    forward, backward = measure_point(SOFTMAX, **HOW)
    assert (forward.phase, backward.phase, forward.subject) == ("forward", "backward", "softmax")
    assert (forward.batch_size, forward.num_heads, forward.d_model, forward.vocab_size) == (2, 3, None, None)
    assert (forward.config_json, forward.attention, forward.optimizer) == (None, None, None)
    assert (forward.predicted_flop, forward.predicted_bytes) == (0.0, 2.0 * 2 * 2 * 3 * 7 * 7)
    assert backward.predicted_s == 1e-6
    assert backward.adds_up is None


def test_what_cannot_fit_is_not_tried(measured):
    needs = predict(MODEL).peak_bytes
    small = dataclasses.replace(MACHINE, memory_bytes=2 * needs)
    rows = measure_point(MODEL, **HOW | {"machine": small}, memory_fraction=0.49)
    assert measured.ids == []
    assert {row.status for row in rows} == {"skipped_memory"}
    assert len(rows) == 5
    assert "more than 49% of " in rows[0].message
    assert {row.median_s for row in rows} == {row.noisy for row in rows} == {None}
    assert rows[-1].predicted_peak_bytes == needs
    measure_point(MODEL, **HOW | {"machine": small}, memory_fraction=0.5)
    assert measured.ids == [MODEL.point_id]


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB.\nMore"), "out_of_memory", "CUDA out of memory."),
        (MemoryError(), "out_of_memory", "MemoryError"),
        (RuntimeError("no kernel for this\nat line 3"), "error", "no kernel for this"),
    ],
)
def test_what_fails_becomes_rows_and_the_grid_goes_on(measured, tmp_path, error, status, message):
    points = variants(3)
    measured.fail[points[1].point_id] = ("backward", error)
    rows = run_grid(points, **HOW, results_dir=tmp_path)
    assert measured.ids == [point.point_id for point in points]
    failed = {row.phase: row for row in rows if row.point_id == points[1].point_id}
    assert [row.status for row in failed.values()] == ["ok", "ok", status, status, status]
    assert failed["forward"].median_s == 1.0
    assert failed["backward"].message.startswith(message)
    assert "\n" not in failed["backward"].message
    assert (failed["step"].median_s, failed["step"].adds_up) == (None, None)
    assert summary(rows).points == {"ok": 2, status: 1}
    # What failed stands as well, until it is asked for again.
    stand, missing = standing_rows(rows, points)
    assert (len(stand), missing) == (15, [])
    stand, missing = standing_rows(rows, points, retry=True)
    assert (len(stand), missing) == (10, [points[1]])


def test_other_errors_are_ours_and_not_hidden(measured):
    measured.fail[MODEL.point_id] = ("forward", KeyError("a slip"))
    with pytest.raises(KeyError):
        measure_point(MODEL, **HOW)


def test_what_stands_is_not_measured_again(measured, tmp_path):
    points = variants(4)
    rows = run_grid(points[:2], **HOW, results_dir=tmp_path)
    found = [BenchmarkRow(**row) for row in read_rows(tmp_path, "benchmarks", "mine")]
    assert found == rows
    partly = [row for row in found if (row.point_id, row.phase) != (points[0].point_id, "step")]
    stand, missing = standing_rows(partly, [*reversed(points)])
    assert missing == [points[3], points[2], points[0]]  # a phase of the first is not there
    assert {row.point_id for row in stand} == {points[1].point_id}
    measured.ids.clear()
    everything = run_grid(missing, **HOW, results_dir=tmp_path, rows=stand)
    assert measured.ids == [point.point_id for point in missing]
    assert len(everything) == len({(row.point_id, row.phase) for row in everything}) == 20
    assert standing_rows(everything, points) == (everything, [])
    # Rows of what the grid no longer holds stay.
    assert standing_rows(everything, points[:1]) == (everything, [])


def test_stopped_between_two_points_the_file_holds_what_is_done(measured, tmp_path):
    points = variants(5)
    run_grid(points, **HOW, results_dir=tmp_path, stop=lambda: len(measured.ids) == 2)
    frame = pl.read_parquet(tmp_path / "benchmarks" / "mine.parquet")
    assert frame["point_id"].unique(maintain_order=True).to_list() == [point.point_id for point in points[:2]]
    assert frame.height == 10
    assert [path.name for path in (tmp_path / "benchmarks").iterdir()] == ["mine.parquet"]


def test_interrupted_inside_a_point_the_file_holds_those_before(measured, tmp_path):
    points = variants(3)
    measured.fail[points[2].point_id] = ("backward", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_grid(points, **HOW, results_dir=tmp_path)
    assert pl.read_parquet(tmp_path / "benchmarks" / "mine.parquet").height == 10


def test_progress_is_in_predicted_effort(measured, tmp_path):
    points, seen = variants(3), []
    run_grid(points, **HOW, results_dir=tmp_path, progress=lambda *pair: seen.append(pair))
    efforts = [round(1e6 * effort_s(MACHINE.predict(point))) for point in points]
    assert seen == [(sum(efforts[:n]), sum(efforts)) for n in range(4)]


def test_effort_follows_the_prediction_above_a_least_time():
    assert effort_s(predict(MODEL)) == pytest.approx(0.5)  # five phases of no time
    slow = dataclasses.replace(PEAKS, launch_overhead_s=10.0)
    long = predict(SOFTMAX, slow)
    assert effort_s(long) == pytest.approx(2 * 10.0 * grid_run.CALLS)


def test_what_the_device_has_not_is_refused_at_once():
    with pytest.raises(ValueError, match="precision is tf32, which only CUDA has"):
        check_points([MODEL, dataclasses.replace(MODEL, precision="tf32")], "cpu")
    with pytest.raises(ValueError, match="precision is tf32, which only CUDA has"):
        check_points([dataclasses.replace(SOFTMAX, precision="tf32")], "cpu")
    check_points([MODEL, SOFTMAX], "cpu")


def test_the_summary_names_the_extremes(measured):
    rows = measure_point(MODEL, **HOW)
    rows[0] = dataclasses.replace(rows[0], noisy=True, median_s=5 * rows[0].predicted_s)
    rows[-1] = dataclasses.replace(rows[-1], adds_up=False, median_s=0.5 * rows[-1].predicted_s)
    skipped = [dataclasses.replace(row, point_id="x", status="skipped_memory", median_s=None) for row in rows[:1]]
    found = summary([*rows, *(dataclasses.replace(row, noisy=None) for row in skipped)])
    assert found.points == {"ok": 1, "skipped_memory": 1}
    assert [row.phase for row in found.noisy] == ["forward"]
    assert [row.phase for row in found.do_not_add_up] == ["step"]
    assert len(found.ratios) == 5
    assert found.ratios[-1] == (pytest.approx(0.5), rows[-1])
    assert found.ratios[-2] == (pytest.approx(5.0), rows[0])
    assert found.median_ratio == found.ratios[2][0]


def test_the_machine_at_hand_knows_what_was_measured_of_it(tmp_path):
    machine = Machine.at_hand("cpu", tmp_path)
    assert machine.peaks is None
    assert machine.memory_bytes > 10**8
    assert machine.predict(MODEL).seconds is None
