import errno
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch

from core import accounting, results
from core.corpus.dataset import dataset_folder, open_dataset
from core.records import StepRow
from core.training import checkpoint
from core.training import run as training
from core.training.checkpoint import load_weights, read_checkpoint
from core.training.folder import RunFolder, run_folder
from core.training.loop import Trainer
from core.training.run import run_id_of, train


def losses(folder: RunFolder) -> list[tuple]:
    return [(row.step, row.train_loss_nats, row.eval_loss_nats, row.lr, row.grad_norm) for row in folder.rows()]


class Killed(BaseException):
    """Stands in for a process that dies between two steps."""


class Killer:
    def __init__(self, step: int) -> None:
        self.step = step

    def row(self, row: StepRow) -> None:
        if row.step == self.step:
            raise Killed

    def finish(self, run) -> None: ...


@pytest.mark.parametrize("killed_at", [0, 1, 2, 4, 7, 11])
def test_resume_is_bit_equal(tiny_config, dataset, tmp_path, killed_at):
    """Killed anywhere, the resumed run has the very losses of one that was never interrupted, each step once."""
    whole, broken = run_folder(tmp_path, "whole"), run_folder(tmp_path, "broken")
    train(tiny_config, dataset, whole, tmp_path / "results")
    with pytest.raises(Killed):
        train(tiny_config, dataset, broken, tmp_path / "results", sinks=lambda trainer: [Killer(killed_at)])
    with broken.records.open("a") as records:
        records.write('{"run_id": "broken", "step"')  # a line torn by the crash
    run = train(tiny_config, dataset, broken, tmp_path / "results")
    assert losses(broken) == losses(whole)
    assert run.status == "finished"
    for name in ("model", "optimizer"):
        files = [folder.checkpoint(12) / f"{name}.safetensors" for folder in (whole, broken)]
        assert files[0].read_bytes() == files[1].read_bytes()
    segments = [row.segment for row in broken.rows()]
    saved = max((step for step in (0, 4, 5, 8, 10) if step < killed_at), default=0)  # due, or evaluated best so far
    assert segments == [int(saved > 0 and row.step > saved) for row in broken.rows()]
    steps = results.read_table(tmp_path / "results", "steps")[0]
    assert steps.filter(pl.col("run_id") == "broken")["step"].to_list() == list(range(13))


def test_stop_saves_and_the_same_call_resumes(tiny_config, dataset, tmp_path):
    folder = run_folder(tmp_path, "stopped")
    asked = iter([False] * 6 + [True])
    run = train(tiny_config, dataset, folder, tmp_path / "results", should_stop=lambda: next(asked))
    assert (run.status, run.steps, run.tokens) == ("stopped", 6, 6 * 5 * 37)
    assert folder.checkpoint_steps() == [5, 6]  # the best evaluated one, and the latest
    assert results.read_run(tmp_path / "results", "stopped")["status"] == "stopped"
    run = train(tiny_config, dataset, folder, tmp_path / "results")
    assert (run.status, run.steps) == ("finished", 12)
    whole = run_folder(tmp_path, "whole")
    train(tiny_config, dataset, whole, tmp_path / "results")
    assert losses(folder) == losses(whole)


def test_rows_say_what_was_measured(tiny_config, dataset, tmp_path):
    run = train(tiny_config, dataset, run_folder(tmp_path, "r"), tmp_path / "results", git_commit="abc")
    rows = results.read_rows(tmp_path / "results", "steps", "r")
    assert [row["step"] for row in rows] == list(range(13))
    assert [row["step"] for row in rows if row["eval_loss_nats"] is not None] == [0, 5, 10, 12]
    assert rows[0]["train_loss_nats"] is None
    assert rows[-1]["tokens"] == 12 * 5 * 37
    assert rows[-1]["model_flop"] == 12 * accounting.training_step_flop(tiny_config.model, 5)
    assert rows[3]["lr"] == pytest.approx(1e-2)  # the last step of warm-up reaches the peak
    assert rows[-1]["lr"] == pytest.approx(1e-3)
    row = results.read_run(tmp_path / "results", "r")
    assert json.loads(row["config_json"])["optimizer"]["lr"] == 1e-2
    assert row["eval_loss_nats"] == run.eval_loss_nats == rows[-1]["eval_loss_nats"]
    assert row["best_eval_loss_nats"] == min(row["eval_loss_nats"] for row in rows if row["eval_loss_nats"])
    assert row["parameters"] == sum(
        p.numel() for p in Trainer(tiny_config, dataset.train.tokens, None, "x").model.parameters()
    )
    assert row["git_commit"] == "abc"
    assert row["torch_version"] == torch.__version__
    assert row["eval_bits_per_byte"] == pytest.approx(
        row["eval_loss_nats"] * row["eval_tokens"] / row["eval_bytes"] / math.log(2)
    )


