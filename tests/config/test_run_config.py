"""What a run may be, and how each mistake in it is said."""

import dataclasses
import math

import pytest

from core.config import DataConfig, ModelConfig, OptimizerConfig, RunConfig, ScheduleConfig

MODEL = ModelConfig(vocab_size=53, context_length=13, d_model=30, num_layers=2, num_heads=3, d_ff=37)
OPTIMIZER = OptimizerConfig()
SCHEDULE = ScheduleConfig()
DATA = DataConfig(dataset="stories")
RUN = RunConfig(name="a", model=MODEL, data=DATA, batch_size=7, num_steps=101)

SIZES = {
    DATA: ["eval_tokens"],
    RUN: ["batch_size", "num_steps", "eval_every", "checkpoint_every", "keep_checkpoints"],
}
COUNTS = {SCHEDULE: ["warmup_steps", "decay_steps"], RUN: ["seed"]}
"""May be 0, unlike the sizes."""

INVALID = [
    *((config, name, value) for config, names in SIZES.items() for name in names for value in (0, -3)),
    *((config, name, -3) for config, names in COUNTS.items() for name in names),
    *(
        (config, name, value)
        for config, names in (*SIZES.items(), *COUNTS.items())
        for name in names
        for value in (2**63, 2.0, "7", True, None)
    ),
    *(
        (OPTIMIZER, name, value)
        for name in ("lr", "eps", "max_grad_norm")
        for value in (0.0, -0.5, math.nan, math.inf, "fast", True, None)
    ),
    *((OPTIMIZER, "weight_decay", value) for value in (-0.5, math.nan, math.inf, "fast", True, None)),
    *((OPTIMIZER, "betas", betas) for betas in [(1.0, 0.5), (0.5, 1.5), (-0.1, 0.5), (0.5,), (0.5, 0.5, 0.5), ()]),
    *((OPTIMIZER, "betas", betas) for betas in [(0.5, math.nan), (0.5, "0.5"), (0.5, True), 0.5, "0.5", None]),
    *((SCHEDULE, "kind", value) for value in ("step", "", 3, None)),
    *((SCHEDULE, "final_lr", value) for value in (-3.0, math.nan, math.inf, "low", True, None)),
    *((DATA, "dataset", value) for value in ("a/b", "..", ".", "a\\b", "/tmp/a", 3, None)),
    *((RUN, "name", value) for value in ("", "a/b", ".a", 3, None)),
    *((RUN, "precision", value) for value in ("float16", "bfloat16", "", None)),
    *((RUN, name, value) for name in ("micro_batch_size", "loss_chunk") for value in (0, -3, 2.0, "7", True)),
    *((RUN, name, value) for name in ("compile", "deterministic", "activation_checkpointing") for value in (1, None)),
    *((RUN, "micro_batch_size", value) for value in (2, 14)),
    *((RUN, "z_loss", value) for value in (-0.5, math.nan, "low", None)),
    *((RUN, "ema_decay", value) for value in (-0.5, 1.0, math.inf, "slow")),
    *((OPTIMIZER, "kind", value) for value in ("sgd", "", None)),
    *((OPTIMIZER, "decayed", value) for value in ("none", "", None)),
    *((OPTIMIZER, "muon_lr", value) for value in (0.0, -0.5, None)),
    *((OPTIMIZER, "muon_momentum", value) for value in (-0.5, 1.0, None)),
    *((RUN, "device", value) for value in (0, None)),
    *((RUN, part, None) for part in ("model", "data", "optimizer", "schedule")),
    (RUN, "model", DATA),
    (RUN, "optimizer", {"lr": 1.0}),
]


@pytest.mark.parametrize(
    ("config", "field", "value"), INVALID, ids=[f"{type(c).__name__}.{f}={v}" for c, f, v in INVALID]
)
def test_an_invalid_field_is_named_with_its_value(config, field, value):
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the message is compared below)
        dataclasses.replace(config, **{field: value})
    assert field in str(error.value)
    assert (repr(value) if isinstance(value, str) else str(value)) in str(error.value)


def test_an_empty_data_set_name_is_said():
    with pytest.raises(ValueError, match="dataset is '': it must be a plain name"):
        DataConfig(dataset="")


@pytest.mark.parametrize(("config", "name"), [(c, n) for c, names in SIZES.items() for n in names] + [(RUN, "seed")])
def test_the_largest_size(config, name):
    assert getattr(dataclasses.replace(config, **{name: 2**63 - 1}), name) == 2**63 - 1


def test_warmup_and_decay_must_fit_into_the_run():
    schedule = ScheduleConfig(kind="wsd", warmup_steps=60, decay_steps=41)
    assert dataclasses.replace(RUN, schedule=schedule).schedule.warmup_steps == 60
    with pytest.raises(ValueError, match=r"schedule.warmup_steps 60 \+ schedule.decay_steps 41 exceed num_steps 100"):
        dataclasses.replace(RUN, schedule=schedule, num_steps=100)


def test_the_constant_schedule_has_no_final_rate():
    assert ScheduleConfig(kind="constant").final_lr == 0
    with pytest.raises(ValueError, match=r"schedule.final_lr is 0.25: the constant schedule ends where it was"):
        dataclasses.replace(RUN, schedule=ScheduleConfig(kind="constant", final_lr=0.25))


def test_the_final_rate_must_not_exceed_the_peak():
    with pytest.raises(ValueError, match=r"schedule.final_lr 0.5 exceeds optimizer.lr 0.25"):
        dataclasses.replace(RUN, schedule=ScheduleConfig(final_lr=0.5), optimizer=OptimizerConfig(lr=0.25))


@pytest.mark.parametrize("config", [OPTIMIZER, SCHEDULE, DATA, RUN], ids=lambda config: type(config).__name__)
def test_a_configuration_is_frozen(config):
    for field in dataclasses.fields(config):
        before = getattr(config, field.name)
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, field.name, before)
    with pytest.raises((AttributeError, TypeError)):
        config.learning_rate = 1
    with pytest.raises(TypeError):
        type(config)(53)


def test_the_tokens_of_a_step():
    assert RUN.batch_tokens == 7 * 13
