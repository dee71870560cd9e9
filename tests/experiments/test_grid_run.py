import dataclasses

import polars as pl
import pytest
import torch

from core.accounting import account, peak
from core.accounting.hardware import measured_device
from core.config import canonical_json
from core.config.grid import SUBJECTS
from core.experiments import grid_run
from core.experiments.grid_machine import Machine, check_points, effort_s
from core.experiments.grid_points import GridPoint, predict
from core.experiments.grid_rounds import Rounds
from core.experiments.grid_rows import rounds_of, summary
from core.experiments.grid_run import Visits, due_phases, due_points, measure_point, run_grid
from core.experiments.grid_visit import Visit
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
POINT = {**HOW, "reference": lambda: None, "num_rounds": 5}
ONCE, GRID = Visits(usual=1, more=3), {**HOW, "visits": Visits(usual=1, more=3)}
SECONDS = {"forward": 1.0, "forward_loss": 2.0, "backward": 4.0, "optimizer": 0.5, "step": 6.4}


def made_up(seconds, visit=1, rounds=5):
    """The same time in all rounds, beside a reference that takes half a second."""
    return Rounds(
        seconds=(seconds,) * rounds,
        reference_s=(0.5,) * rounds,
        visits=(visit,) * rounds,
        num_blocks=2 * rounds,
        runs_per_block=3,
        warm_up_s=9.0,
    )


@pytest.fixture
def measured(monkeypatch):
    """Made-up times instead of measurements; the visits that were made, what fails in which point, what is noisy."""

    class Measured:
        def __init__(self):
            self.visits, self.fail, self.noisy = [], {}, set()

        @property
        def ids(self):
            return [point_id for point_id, _ in self.visits]

        def __call__(self, point, device, phases, reference, *, num_rounds, number):
            self.visits.append((point.point_id, tuple(phases)))
            found, failing = Visit(), self.fail.get(point.point_id)
            for phase in phases:
                if failing and failing[0] == phase:
                    if isinstance(failing[1], BaseException):
                        raise failing[1]
                    found.status, found.message = failing[1:]
                    return found
                one = made_up(SECONDS[phase], number, num_rounds)
                if (point.point_id, phase) in self.noisy:
                    one = dataclasses.replace(one, seconds=tuple(range(1, num_rounds + 1)))
                found.rounds[phase] = one
            found.peak_bytes = 777 if "step" in phases and number == 1 else None
            return found

    found = Measured()
    monkeypatch.setattr(grid_run, "visit_point", found)
    monkeypatch.setattr(grid_run, "ReferenceProduct", lambda device: lambda: 0.5)
    return found


def variants(number):
    return [dataclasses.replace(MODEL, batch_size=size) for size in (2, 3, 5, 7, 11)[:number]]


def test_a_row_per_phase_holds_measurement_and_prediction(measured):
    rows = {row.phase: row for row in measure_point(MODEL, **POINT)}
    assert list(rows) == list(MODEL.phases)
    predicted = predict(MODEL, PEAKS, 1000)
    costs = account(MODEL.model, batch_size=3)
    for phase, row in rows.items():
        assert (row.median_s, row.iqr_s, row.status, row.message) == (SECONDS[phase], 0.0, "ok", None)
        assert (row.relative_median, row.relative_iqr, row.reference_s) == (2 * SECONDS[phase], 0.0, 0.5)
        assert (row.num_blocks, row.runs_per_block, row.attempts, row.warm_up_s) == (10, 3, 1, 9.0)
        assert rounds_of(row) == made_up(SECONDS[phase])
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
    assert measure_point(MODEL, **POINT)[-1].adds_up is adds_up


def test_an_operation_has_rows_of_the_same_kind(measured):
    forward, backward = measure_point(SOFTMAX, **POINT)
    assert (forward.phase, backward.phase, forward.subject) == ("forward", "backward", "softmax")
    assert (forward.batch_size, forward.num_heads, forward.d_model, forward.vocab_size) == (2, 3, None, None)
    assert (forward.config_json, forward.attention, forward.optimizer) == (None, None, None)
    assert (forward.predicted_flop, forward.predicted_bytes) == (0.0, 2.0 * 2 * 2 * 3 * 7 * 7)
    assert backward.predicted_s == 1e-6
    assert backward.adds_up is None


