"""A mirror of a run gets every row in order if it can, and harms nothing if it cannot."""

import threading

import pytest

from core import results
from core.records import RunRow, StepRow
from core.training.folder import run_folder
from core.training.run import train
from core.training.sinks import QueuedSink


def step_row(step: int) -> StepRow:
    columns = {"Int64": 3, "Float64": 0.5, "String": "r"}
    values = {name: columns[str(kind)] for name, kind in results.schema(StepRow).items()}
    return StepRow(**values | {"step": step})


def run_row() -> RunRow:
    columns = {"Int64": 3, "Float64": 0.5, "String": "r"}
    return RunRow(**{name: columns[str(kind)] for name, kind in results.schema(RunRow).items()})


class Recorder:
    """Keeps what it gets; may be told to fail at a step, at the end, or to stop at its first row until it is freed."""

    def __init__(self, fail_at: int | None = None, error: BaseException | None = None, held: bool = False) -> None:
        self.steps, self.runs = [], []
        self.entered, self.free = threading.Event(), threading.Event()
        self._fail_at, self._error = fail_at, error
        if not held:
            self.free.set()

    def row(self, row: StepRow) -> None:
        self.entered.set()
        self.free.wait()
        if row.step == self._fail_at:
            raise self._error
        self.steps.append(row.step)

    def finish(self, run: RunRow) -> None:
        if self._fail_at is None and self._error is not None:
            raise self._error
        self.runs.append(run)


@pytest.fixture
def held():
    """A sink that stops at its first row."""
    sink = Recorder(held=True)
    yield sink
    sink.free.set()


@pytest.fixture
def warned():
    return []


def test_a_healthy_sink_gets_every_row_in_order_and_the_run_last(warned):
    sink = Recorder()
    mirror = QueuedSink("mirror", lambda: sink, warned.append, capacity=5_000)
    for step in range(4_999):
        mirror.row(step_row(step))
    run = run_row()
    mirror.finish(run)
    assert sink.steps == list(range(4_999))
    assert sink.runs == [run]
    assert warned == []


def test_rows_are_taken_by_another_thread():
    threads = []

    class Witness(Recorder):
        def row(self, row):
            threads.append(threading.current_thread())

    mirror = QueuedSink("mirror", Witness, print)
    mirror.row(step_row(0))
    mirror.finish(run_row())
    assert threads != [threading.current_thread()]
    assert threads[0].daemon  # it would not keep the process from ending


def test_a_full_queue_drops_rows_counts_them_and_says_so_twice(held, warned):
    mirror = QueuedSink("mirror", lambda: held, warned.append, capacity=3)
    mirror.row(step_row(0))
    held.entered.wait()  # the first row has left the queue
    for step in range(1, 8):
        mirror.row(step_row(step))
    assert warned == ["warning: mirror is too slow: 3 rows wait, further ones are dropped"]
    held.free.set()
    mirror.finish(run_row())
    assert held.steps == [0, 1, 2, 3]
    assert len(held.runs) == 1
    assert warned[1:] == ["warning: mirror lacks 4 rows that were dropped while it was too slow"]


@pytest.mark.parametrize(("rows", "waiting"), [(3, 2), (11, 5)])
def test_a_sink_that_hangs_is_left_behind(held, warned, rows, waiting):
    mirror = QueuedSink("mirror", lambda: held, warned.append, capacity=5, finish_timeout_s=0.05)
    mirror.row(step_row(0))
    held.entered.wait()
    for step in range(1, rows):
        mirror.row(step_row(step))
    warned.clear()
    mirror.finish(run_row())
    assert warned[0] == f"warning: mirror has not finished after 0.05 s; {waiting} rows still wait, left behind"
    assert held.steps == held.runs == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (RuntimeError("two\n  lines"), "two lines"),
        (ConnectionError(), "ConnectionError"),
        (ValueError("a wrong value"), "a wrong value"),
        (SystemExit(3), "3"),
    ],
)
def test_what_a_sink_raises_is_one_warning_and_closes_it(warned, error, said):
    sink = Recorder(fail_at=2, error=error)
    mirror = QueuedSink("mirror", lambda: sink, warned.append)
    for step in range(7):
        mirror.row(step_row(step))
    mirror.finish(run_row())
    mirror.row(step_row(7))
    assert sink.steps == [0, 1]
    assert sink.runs == []
    assert warned == [f"warning: mirror has failed ({said}); it gets no more rows, training goes on"]