def test_floor_is_that_of_the_evaluated_stories(tiny_config, dataset, tmp_path):
    from core.corpus.stories import floor_nats
    from core.training.evaluation import evaluation_set

    evaluation = evaluation_set(dataset, 700)
    text = dataset.tokenizer.decode(evaluation.tokens.tolist())
    stories = text.split("<|endoftext|>")
    assert stories[-1] == ""
    assert len(evaluation.tokens) <= 700
    assert evaluation.num_bytes == len(text.encode())
    assert evaluation.floor_loss_nats == pytest.approx(
        sum(floor_nats(stories[:-1])) / len(evaluation.tokens), rel=1e-12
    )


def test_divergence_stops_with_a_row(tiny_config, dataset, tmp_path, replace):
    config = replace(tiny_config, optimizer__lr=1e30, schedule__warmup_steps=0, precision="float32")
    run = train(config, dataset, run_folder(tmp_path, "r"), tmp_path / "results")
    assert run.status == "diverged"
    assert run.steps < 12
    rows = results.read_rows(tmp_path / "results", "steps", "r")
    measured = [rows[-1][name] for name in ("train_loss_nats", "eval_loss_nats", "grad_norm")]
    assert any(value is not None and not math.isfinite(value) for value in measured)
    assert results.read_run(tmp_path / "results", "r")["status"] == "diverged"


def test_latest_and_best_checkpoints_are_kept(tiny_config, dataset, tmp_path, replace):
    config = replace(tiny_config, checkpoint_every=1, eval_every=1, keep_checkpoints=2)
    folder = run_folder(tmp_path, "r")
    seen = []

    class Watch:
        def row(self, row):
            seen.append(folder.checkpoint_steps())

        def finish(self, run): ...

    train(config, dataset, folder, tmp_path / "results", sinks=lambda trainer: [Watch()])
    evaluated = {row.step: row.eval_loss_nats for row in folder.rows() if row.step}
    best = min(evaluated, key=evaluated.get)
    assert folder.checkpoint_steps() == sorted({11, 12, best})
    assert max(len(steps) for steps in seen) <= 3


def test_checkpoint_holds_the_weights(tiny_config, dataset, tmp_path):
    folder = run_folder(tmp_path, "r")
    trainers = []
    train(tiny_config, dataset, folder, tmp_path / "results", sinks=lambda trainer: trainers.append(trainer) or [])
    fresh = Trainer(tiny_config, dataset.train.tokens, None, "x")
    load_weights(folder.checkpoint(12), fresh.model)
    for name, parameter in trainers[0].model.named_parameters():
        assert torch.equal(parameter, dict(fresh.model.named_parameters())[name]), name


def harm_file(path: Path, harm: str) -> None:
    data = bytearray(path.read_bytes())
    if harm == "remove":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "checkpoint.json"])
@pytest.mark.parametrize("harm", ["cut", "flip", "remove"])
def test_damaged_checkpoint_is_passed_over_for_an_earlier_one(tiny_config, dataset, tmp_path, caplog, name, harm):
    folder, whole = run_folder(tmp_path, "r"), run_folder(tmp_path, "whole")
    for each in (folder, whole):
        train(tiny_config, dataset, each, tmp_path / "results")
    harm_file(folder.checkpoint(12) / name, harm)
    with pytest.raises(ValueError, match=rf"step-00000012: damaged checkpoint, {name}"):
        read_checkpoint(folder.checkpoint(12))
    train(tiny_config, dataset, folder, tmp_path / "results")
    [record] = caplog.records
    assert re.search(rf"step-00000012: damaged checkpoint, {name} .*; going on from step 10$", record.getMessage())
    assert losses(folder) == losses(whole)
    assert [row.segment for row in folder.rows()] == [0] * 11 + [1] * 2
    assert read_checkpoint(folder.checkpoint(12))["step"] == 12
    assert (folder.checkpoints / "damaged-step-00000012").is_dir()


