"""What Muon costs: equal integers with its code."""

import pytest
import torch
from grid import SIZES
from torch.utils.flop_counter import FlopCounterMode

from core.accounting import account
from core.config import ExpertsConfig, ModelConfig, OptimizerConfig
from core.model.transformer import Transformer
from core.optim.groups import build_optimizers

MODEL = ModelConfig(num_heads=6, num_kv_heads=2, **SIZES)


def updated(model):
    """The model's optimizers, one step done on made-up gradients."""
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizers = build_optimizers(model, OptimizerConfig(kind="muon"))
    for optimizer in optimizers:
        optimizer.step()
    return optimizers


@pytest.mark.parametrize("feed_forward", ["swiglu", "silu"])
def test_newton_schulz_flop_are_those_torch_counts(feed_forward):
    config = ModelConfig(num_heads=6, num_kv_heads=2, feed_forward=feed_forward, **SIZES)
    costs = account(config, optimizer="muon")
    with FlopCounterMode(display=False) as counted:
        updated(Transformer(config))
    assert costs.total("forward_flop") - costs.forward_flop == counted.get_total_flops() > 0
    assert costs.training_step_flop == account(config).training_step_flop


def test_state_is_one_number_for_a_blocks_matrix_and_two_for_the_rest():
    costs = account(MODEL, optimizer="muon")
    matrices = 3 * (29 * 14 * (2 * 6 + 2 * 2) + 3 * 29 * 37)
    assert costs.symbols["M"] == matrices
    assert costs.optimizer_bytes == 4 * (2 * costs.parameters - matrices)
    tensors = [v for each in updated(Transformer(MODEL)) for s in each.state.values() for v in s.values()]
    assert costs.optimizer_bytes == sum(tensor.nbytes for tensor in tensors if isinstance(tensor, torch.Tensor))


def test_experts_are_matrices_each_of_its_own():
    experts = ExpertsConfig(num_experts=7, experts_per_token=2, d_ff=11, num_shared=1, num_dense_layers=1)
    costs = account(ModelConfig(num_heads=6, experts=experts, **SIZES), optimizer="muon")
    attention, dense, expert = 4 * 29 * 14 * 6, 3 * 29 * 37, 3 * 29 * 11
    assert costs.symbols["M"] == 3 * attention + dense + 2 * (7 + 1) * expert
