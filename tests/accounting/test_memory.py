import pytest
import torch

from core.accounting import training_memory_bytes
from core.config import ModelConfig
from core.model import functional
from core.model.transformer import Transformer
from core.optim.adamw import AdamW
from core.presets import preset

CONFIG = ModelConfig(vocab_size=53, context_length=13, d_model=30, num_layers=2, num_heads=3, d_ff=37)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bytes_are_those_of_the_tensors_after_a_step(dtype):
    model = Transformer(CONFIG).to(getattr(torch, dtype))
    optimizer = AdamW(model.parameters())
    ids = torch.zeros(2, 3, dtype=torch.long)
    functional.cross_entropy(model(ids), ids).mean().backward()
    optimizer.step()
    state = [value for held in optimizer.state.values() for value in held.values() if isinstance(value, torch.Tensor)]
    assert training_memory_bytes(CONFIG, dtype) == {
        "parameters": sum(parameter.nbytes for parameter in model.parameters()),
        "gradients": sum(parameter.grad.nbytes for parameter in model.parameters()),
        "optimizer state": sum(tensor.nbytes for tensor in state),
    }


def test_the_textbooks_xl_in_float32():
    weights = 1_635_537_600 * 4
    assert training_memory_bytes(preset("cs336-gpt2-xl").model) == {
        "parameters": weights,
        "gradients": weights,
        "optimizer state": 2 * weights,
    }
