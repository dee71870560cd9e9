"""What no account can be made of is said with its value; integers stay exact at any size."""

import pytest

from core.accounting import account, peak
from core.config import ModelConfig

MODEL = ModelConfig(vocab_size=53, context_length=17, d_model=30, num_layers=2, num_heads=3, d_ff=37)


@pytest.mark.parametrize("name", ["batch_size", "seq", "keys"])
@pytest.mark.parametrize("value", [0, -3, 2.0, True, "7", 2**63])
def test_sizes(name, value):
    with pytest.raises(ValueError, match=rf"{name} is {value!r}: it must be a whole number from 1 to 2\^63 - 1"):
        account(MODEL, **{name: value})


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"precision": "bfloat"}, "precision is 'bfloat': .*did you mean bfloat16"),
        ({"precision": "int4"}, "precision is 'int4': there is float32, tf32"),
        ({"optimizer": "adam"}, "optimizer is 'adam': .*did you mean adamw"),
        ({"optimizer": 3}, "optimizer is 3"),
        ({"checkpointing": "yes"}, "checkpointing is 'yes': it must be True or False"),
        ({"seq": 5, "keys": 4}, "keys is 4: the last of 5 tokens sees at least all of these"),
    ],
)
def test_choices(choice, message):
    with pytest.raises(ValueError, match=message):
        account(MODEL, **choice)


def test_integers_stay_exact_beyond_64_bits():
    large = 2**61 + 1
    model = ModelConfig(vocab_size=large, context_length=17, d_model=2 * large, num_layers=5, num_heads=1, d_ff=large)
    d, vocab, ff = model.d_model, large, large
    block = 4 * d * d + 3 * d * ff + 2 * d
    costs = account(model, batch_size=2**40, seq=13)
    assert costs.parameters == 2 * vocab * d + 5 * block + d
    tokens = 2**40 * 13
    flop = 2 * tokens * (5 * (4 * d * d + 3 * d * ff) + vocab * d) + 5 * 4 * 2**40 * d * 13 * 13
    assert costs.forward_flop == flop
    assert costs.training_step_flop == 3 * flop
    assert peak(costs).total > 16 * costs.parameters