def test_a_run_whose_checkpoints_are_all_damaged_is_refused_as_it_is(tiny_config, dataset, tmp_path):
    folder = run_folder(tmp_path, "r")
    train(tiny_config, dataset, folder, tmp_path / "results")
    steps, rows = folder.checkpoint_steps(), losses(folder)
    for step in steps:
        harm_file(folder.checkpoint(step) / "model.safetensors", "flip")
    with pytest.raises(ValueError, match=r"step-00000012: damaged checkpoint, model.safetensors .* --fresh"):
        train(tiny_config, dataset, folder, tmp_path / "results")
    assert (folder.checkpoint_steps(), losses(folder)) == (steps, rows)


def test_rows_damaged_in_the_middle_are_made_again(tiny_config, dataset, tmp_path, caplog):
    """A checkpoint whose rows are not all there would leave steps missing; one before the gap does not."""
    folder, whole = run_folder(tmp_path, "r"), run_folder(tmp_path, "whole")
    for each in (folder, whole):
        train(tiny_config, dataset, each, tmp_path / "results")
    lines = folder.records.read_bytes().splitlines(keepends=True)
    folder.records.write_bytes(b"".join([*lines[:11], b"\xff" + lines[11][1:], *lines[12:]]))
    train(tiny_config, dataset, folder, tmp_path / "results")
    assert "records.jsonl lacks the row of step 11" in caplog.text
    assert losses(folder) == losses(whole)
    steps = results.read_rows(tmp_path / "results", "steps", "r")
    assert [row["step"] for row in steps] == list(range(13))


def test_data_that_changed_under_its_name_is_refused(tiny_config, own_data, tmp_path):
    path = dataset_folder(own_data, "stories") / "train.bin"
    dataset, was = open_dataset(path.parent), path.read_bytes()
    folder = run_folder(tmp_path, "r")
    train(tiny_config, dataset, folder, tmp_path / "results", should_stop=lambda: True)
    path.write_bytes(was[:100] + bytes([was[100] ^ 1]) + was[101:])
    with pytest.raises(ValueError, match=r"train.bin: changed since it was encoded"):
        train(tiny_config, open_dataset(path.parent), folder, tmp_path / "results")
    path.write_bytes(was[:-10])
    with pytest.raises(ValueError, match=rf"train.bin: {len(was) - 10} bytes, but its sidecar says"):
        open_dataset(path.parent)
    path.write_bytes(was)
    assert train(tiny_config, open_dataset(path.parent), folder, tmp_path / "results").status == "finished"


def test_a_batch_that_is_not_a_number_ends_the_run_before_its_update(tiny_config, dataset, tmp_path):
    folder, results_dir = run_folder(tmp_path, "r"), tmp_path / "results"
    trainers = []

    def poison(trainer: Trainer) -> list:
        trainers.append(trainer)
        at = lambda module, inputs, output: output * math.nan if trainer.step == 6 else None  # noqa: E731
        trainer.model.embedding.register_forward_hook(at)
        return [Watch()]

    class Watch:
        def row(self, row: StepRow) -> None:
            if row.step == 6:
                self.weights = [p.detach().clone() for p in trainers[0].model.parameters()]
            if row.step == 7:
                after = trainers[0].model.parameters()
                assert all(torch.equal(*pair) for pair in zip(self.weights, after, strict=True))
                assert math.isnan(row.train_loss_nats)

        def finish(self, run) -> None: ...

    run = train(tiny_config, dataset, folder, results_dir, sinks=poison)
    assert (run.status, run.steps) == ("diverged", 7)
    assert folder.checkpoint_steps() == [4, 5]
    assert read_checkpoint(folder.latest_checkpoint())["step"] == 5
    assert results.read_run(results_dir, "r")["status"] == "diverged"
    # Without the poison the run goes on from there, to the curve of one that never saw it.
    assert train(tiny_config, dataset, folder, results_dir).status == "finished"
    train(tiny_config, dataset, run_folder(tmp_path, "whole"), results_dir)
    assert losses(folder) == losses(run_folder(tmp_path, "whole"))


