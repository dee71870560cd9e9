import dataclasses

import pytest

from core.accounting import account
from core.accounting.growth import AXES, QUANTITIES, exponent, growth, quantity, scaled
from core.accounting.memory import walk
from core.config import ExpertsConfig, ModelConfig
from core.presets import preset

MODEL = ModelConfig(
    vocab_size=53, context_length=13, d_model=30, num_layers=2, num_heads=6, num_kv_heads=3, head_dim=14, d_ff=37
)
EXPERTS = ExpertsConfig(num_experts=7, experts_per_token=2, d_ff=11)


def parameters(vocab=53, width=30, layers=2, heads=6, kv_heads=3, d_head=14, d_ff=37):
    block = width * d_head * (2 * heads + 2 * kv_heads) + 3 * width * d_ff + 2 * width
    return 2 * vocab * width + layers * block + width


SCALED = {
    "num_layers": {"num_layers": 6},
    "d_model": {"d_model": 90, "num_heads": 18, "num_kv_heads": 9, "d_ff": 111},
    "seq": {"context_length": 39},
    "batch_size": {},
    "vocab_size": {"vocab_size": 159},
}


@pytest.mark.parametrize("axis", AXES)
def test_scaled_sizes(axis):
    costs = scaled(MODEL, axis, 3, batch_size=5)
    assert costs.model == dataclasses.replace(MODEL, **SCALED[axis])
    assert (costs.batch_size, costs.seq) == (15 if axis == "batch_size" else 5, 39 if axis == "seq" else 13)
    assert costs.precision == "float32"


def test_scaled_parameters_by_hand():
    expected = {
        "num_layers": parameters(layers=6),
        "d_model": parameters(width=90, heads=18, kv_heads=9, d_ff=111),
        "seq": parameters(),
        "batch_size": parameters(),
        "vocab_size": parameters(vocab=159),
    }
    assert {axis: scaled(MODEL, axis, 3).parameters for axis in AXES} == expected


def test_a_wider_model_keeps_its_heads_width_and_its_experts():
    plain = ModelConfig(vocab_size=53, context_length=13, d_model=30, num_layers=2, num_heads=3, d_ff=37)
    wide = scaled(dataclasses.replace(plain, experts=EXPERTS), "d_model", 5).model
    assert (wide.d_head, wide.num_heads, wide.kv_heads) == (10, 15, 15)
    assert wide.experts == dataclasses.replace(EXPERTS, d_ff=55)


def test_a_given_sequence_is_what_is_multiplied():
    short, long = scaled(MODEL, "seq", 2, seq=5), scaled(MODEL, "seq", 2, seq=11)
    assert (short.seq, short.model.context_length) == (10, 13)
    assert (long.seq, long.model.context_length) == (22, 22)
    with pytest.raises(ValueError, match="seq is 0"):
        scaled(MODEL, "seq", 2, seq=0)


def test_unknown_axis():
    message = "axis is 'num_heads': it must be one of num_layers, d_model, seq, batch_size, vocab_size"
    with pytest.raises(ValueError, match=message):
        scaled(MODEL, "num_heads", 2)
    with pytest.raises(ValueError, match="axis is 'depth'"):
        growth(MODEL, "depth")


def test_quantities():
    costs = account(MODEL, batch_size=3)
    tokens, pairs = 3 * 13, 3 * 6 * 13 * 13
    products = parameters() - 53 * 30 - 5 * 30  # all but the table and the five norms' gains
    assert quantity(costs, "parameters") == parameters()
    assert quantity(costs, "training_step_flop") == 3 * (2 * tokens * products + 2 * 4 * 14 * pairs)
    assert quantity(costs, "saved_bytes") == costs.total("saved_bytes")
    assert quantity(costs, "peak_bytes") == max(moment.total for moment in walk(costs))


@pytest.mark.parametrize("axis", AXES)
def test_rows_of_growth(axis):
    rows = growth(MODEL, axis, (1, 3, 7), batch_size=5)
    assert [(row["axis"], row["factor"], row["quantity"]) for row in rows] == [
        (axis, factor, name) for factor in (1, 3, 7) for name in QUANTITIES
    ]
    sizes = {"num_layers": "layers", "vocab_size": "vocab"}
    if axis in sizes:
        first = {"layers": 2, "vocab": 53}[sizes[axis]]
        expected = [parameters(**{sizes[axis]: factor * first}) for factor in (1, 3, 7)]
        assert [row["value"] for row in rows if row["quantity"] == "parameters"] == expected


def test_a_larger_batch_costs_as_many_times_more():
    for model in (MODEL, dataclasses.replace(MODEL, experts=EXPERTS), preset("deepseek-v3").model):
        assert exponent(model, "batch_size", "training_step_flop", seq=11) == 1.0
        assert exponent(model, "batch_size", "parameters", seq=11) == 0.0
    # Of saved bytes all but the rotary angles, four bytes a position and head dimension, and the head's gradient.
    once, twice = (account(MODEL, batch_size=size).saved_bytes for size in (1, 2))
    assert 2 * once - twice == 4 * 13 * 14 + 4 * 53 * 30


def test_powers_in_the_limit():
    written_out, fused = (dataclasses.replace(MODEL, attention=how) for how in ("written_out", "sdpa"))
    powers = {
        "scores saved": (written_out, "seq", "saved_bytes", 2),
        "scores in the peak": (written_out, "seq", "peak_bytes", 2),
        "scores computed": (fused, "seq", "training_step_flop", 2),
        "no scores saved": (fused, "seq", "saved_bytes", 1),
        "no scores in the peak": (fused, "seq", "peak_bytes", 1),
        "no weights for tokens": (fused, "seq", "parameters", 0),
    }
    for what, (model, axis, name, power) in powers.items():
        assert exponent(model, axis, name, seq=2**24) == pytest.approx(power, abs=1e-3), what
    deep, rich = dataclasses.replace(MODEL, num_layers=2**20), dataclasses.replace(MODEL, vocab_size=2**30)
    wide = dataclasses.replace(MODEL, d_model=3 * 2**20, num_heads=2**19, num_kv_heads=2**19, d_ff=2**21)
    for name in QUANTITIES:
        assert exponent(deep, "num_layers", name) == pytest.approx(1, abs=1e-3), name
        assert exponent(rich, "vocab_size", name) == pytest.approx(1, abs=1e-3), name
    for name, power in {"parameters": 2, "training_step_flop": 2, "saved_bytes": 1, "peak_bytes": 2}.items():
        assert exponent(wide, "d_model", name) == pytest.approx(power, abs=1e-3), name


def test_power_between_the_limits():
    # FLOP of a sequence are linear terms and quadratic ones; where they are equal, doubling gives a factor of three.
    products = parameters() - 53 * 30 - 5 * 30
    seq = 2 * products // (2 * 4 * 6 * 14)
    linear, quadratic = 2 * seq * products, 2 * 4 * 6 * 14 * seq * seq
    assert linear == pytest.approx(quadratic, rel=0.02)
    assert 2 ** exponent(MODEL, "seq", "training_step_flop", seq=seq) == pytest.approx(
        (2 * linear + 4 * quadratic) / (linear + quadratic), rel=1e-12
    )