def test_what_cannot_fit_is_not_tried(measured):
    needs = predict(MODEL).peak_bytes
    small = dataclasses.replace(MACHINE, memory_bytes=2 * needs)
    rows = measure_point(MODEL, **POINT | {"machine": small}, memory_fraction=0.49)
    assert measured.ids == []
    assert {row.status for row in rows} == {"skipped_memory"}
    assert len(rows) == 5
    assert "more than 49% of " in rows[0].message
    assert {row.median_s for row in rows} == {row.noisy for row in rows} == {None}
    assert rows[-1].predicted_peak_bytes == needs
    measure_point(MODEL, **POINT | {"machine": small}, memory_fraction=0.5)
    assert measured.ids == [MODEL.point_id]


@pytest.mark.parametrize("status", ["out_of_memory", "error"])
def test_what_fails_becomes_rows_and_the_grid_goes_on(measured, tmp_path, status):
    points = variants(3)
    measured.fail[points[1].point_id] = ("backward", status, "no more")
    rows = run_grid(points, **GRID, results_dir=tmp_path)
    assert measured.ids == [point.point_id for point in points]
    failed = {row.phase: row for row in rows if row.point_id == points[1].point_id}
    assert [row.status for row in failed.values()] == ["ok", "ok", status, status, status]
    assert failed["forward"].median_s == 1.0
    assert [row.message for row in failed.values()] == [None, None, "no more", "no more", "no more"]
    assert (failed["step"].median_s, failed["step"].adds_up, failed["step"].round_s) == (None, None, None)
    assert summary(rows).points == {"ok": 2, status: 1}
    # What failed stands as well, until it is asked for again.
    assert due_points(rows, points, Visits(usual=3, more=3)) == [points[0], points[2]]
    retry = Visits(usual=1, more=3, retry=True)
    assert due_points(rows, points, retry) == [points[1]]
    measured.visits.clear()
    run_grid(points, **GRID | {"visits": retry}, results_dir=tmp_path, rows=rows)
    assert measured.visits == [(points[1].point_id, MODEL.phases)]  # once, though it fails again


def test_what_stands_is_not_measured_again(measured, tmp_path):
    points = variants(4)
    rows = run_grid(points[:2], **GRID, results_dir=tmp_path)
    found = [BenchmarkRow(**row) for row in read_rows(tmp_path, "benchmarks", "mine")]
    assert found == rows
    partly = [row for row in found if (row.point_id, row.phase) != (points[0].point_id, "step")]
    assert due_points(partly, points, ONCE) == [points[0], points[2], points[3]]  # a phase of the first is not there
    measured.visits.clear()
    everything = run_grid(points, **GRID, results_dir=tmp_path, rows=partly)
    assert measured.ids == [points[0].point_id, points[2].point_id, points[3].point_id]
    assert len(everything) == len({(row.point_id, row.phase) for row in everything}) == 20
    assert due_points(everything, points, ONCE) == []
    # Rows of what the grid no longer holds stay.
    assert run_grid(points[:1], **GRID, results_dir=tmp_path, rows=everything) == everything
    assert len(measured.ids) == 3


def test_points_are_visited_in_passes_and_their_rounds_pooled(measured, tmp_path):
    points = variants(2)
    (row, *_), visits = (
        run_grid(points, **GRID | {"visits": Visits(usual=3, more=3)}, results_dir=tmp_path),
        [(point.point_id, MODEL.phases) for point in points],
    )
    assert measured.visits == visits * 3
    assert row.round_visit == (1, 1, 1, 2, 2, 2, 3, 3, 3)
    assert (row.attempts, row.num_blocks, len(row.round_s), row.noisy) == (3, 18, 9, False)