def test_a_full_disk_ends_the_run_in_one_line_and_the_same_call_goes_on(tiny_config, dataset, tmp_path, monkeypatch):
    folder, results_dir = run_folder(tmp_path, "r"), tmp_path / "results"
    write = checkpoint._write

    def full(path: Path, snapshot) -> None:
        if snapshot.step == 8:
            path.mkdir(parents=True)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, snapshot)

    monkeypatch.setattr(checkpoint, "_write", full)
    with pytest.raises(OSError, match=r"step-00000008: .*cannot be written \(No space left on device\)"):
        train(tiny_config, dataset, folder, results_dir)
    monkeypatch.undo()
    assert folder.checkpoint_steps() == [4, 5]
    assert [path.name for path in folder.checkpoints.iterdir() if path.name.startswith(".")] == []
    assert [row.step for row in folder.rows()] == list(range(len(folder.rows())))
    assert len(folder.rows()) >= 9
    assert train(tiny_config, dataset, folder, results_dir).status == "finished"
    train(tiny_config, dataset, run_folder(tmp_path, "whole"), results_dir)
    assert losses(folder) == losses(run_folder(tmp_path, "whole"))


def test_a_moving_average_is_resumed_and_generates(tiny_config, dataset, tmp_path, replace):
    from core.inference.load import load_run

    config = replace(tiny_config, ema_decay=0.9, optimizer__kind="muon")
    whole, broken = run_folder(tmp_path, "whole"), run_folder(tmp_path, "broken")
    train(config, dataset, whole, tmp_path / "results")
    with pytest.raises(Killed):
        train(config, dataset, broken, tmp_path / "results", sinks=lambda trainer: [Killer(7)])
    trainers = []
    train(config, dataset, broken, tmp_path / "results", sinks=lambda trainer: trainers.append(trainer) or [])
    assert losses(broken) == losses(whole)
    for name in ("model", "optimizer", "average"):
        files = [folder.checkpoint(12) / f"{name}.safetensors" for folder in (whole, broken)]
        assert files[0].read_bytes() == files[1].read_bytes()
    loaded = dict(load_run(tmp_path, "broken").model.named_parameters())
    assert set(loaded) == set(trainers[0].average.weights)
    for name, mean in trainers[0].average.weights.items():
        assert torch.equal(loaded[name], mean), name
        assert not torch.equal(loaded[name], dict(trainers[0].model.named_parameters())[name]), name


def test_a_run_says_what_memory_was_expected_of_it(tiny_config, dataset, tmp_path, replace):
    run = train(tiny_config, dataset, run_folder(tmp_path, "r"), tmp_path / "results")
    expected = accounting.peak(accounting.account(tiny_config.model, batch_size=5, precision="float64")).total
    assert (run.world_size, run.peak_bytes, run.predicted_peak_bytes) == (1, None, expected)
    config = replace(tiny_config, num_steps=3, ema_decay=0.5)
    run = train(config, dataset, run_folder(tmp_path, "other"), tmp_path / "results")
    assert run.predicted_peak_bytes is None


def test_checkpoint_of_another_configuration_is_refused(tiny_config, dataset, tmp_path, replace):
    folder = run_folder(tmp_path, "r")
    train(tiny_config, dataset, folder, tmp_path / "results")
    other = replace(tiny_config, optimizer__lr=2e-2)
    with pytest.raises(ValueError, match=r"another configuration: its optimizer.lr is 0.01, not 0.02"):
        train(other, dataset, folder, tmp_path / "results")


def test_model_and_data_must_fit(tiny_config, dataset, tmp_path, replace):
    with pytest.raises(ValueError, match=r"model.vocab_size is 300, but .* 400 ids"):
        train(replace(tiny_config, model__vocab_size=300), dataset, run_folder(tmp_path, "r"), tmp_path / "results")
    too_long = replace(tiny_config, model__context_length=100_000)
    with pytest.raises(ValueError, match=r"context_length 100000 needs 100001"):
        train(too_long, dataset, run_folder(tmp_path, "r"), tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_results_folder_that_cannot_be_written_is_noticed_before_training(tiny_config, dataset, tmp_path):
    (tmp_path / "results").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="results"):
        train(tiny_config, dataset, run_folder(tmp_path, "r"), tmp_path / "results")
    assert not (tmp_path / "runs").exists()


