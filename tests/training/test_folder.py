import errno

import pytest

from core.records import StepRow
from core.training.folder import best_step, run_folder, to_line, write_row


def row(step: int, eval_loss_nats: float | None = None) -> StepRow:
    return StepRow(
        run_id="r", step=step, tokens=7 * step, elapsed_s=0.5, model_flop=1.0, train_loss_nats=2.0,
        eval_loss_nats=eval_loss_nats, lr=1e-3, grad_norm=3.0, tokens_per_s=1.0, segment=0,
    )  # fmt: skip


@pytest.mark.parametrize("torn", [b"", b'{"run_id": "r", "st', b'{"step": 3}'[:-1], b"\xff\x00\x00", b"\x00" * 11])
def test_rows_up_to_a_torn_line(tmp_path, torn):
    folder = run_folder(tmp_path, "r")
    folder.path.mkdir(parents=True)
    rows = [row(step) for step in range(5)]
    folder.records.write_bytes("".join(map(to_line, rows)).encode() + torn)
    assert folder.rows() == rows
    assert folder.truncate(3) == rows[:4]
    assert folder.records.read_bytes() == "".join(map(to_line, rows[:4])).encode()


def test_a_row_is_on_file_as_soon_as_it_is_written(tmp_path):
    folder = run_folder(tmp_path, "r")
    folder.path.mkdir(parents=True)
    with folder.records.open("ab", buffering=0) as file:
        for step in range(3):
            write_row(file, row(step))
            assert folder.rows() == [row(each) for each in range(step + 1)]


@pytest.mark.parametrize(("harm", "cause"), [("refuse", "No space left on device"), ("cut", "no space left")])
def test_a_row_that_is_not_written_whole_is_an_error_with_its_path(harm, cause):
    class Full:
        name = "data/runs/r/records.jsonl"

        def write(self, data: bytes) -> int:
            if harm == "refuse":
                raise OSError(errno.ENOSPC, "No space left on device")
            return len(data) - 1

    with pytest.raises(OSError, match=rf"data/runs/r/records.jsonl: the row of step 5 cannot be written \({cause}\)"):
        write_row(Full(), row(5))


def test_checkpoints_are_known_by_their_names(tmp_path):
    folder = run_folder(tmp_path, "r")
    for name in ("step-00000011", "step-00000002", ".step-00000013.partial", "damaged-step-00000017", "step-x"):
        (folder.checkpoints / name).mkdir(parents=True)
    (folder.checkpoints / "step-00000019").write_text("a file")
    assert folder.checkpoint_steps() == [2, 11]
    assert folder.latest_checkpoint() == folder.checkpoint(11)


def test_best_step_is_the_lowest_evaluation_among_those_asked_for():
    rows = [row(0, 5.0), row(2, 3.0), row(3, float("nan")), row(5, 2.0), row(7), row(11, 1.0)]
    assert best_step(rows, [2, 3, 5, 7]) == 5
    assert best_step(rows, [3, 7]) is None
    assert best_step(rows, [2, 11]) == 11