def test_a_failure_behind_a_full_queue_does_not_keep_finish_waiting(warned):
    sink = Recorder(fail_at=0, error=OSError("broken pipe"), held=True)
    mirror = QueuedSink("mirror", lambda: sink, warned.append, capacity=2, finish_timeout_s=600)
    mirror.row(step_row(0))
    sink.entered.wait()
    for step in range(1, 3):
        mirror.row(step_row(step))
    finishing = threading.Thread(target=mirror.finish, args=[run_row()])
    finishing.start()
    sink.free.set()
    finishing.join(timeout=60)
    assert not finishing.is_alive()
    assert warned == ["warning: mirror has failed (broken pipe); it gets no more rows, training goes on"]


def test_a_sink_that_fails_at_the_end_is_one_warning(warned):
    sink = Recorder(error=ConnectionError("reset"))
    mirror = QueuedSink("mirror", lambda: sink, warned.append)
    mirror.row(step_row(0))
    mirror.finish(run_row())
    assert sink.steps == [0]
    assert warned == ["warning: mirror has failed (reset); it gets no more rows, training goes on"]


def fail(error: BaseException):
    def make():
        raise error

    return make


def test_a_wrong_use_is_raised_at_the_start(warned):
    with pytest.raises(ValueError, match="no key"):
        QueuedSink("mirror", fail(ValueError("no key")), warned.append)
    assert warned == []


def test_a_sink_that_cannot_be_opened_is_one_warning(warned):
    mirror = QueuedSink("mirror", fail(TimeoutError("no answer")), warned.append)
    mirror.row(step_row(0))
    mirror.finish(run_row())
    assert warned == ["warning: mirror has failed (no answer); it gets no more rows, training goes on"]


def test_a_sink_that_opens_late_gets_what_waited(warned):
    sink, opened = Recorder(), threading.Event()
    mirror = QueuedSink("mirror", lambda: opened.wait() and sink, warned.append, open_timeout_s=0.01)
    for step in range(3):
        mirror.row(step_row(step))
    assert sink.steps == []
    opened.set()
    mirror.finish(run_row())
    assert sink.steps == [0, 1, 2]
    assert warned == ["warning: mirror has not started after 0.01 s; training goes on, rows wait"]


def test_a_sink_that_fails_to_open_late_is_a_warning_whatever_it_raises(warned):
    opened = threading.Event()

    def make():
        opened.wait()
        raise ValueError("refused")

    mirror = QueuedSink("mirror", make, warned.append, open_timeout_s=0.01)
    mirror.row(step_row(0))
    opened.set()
    mirror.finish(run_row())
    assert warned[1:] == ["warning: mirror has failed (refused); it gets no more rows, training goes on"]


def test_a_warning_that_cannot_be_given_is_not_missed():
    def broken_terminal(text):
        raise BrokenPipeError

    sink = Recorder(fail_at=1, error=OSError("full"))
    mirror = QueuedSink("mirror", lambda: sink, broken_terminal)
    for step in range(3):
        mirror.row(step_row(step))
    mirror.finish(run_row())
    assert sink.steps == [0]


def test_training_is_the_same_beside_mirrors_that_hang_and_fail(tiny_config, dataset, tmp_path, held, warned):
    def sinks(trainer):
        def mirror(name, sink):
            return QueuedSink(name, lambda: sink, warned.append, capacity=2, finish_timeout_s=0.01)

        return [mirror("hanging", held), mirror("failing", Recorder(fail_at=4, error=OSError("gone")))]

    def losses(name, **options):
        run = train(tiny_config, dataset, run_folder(tmp_path, name), tmp_path / "results", **options)
        assert run.status == "finished"
        return [row["train_loss_nats"] for row in results.read_rows(tmp_path / "results", "steps", name)]

    assert losses("mirrored", sinks=sinks) == losses("alone")
    assert "warning: failing has failed (gone); it gets no more rows, training goes on" in warned
