"""The twins that move fewer bytes: equal to the formulas of `functional`, in value and gradient."""

import pytest
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

from core.model import eager, functional

BATCH, SEQ, HEADS, WIDTH, THETA = 2, 5, 3, 14, 500.0


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def table(dtype):
    return torch.stack(functional.rotary_angles(torch.arange(SEQ), WIDTH, THETA, dtype), dim=-1)


def plain_rotary(x, angles):
    return functional.apply_rotary(x, *angles[:, None].unbind(-1))


TWINS = {
    "rms_norm": (
        lambda x, gain: eager.rms_norm(x, gain, 0.03),
        lambda x, gain: functional.rms_norm(x, gain, 0.03),
        [(BATCH, SEQ, WIDTH), (WIDTH,)],
    ),
    "swiglu": (eager.swiglu, functional.swiglu, [(BATCH, SEQ, WIDTH)] * 2),
    "rotary": (
        lambda x: eager.apply_rotary(x, table(torch.float32 if x.dtype == torch.bfloat16 else x.dtype)),
        lambda x: plain_rotary(x, table(torch.float32 if x.dtype == torch.bfloat16 else x.dtype)),
        [(BATCH, SEQ, HEADS, WIDTH)],
    ),
}
twins = pytest.mark.parametrize(("twin", "plain", "shapes"), TWINS.values(), ids=TWINS)


def inputs(shapes, dtype=torch.float64, scale=1.0):
    return [(scale * normal(*shape, seed=seed)).to(dtype).requires_grad_() for seed, shape in enumerate(shapes)]


@twins
def test_gradients_are_the_differences_of_values(twin, plain, shapes):
    assert gradcheck(twin, inputs(shapes), eps=1e-6, atol=1e-8, rtol=1e-6)


@twins
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize(
    ("dtype", "rtol", "atol"),
    [(torch.float64, 1e-12, 1e-14), (torch.float32, 2e-5, 2e-6), (torch.bfloat16, 0.05, 0.02)],
)
def test_values_and_gradients_are_the_formulas(twin, plain, shapes, scale, dtype, rtol, atol):
    ours, theirs = (inputs(shapes, dtype, scale) for _ in range(2))
    result, expected = twin(*ours), plain(*theirs)
    up = normal(*result.shape, seed=7, dtype=dtype)
    result.backward(up)
    expected.backward(up)
    assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
    assert_close(result, expected, rtol=rtol, atol=atol * scale)
    for mine, their in zip(ours, theirs, strict=True):
        assert mine.grad.dtype == dtype
        assert_close(mine.grad, their.grad, rtol=rtol, atol=atol * max(scale, float(their.grad.abs().max())))


@twins
def test_inputs_and_the_incoming_gradient_stay_as_they_are(twin, plain, shapes):
    given = inputs(shapes)
    before = [tensor.detach().clone() for tensor in given]
    result = twin(*given)
    up = normal(*result.shape, seed=7)
    kept = up.clone()
    result.backward(up, retain_graph=True)
    first = [tensor.grad.clone() for tensor in given]
    result.backward(up)  # what was saved is not overwritten either
    assert torch.equal(up, kept)
    for tensor, old, once in zip(given, before, first, strict=True):
        assert torch.equal(tensor, old)
        assert torch.equal(tensor.grad, 2 * once)


@twins
def test_strided_inputs(twin, plain, shapes):
    given = [tensor.detach() for tensor in inputs(shapes)]
    strided = [torch.stack([tensor, -tensor], dim=-1)[..., 0] for tensor in given]
    assert_close(twin(*strided), plain(*given), rtol=1e-12, atol=1e-14)


@twins
def test_without_a_graph_nothing_is_kept(twin, plain, shapes):
    with torch.no_grad():
        result = twin(*inputs(shapes))
    assert not result.requires_grad
    assert_close(result, plain(*inputs(shapes)).detach(), rtol=1e-12, atol=1e-14)


@twins
def test_exported_they_are_the_formulas(twin, plain, shapes):
    class Module(torch.nn.Module):
        def forward(self, *arguments):
            return twin(*arguments)

    given = [tensor.detach() for tensor in inputs(shapes, torch.float32)]
    exported = torch.export.export(Module(), tuple(given)).module()
    assert_close(exported(*given), plain(*given))


@pytest.mark.parametrize("scale", [1e-40, 1e40])
def test_extreme_vectors_are_normed(scale):
    x, gain = scale * normal(BATCH, WIDTH), normal(WIDTH, seed=1)
    assert_close(eager.rms_norm(x, gain, 1e-5), functional.rms_norm(x, gain, 1e-5), rtol=1e-12, atol=0)


def test_rotary_of_bfloat16_with_angles_of_float32_is_rounded_once():
    x, angles = normal(BATCH, SEQ, HEADS, WIDTH, dtype=torch.bfloat16), table(torch.float32)
    expected = plain_rotary(x.float(), angles).bfloat16()
    assert torch.equal(eager.apply_rotary(x, angles), expected)
