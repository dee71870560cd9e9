import math

import pytest
import torch
from torch.testing import assert_close

from core.optim.clipping import clip_grad_norm

SHAPES = [(2, 3), (5,), (), (7, 11)]


def with_gradients(scale=1.0):
    generator = torch.Generator().manual_seed(3)
    tensors = [torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for shape in SHAPES]
    for tensor in tensors:
        tensor.grad = scale * torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
    tensors[1].grad = None
    return tensors


def flat(tensors):
    return torch.cat([tensor.grad.flatten() for tensor in tensors if tensor.grad is not None])


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1.0, 1e9])
@pytest.mark.parametrize("max_norm", [1e-4, 1.0, 7.0, 1e6])
def test_equals_torchs(scale, max_norm):
    ours, theirs = with_gradients(scale), with_gradients(scale)
    norm = clip_grad_norm(ours, max_norm)
    assert_close(norm, torch.nn.utils.clip_grad_norm_(theirs, max_norm), rtol=1e-13, atol=0)
    assert_close(flat(ours), flat(theirs), rtol=1e-13, atol=0)
    assert ours[1].grad is None


def test_above_the_threshold_the_norm_becomes_the_threshold():
    tensors = with_gradients(100.0)
    before = flat(tensors)
    norm = clip_grad_norm(iter(tensors), 3.0)
    assert float(norm) == pytest.approx(float(before.norm()), rel=1e-13)
    assert float(flat(tensors).norm()) == pytest.approx(3.0, rel=1e-8)
    assert_close(flat(tensors) / 3, before / before.norm(), rtol=1e-8, atol=0)


def test_below_the_threshold_nothing_changes_bit_for_bit():
    tensors = with_gradients()
    before = flat(tensors)
    clip_grad_norm(tensors, float(before.norm()) + 0.001)
    assert torch.equal(flat(tensors), before)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_norm_that_is_not_finite_is_returned_as_torch_does(bad):
    ours, theirs = with_gradients(), with_gradients()
    for tensors in (ours, theirs):
        tensors[3].grad[2, 5] = bad
    norm = clip_grad_norm(ours, 1.0)
    assert_close(norm, torch.nn.utils.clip_grad_norm_(theirs, 1.0), equal_nan=True, rtol=0, atol=0)
    assert_close(norm, torch.tensor(bad, dtype=torch.float64), equal_nan=True, rtol=0, atol=0)
    assert_close(flat(ours), flat(theirs), equal_nan=True, rtol=0, atol=0)


def test_without_any_gradient_the_norm_is_0():
    assert float(clip_grad_norm([torch.nn.Parameter(torch.ones(3))], 1.0)) == 0.0
    assert float(clip_grad_norm([], 1.0)) == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bits_are_those_of_one_gradient_after_the_other(dtype):
    """What runs were trained with before norms and factors were taken of all gradients in one call."""
    generator = torch.Generator().manual_seed(5)
    gradients = [torch.randn(shape, generator=generator, dtype=dtype) for shape in [(17, 13), (5,), (), (1009,)]]
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))
    factor = (0.7 / (norm + 1e-6)).clamp(max=1.0)
    parameters = [torch.nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    assert torch.equal(clip_grad_norm(parameters, 0.7), norm)
    pairs = zip(parameters, gradients, strict=True)
    assert [torch.equal(parameter.grad, gradient * factor) for parameter, gradient in pairs] == [True] * 4