def test_run_id_follows_configuration_and_data(tiny_config, dataset, replace):
    assert run_id_of(tiny_config, dataset) == run_id_of(replace(tiny_config), dataset)
    assert run_id_of(tiny_config, dataset) != run_id_of(replace(tiny_config, seed=1), dataset)
    assert run_id_of(tiny_config, dataset).startswith("tiny-")


def test_seeds_differ_and_repeat(tiny_config, dataset, tmp_path, replace):
    first, again, other = (run_folder(tmp_path, name) for name in "abc")
    train(tiny_config, dataset, first, tmp_path / "results")
    train(tiny_config, dataset, again, tmp_path / "results")
    train(replace(tiny_config, seed=1), dataset, other, tmp_path / "results")
    assert losses(first) == losses(again)
    assert losses(first)[1][1] != losses(other)[1][1]


def test_attention_implementations_train_alike(tiny_config, dataset, tmp_path, replace):
    for name in ("sdpa", "written_out"):
        config = replace(tiny_config, model__attention=name)
        training.train(config, dataset, run_folder(tmp_path, name), tmp_path / "results")
    fast, slow = ([row.train_loss_nats for row in run_folder(tmp_path, n).rows()[1:]] for n in ("sdpa", "written_out"))
    assert fast == pytest.approx(slow, rel=1e-9)


def test_a_run_stopped_before_its_first_step_has_row_0_once(tiny_config, dataset, tmp_path):
    folder = run_folder(tmp_path, "r")
    train(tiny_config, dataset, folder, tmp_path / "results", should_stop=lambda: True)
    train(tiny_config, dataset, folder, tmp_path / "results")
    assert [row.step for row in folder.rows()] == list(range(13))


def test_a_run_does_not_go_on_with_other_data(tiny_config, dataset, tmp_path):
    from core.corpus.dataset import prepare_stories

    folder = run_folder(tmp_path, "r")
    train(tiny_config, dataset, folder, tmp_path / "results", should_stop=lambda: True)
    other, _ = prepare_stories(tmp_path / "other", train_bytes=30_000, valid_bytes=9_000, vocab_size=390)
    with pytest.raises(ValueError, match="a checkpoint of training on other data than data set 'stories'"):
        train(tiny_config, other, folder, tmp_path / "results")


def test_a_week_of_flop_fits_the_rows(tmp_path):
    row = StepRow(
        run_id="r", step=1, tokens=10**13, elapsed_s=6e5, model_flop=4e21, train_loss_nats=1.0, eval_loss_nats=None,
        lr=1e-3, grad_norm=1.0, tokens_per_s=1e6, segment=0,
    )  # fmt: skip
    results.write_rows(tmp_path, "steps", "r", [row])
    assert results.read_rows(tmp_path, "steps", "r")[0]["model_flop"] == 4e21


def test_more_rows_than_tokens_in_the_vocabulary_can_be_sampled(tiny_config, dataset, tmp_path, replace):
    """An untrained model gives every row the same chance; ids without a token are never drawn."""
    from core.inference.load import load_run

    config = replace(tiny_config, model__vocab_size=5003, schedule__warmup_steps=0, num_steps=1)
    train(config, dataset, run_folder(tmp_path, "r"), tmp_path / "results")
    loaded = load_run(tmp_path, "r")
    drawn = list(loaded.complete("", 200, temperature=5.0))
    assert max(drawn) < 400


def test_two_trainings_are_bit_equal_with_two_threads(tmp_path):
    """In a process of its own with two threads: some operations add in another order each time unless avoided."""
    script = (
        "import torch, hashlib; torch.set_num_threads(2)\n"
        "from core.presets import preset; from core.model.transformer import Transformer\n"
        "from core.model.functional import cross_entropy; from core.optim.adamw import AdamW\n"
        "model = Transformer(preset('quickstart').model); optimizer = AdamW(model.parameters(), lr=1e-2)\n"
        "draw = torch.Generator().manual_seed(0)\n"
        "for _ in range(8):\n"
        "    ids = torch.randint(0, 97, (4, 257), generator=draw)\n"
        "    cross_entropy(model(ids[:, :-1]), ids[:, 1:]).mean().backward(); optimizer.step(); optimizer.zero_grad()\n"
        "print(hashlib.sha256(b''.join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest())\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": str(Path(__file__).parents[2])}
    digests = {
        subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(3)
    }
    assert len(digests) == 1
