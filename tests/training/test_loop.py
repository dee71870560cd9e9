"""The loop's step against the same mathematics done plainly: micro-batches, z-loss, averages, schedules, formats."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from core.config import ScheduleConfig
from core.model import functional
from core.training.batches import batch
from core.training.evaluation import EvaluationSet, evaluate
from core.training.loop import Trainer
from core.training.numerics import check_numerics, numerics

PLACE = np.arange(3001)
TOKENS = ((PLACE * PLACE + 7 * (PLACE % 11)) % 401).astype(np.uint16)
EVALUATION = EvaluationSet(TOKENS[:331], None, 331, None)


def trainer_of(config, **changes):
    return Trainer(dataclasses.replace(config, **changes), TOKENS[500:], EVALUATION, "loop")


def losses(config, **changes):
    return [row.train_loss_nats for row in trainer_of(config, **changes).rows()][1:]


def evaluations(config, **changes):
    return [row.eval_loss_nats for row in trainer_of(config, **changes).rows() if row.eval_loss_nats is not None]


def gradients(trainer):
    return {name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters()}


def given(trainer, step=0):
    config = trainer.config
    return batch(trainer.train_tokens, config.model.context_length, config.batch_size, config.seed, step, "cpu")


@pytest.mark.parametrize("micro_batch_size", [1, 2, 3, 6])
def test_micro_batches_give_the_gradient_of_the_whole_batch(tiny_config, micro_batch_size):
    whole, parted = (trainer_of(tiny_config, batch_size=6, micro_batch_size=size) for size in (None, micro_batch_size))
    for one in (whole, parted):
        one.update(*given(one), step=0)
    for name, gradient in gradients(whole).items():
        torch.testing.assert_close(gradients(parted)[name], gradient, rtol=1e-9, atol=1e-12)
    assert losses(tiny_config, batch_size=6, micro_batch_size=micro_batch_size) == pytest.approx(
        losses(tiny_config, batch_size=6), rel=1e-9
    )


@pytest.mark.parametrize("changes", [{"loss_chunk": 17}, {"activation_checkpointing": True}, {"deterministic": True}])
def test_what_saves_memory_changes_no_loss(tiny_config, changes):
    assert losses(tiny_config, **changes) == pytest.approx(losses(tiny_config), rel=1e-9)


@pytest.mark.parametrize("loss_chunk", [None, 17])
def test_z_loss_is_minimised_and_not_reported(tiny_config, loss_chunk):
    trainer = trainer_of(tiny_config, z_loss=0.1, loss_chunk=loss_chunk)
    twin = trainer_of(tiny_config)
    inputs, targets = given(trainer)
    nats, norm = trainer.update(inputs, targets, step=0)
    logits = twin.model(inputs)
    plain = functional.cross_entropy(logits, targets).mean()
    (plain + 0.1 * torch.logsumexp(logits, dim=-1).square().mean()).backward()
    expected = torch.sqrt(sum(gradient.square().sum() for gradient in gradients(twin).values()))
    assert float(nats) == pytest.approx(float(plain.detach()), rel=1e-12)
    assert float(norm) == pytest.approx(float(expected), rel=1e-9)


def test_the_first_update_uses_the_first_rate_of_the_schedule(tiny_config):
    schedule = ScheduleConfig(kind="constant", warmup_steps=4)
    trainer = trainer_of(tiny_config, schedule=schedule)
    rows = list(trainer.rows())
    assert [row.lr for row in rows[1:7]] == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01])
    assert {group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups} == {0.01}


def test_muon_and_adamw_share_the_schedule(tiny_config):
    optimizer = dataclasses.replace(tiny_config.optimizer, kind="muon", muon_lr=0.03)
    schedule = ScheduleConfig(kind="linear", warmup_steps=2)
    trainer = trainer_of(tiny_config, optimizer=optimizer, schedule=schedule)
    trainer.update(*given(trainer), step=0)
    rates = {group["lr"] for each in trainer.optimizers for group in each.param_groups}
    assert rates == {0.005, 0.015}
    trained = losses(tiny_config, optimizer=optimizer)
    assert trained[-1] < trained[0]


def test_the_average_is_what_is_evaluated(tiny_config):
    trainer = trainer_of(tiny_config, ema_decay=0.5)
    rows = list(trainer.rows())
    plain = trainer_of(tiny_config)
    trained = list(plain.rows())
    assert [row.train_loss_nats for row in rows] == [row.train_loss_nats for row in trained]
    with trainer.average.swapped():
        averaged = evaluate(trainer.model, EVALUATION)
    assert rows[-1].eval_loss_nats == averaged
    assert averaged != trained[-1].eval_loss_nats
    assert evaluate(trainer.model, EVALUATION) == trained[-1].eval_loss_nats


def test_no_update_follows_a_batch_whose_loss_is_not_finite(tiny_config):
    trainer = trainer_of(tiny_config)
    with torch.no_grad():
        trainer.model.final_norm.gain[3] = math.nan
    before = {name: parameter.clone() for name, parameter in trainer.model.named_parameters()}
    nats, _ = trainer.update(*given(trainer), step=0)
    assert math.isnan(float(nats))
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, before[name]) or name == "final_norm.gain"


def test_bfloat16_products_change_the_loss_a_little(tiny_config):
    exact = losses(tiny_config, precision="float32")
    rounded = losses(tiny_config, precision="bfloat16-autocast")
    assert exact == pytest.approx(losses(tiny_config), rel=1e-5)
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=5e-3)


def test_numerics_are_restored():
    before = torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()
    from core.presets.runs import quickstart

    with numerics(dataclasses.replace(quickstart(), precision="tf32", deterministic=True)):
        assert (torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()) == ("high", True)
    assert (torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "float64", "device": "mps"}, "precision is float64, which MPS has not"),
        ({"precision": "tf32", "device": "cpu"}, "precision is tf32, which only CUDA has: use float32 on cpu"),
        ({"compile": True, "device": "cpu"}, "this machine has no C\\+\\+ compiler"),
    ],
)
def test_what_a_device_has_not_is_said(tiny_config, monkeypatch, changes, message):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ValueError, match=message):
        check_numerics(dataclasses.replace(tiny_config, **changes))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler uses what torch itself deprecates
def test_compiled_steps_give_the_losses_of_eager_ones(tiny_config):
    assert losses(tiny_config, compile=True) == pytest.approx(losses(tiny_config), rel=1e-9)