def test_what_is_noisy_is_visited_again_later_and_then_flagged(measured, tmp_path):
    first, second = points = variants(2)
    measured.noisy |= {(second.point_id, "forward"), (second.point_id, "step")}
    rows = run_grid(points, **GRID, results_dir=tmp_path)
    assert measured.visits[:2] == [(first.point_id, MODEL.phases), (second.point_id, MODEL.phases)]
    assert measured.visits[2:] == [(second.point_id, ("forward", "step"))] * 3
    by = {(row.point_id, row.phase): row for row in rows}
    assert (by[second.point_id, "step"].attempts, by[second.point_id, "step"].noisy) == (4, True)
    assert by[second.point_id, "step"].peak_bytes == 777  # of the first visit
    assert (by[second.point_id, "backward"].attempts, by[second.point_id, "backward"].noisy) == (1, False)
    assert due_points(rows, points, ONCE) == []
    # Half of the visits made, the next invocation makes the other half.
    measured.visits.clear()
    some = run_grid(points, **GRID | {"visits": Visits(usual=1, more=1)}, results_dir=tmp_path)
    assert len(measured.visits) == 3
    run_grid(points, **GRID, results_dir=tmp_path, rows=some)
    assert measured.visits[3:] == [(second.point_id, ("forward", "step"))] * 2


def test_rounds_of_other_code_do_not_stand_beside_new_ones(measured, tmp_path):
    rows = measure_point(MODEL, **POINT)
    same = measure_point(MODEL, **POINT, phases=("step",), standing=rows)
    assert [row.attempts for row in same] == [1, 1, 1, 1, 2]
    assert due_phases(MODEL, same, Visits(usual=2, more=3)) == MODEL.phases[:4]
    for change in ({"git_commit": "def"}, {"torch_version": "3"}, {"num_threads": 99}, {"round_s": None}):
        old = [dataclasses.replace(row, **change) for row in rows]
        new = measure_point(MODEL, **POINT, phases=("step",), standing=old)
        assert [row.attempts for row in new] == [1] * 5
    assert measured.visits[-1] == (MODEL.point_id, MODEL.phases)


def test_stopped_between_two_points_the_file_holds_what_is_done(measured, tmp_path):
    points = variants(5)
    run_grid(points, **GRID, results_dir=tmp_path, stop=lambda: len(measured.ids) == 2)
    frame = pl.read_parquet(tmp_path / "benchmarks" / "mine.parquet")
    assert frame["point_id"].unique(maintain_order=True).to_list() == [point.point_id for point in points[:2]]
    assert frame.height == 10
    assert [path.name for path in (tmp_path / "benchmarks").iterdir()] == ["mine.parquet"]


def test_interrupted_inside_a_point_the_file_holds_those_before(measured, tmp_path):
    points = variants(3)
    measured.fail[points[2].point_id] = ("backward", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_grid(points, **GRID, results_dir=tmp_path)
    assert pl.read_parquet(tmp_path / "benchmarks" / "mine.parquet").height == 10


def test_progress_is_in_predicted_effort(measured, tmp_path):
    points, seen = variants(3), []
    twice = GRID | {"visits": Visits(usual=2, more=3)}
    run_grid(points, **twice, results_dir=tmp_path, progress=lambda *pair: seen.append(pair))
    efforts = [round(1e6 * effort_s(MACHINE.predict(point), 3)) for point in points] * 2
    assert seen == [(sum(efforts[:n]), sum(efforts)) for n in range(7)]


def test_effort_follows_the_prediction_above_a_least_time():
    assert effort_s(predict(MODEL), 4) == pytest.approx(4 * 5 * 0.16)  # five phases of no time
    slow = dataclasses.replace(PEAKS, launch_overhead_s=10.0)
    long = predict(SOFTMAX, slow)
    assert effort_s(long, 4) == pytest.approx(4 * 2 * (2.5 * 2 * 10.0 + 0.03))


def test_what_the_device_has_not_is_refused_at_once():
    with pytest.raises(ValueError, match="precision is tf32, which only CUDA has"):
        check_points([MODEL, dataclasses.replace(MODEL, precision="tf32")], "cpu")
    with pytest.raises(ValueError, match="precision is tf32, which only CUDA has"):
        check_points([dataclasses.replace(SOFTMAX, precision="tf32")], "cpu")
    check_points([MODEL, SOFTMAX], "cpu")


def test_the_summary_names_the_extremes(measured):
    rows = measure_point(MODEL, **POINT)
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
