import json
import math
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch

from core import accounting, results
from core.records import StepRow
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


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
@pytest.mark.parametrize("harm", ["cut", "flip", "remove"])
def test_damaged_checkpoint_is_refused(tiny_config, dataset, tmp_path, name, harm):
    folder = run_folder(tmp_path, "r")
    train(tiny_config, dataset, folder, tmp_path / "results")
    path = folder.checkpoint(12) / name
    data = bytearray(path.read_bytes())
    if harm == "remove":
        path.unlink()
    else:
        if harm == "flip":
            data[-1] ^= 1
        path.write_bytes(data if harm == "flip" else data[:-100])
    with pytest.raises(ValueError, match=rf"damaged checkpoint, {name}"):
        read_checkpoint(folder.checkpoint(12))
    with pytest.raises(ValueError, match="damaged checkpoint"):
        train(tiny_config, dataset, folder, tmp_path / "results")


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
