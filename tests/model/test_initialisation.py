import math

import pytest
import torch

from core.config import ModelConfig
from core.model.layers import Embedding, Linear, initialise
from core.model.transformer import Transformer

CONFIG = ModelConfig(vocab_size=53, context_length=13, d_model=30, num_layers=2, num_heads=3, d_ff=37)
DENSITY_AT_3 = math.exp(-4.5) / math.sqrt(2 * math.pi)
TRUNCATED_STD = math.sqrt(1 - 6 * DENSITY_AT_3 / math.erf(3 / math.sqrt(2)))
"""Standard deviation of a standard normal cut off at +-3: 0.9866."""


def initialised(module):
    initialise(module, torch.Generator().manual_seed(11))
    return module.weight.detach().double()


def weights(seed, **changes):
    return Transformer(ModelConfig(**{**vars_of(CONFIG), **changes}), seed).state_dict()


def vars_of(config):
    return {name: getattr(config, name) for name in config.__slots__}


def equal(first, second):
    assert first.keys() == second.keys()
    return [torch.equal(first[name], second[name]) for name in first]


@pytest.mark.parametrize(
    ("module", "std"),
    [(Linear(503, 1009), math.sqrt(2 / (503 + 1009))), (Embedding(1009, 503), 1.0)],
    ids=["linear", "embedding"],
)
def test_weights_are_a_normal_cut_off_at_3_standard_deviations(module, std):
    weight = initialised(module) / std
    n = weight.numel()
    assert 2.9 < weight.abs().max() <= 3 * (1 + 1e-6)
    assert float(weight.mean()) == pytest.approx(0, abs=5 * TRUNCATED_STD / math.sqrt(n))
    assert float(weight.std()) == pytest.approx(TRUNCATED_STD, rel=5 / math.sqrt(2 * n))
    # And it is a normal: the share within one standard deviation, rescaled by what the cut leaves.
    share = math.erf(1 / math.sqrt(2)) / math.erf(3 / math.sqrt(2))
    assert float((weight.abs() < 1).double().mean()) == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / n))


def test_a_model_draws_every_matrix_and_starts_its_gains_at_1():
    state = weights(3)
    for name, weight in state.items():
        if name.endswith("gain"):
            assert weight.tolist() == [1.0] * CONFIG.d_model
        else:
            d_out, d_in = weight.shape
            std = 1.0 if name == "embedding.weight" else math.sqrt(2 / (d_in + d_out))
            assert float(weight.std()) == pytest.approx(std * TRUNCATED_STD, rel=5 / math.sqrt(2 * weight.numel()))
    flat = [tuple(weight.flatten()[:3].tolist()) for name, weight in state.items() if not name.endswith("gain")]
    assert len(set(flat)) == len(flat)


def test_a_tied_table_starts_as_the_head_would():
    std = math.sqrt(2 / (CONFIG.d_model + CONFIG.vocab_size))
    table = weights(3, tie_embeddings=True)["embedding.weight"]
    assert float(table.std()) == pytest.approx(std * TRUNCATED_STD, rel=5 / math.sqrt(2 * table.numel()))


def test_the_seed_decides_the_weights():
    assert all(equal(weights(3), weights(3)))
    different = equal(weights(3), weights(4))
    gains = [name.endswith("gain") for name in weights(3)]
    assert different == gains


def test_weights_neither_read_nor_move_the_global_random_state():
    torch.manual_seed(1)
    first = weights(3)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = weights(3)
    assert all(equal(first, second))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_attention_implementation_does_not_change_the_weights():
    assert all(equal(weights(3), weights(3, attention="written_out")))
