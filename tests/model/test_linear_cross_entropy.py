"""The chunked head and loss: equal to the whole one, and never all logits at once."""

import pytest
import torch
import torch.nn.functional as oracle
from torch.autograd import gradcheck
from torch.testing import assert_close
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from core.model import functional
from core.model.linear_cross_entropy import BLOCK_NUMEL, linear_cross_entropy

BATCH, SEQ, WIDTH, VOCAB = 3, 7, 11, 53
CHUNKS = [None, 1, 5, 7, 21, 101]


def given(dtype=torch.float64, shift=0.0, scale=1.0):
    """Hidden, weight, targets; a shift of all logits comes in through one column that all vectors share."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(BATCH, SEQ, WIDTH, generator=generator, dtype=torch.float64)
    weight = scale * torch.randn(VOCAB, WIDTH, generator=generator, dtype=torch.float64)
    hidden[..., 0], weight[:, 0] = 1.0, shift
    targets = torch.randint(VOCAB, (BATCH, SEQ), generator=generator)
    return hidden.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_(), targets


def whole(hidden, weight, targets, z_loss=0.0):
    """The same from torch's own functions."""
    logits = oracle.linear(hidden, weight).flatten(0, -2)
    nats = oracle.cross_entropy(logits, targets.flatten())
    return nats + z_loss * torch.logsumexp(logits, dim=-1).square().mean(), nats


def values_and_gradients(function, hidden, weight, targets, **options):
    objective, nats = function(hidden, weight, targets, **options)
    return [objective.detach(), nats.detach(), *torch.autograd.grad(3 * objective, (hidden, weight))]


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("z_loss", [0.0, 0.1])
@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (1000.0, 1.0), (-1000.0, 1.0), (1000.0, 100.0)])
def test_in_float64(chunk, z_loss, shift, scale):
    expected = values_and_gradients(whole, *given(shift=shift, scale=scale), z_loss=z_loss)
    actual = values_and_gradients(linear_cross_entropy, *given(shift=shift, scale=scale), chunk=chunk, z_loss=z_loss)
    # Logits near 1000 are themselves rounded by 1e-13, and so are their differences.
    size = 1 if shift == 0 else 1000
    for mine, theirs in zip(actual, expected, strict=True):
        assert_close(mine, theirs, rtol=1e-12 * size, atol=1e-14 * size)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_a_chunk_changes_nothing_but_roundings(chunk):
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-6)):
        once = values_and_gradients(linear_cross_entropy, *given(dtype), z_loss=0.01)
        actual = values_and_gradients(linear_cross_entropy, *given(dtype), chunk=chunk, z_loss=0.01)
        for mine, theirs in zip(actual, once, strict=True):
            assert mine.dtype == dtype
            assert_close(mine, theirs, rtol=tolerance, atol=tolerance * float(theirs.abs().max()))


def test_the_value_is_the_plain_formulas():
    hidden, weight, targets = given()
    expected = functional.cross_entropy(functional.linear(hidden, weight), targets).mean()
    for chunk in (None, 5):
        objective, nats = linear_cross_entropy(hidden, weight, targets, chunk=chunk)
        assert_close(objective, expected, rtol=1e-14, atol=0)
        assert_close(nats, expected.detach(), rtol=1e-14, atol=0)
        assert (nats.requires_grad, objective.requires_grad) == (False, True)


@pytest.mark.parametrize("chunk", [None, 2])
def test_gradients_are_the_differences_of_values(chunk):
    hidden, weight, targets = (tensor[:1].detach() for tensor in given())
    weight = given()[1].detach()[:13].requires_grad_()
    hidden, targets = hidden[:, :3].requires_grad_(), targets[:, :3] % 13
    assert gradcheck(
        lambda *tensors: linear_cross_entropy(*tensors, targets, chunk=chunk, z_loss=0.1)[0], (hidden, weight)
    )


def test_several_blocks_of_one_chunk(monkeypatch):
    once = values_and_gradients(linear_cross_entropy, *given(), z_loss=0.1)
    monkeypatch.setitem(BLOCK_NUMEL, "cpu", 4 * VOCAB + 1)
    for mine, theirs in zip(values_and_gradients(linear_cross_entropy, *given(), z_loss=0.1), once, strict=True):
        assert_close(mine, theirs, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("chunk", [None, 5])
def test_under_autocast_products_are_bfloat16_and_statistics_float32(chunk, monkeypatch):
    hidden, weight, targets = given(torch.float32)
    rounded = [tensor.detach().bfloat16().requires_grad_() for tensor in (hidden, weight)]
    logits = functional.linear(*rounded)
    expected = functional.cross_entropy(logits, targets).mean()
    with torch.autocast("cpu", torch.bfloat16):
        objective, nats = linear_cross_entropy(hidden, weight, targets, chunk=chunk)
    objective.backward()
    expected.backward()
    assert (nats.dtype, hidden.grad.dtype, weight.grad.dtype) == (torch.float32,) * 3
    assert_close(objective, expected, rtol=1e-6, atol=0)
    for mine, theirs in zip((hidden, weight), rounded, strict=True):
        assert_close(mine.grad, theirs.grad.float(), rtol=0.02, atol=0.02 * float(mine.grad.abs().max()))
    # Inside the region a float64 model stays what it is.
    with torch.autocast("cpu", torch.bfloat16):
        double = linear_cross_entropy(*given(), chunk=chunk)[1]
    assert torch.equal(double, linear_cross_entropy(*given(), chunk=chunk)[1])


def test_a_backward_inside_of_autocast_is_the_same():
    def gradients(inside):
        hidden, weight, targets = given(torch.float32)
        with torch.autocast("cpu", torch.bfloat16):
            objective, _ = linear_cross_entropy(hidden, weight, targets, chunk=5)
            if inside:
                objective.backward()
        if not inside:
            objective.backward()
        return hidden.grad, weight.grad

    assert all(torch.equal(*pair) for pair in zip(gradients(True), gradients(False), strict=True))


def test_the_gradient_of_a_weights_second_use_is_added():
    _, weight, targets = given()
    ids = targets.flip(0)
    for chunk in (None, 5):
        objective, _ = linear_cross_entropy(weight[ids], weight, targets, chunk=chunk)
        expected, _ = whole(weight[ids], weight, targets)
        assert_close(
            *(torch.autograd.grad(value, weight)[0] for value in (objective, expected)), rtol=1e-12, atol=1e-15
        )


@pytest.mark.parametrize("frozen", [0, 1])
def test_what_needs_no_gradient_gets_none(frozen):
    tensors = given()
    expected = values_and_gradients(linear_cross_entropy, *tensors)[2 + (1 - frozen)]
    tensors[frozen].requires_grad_(False)
    objective, _ = linear_cross_entropy(*tensors)
    objective.backward()
    assert tensors[frozen].grad is None
    assert_close(3 * tensors[1 - frozen].grad, expected, rtol=1e-14, atol=0)


class Largest(TorchDispatchMode):
    """Counts products and the elements of the largest tensor that a kernel makes."""

    def __init__(self):
        super().__init__()
        self.numel = self.products = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.products += function is torch.ops.aten.mm.default
        sizes = [leaf.numel() for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.numel = max([self.numel, *sizes])
        return result


@pytest.mark.parametrize(
    ("chunk", "rows", "chunks"), [(None, 21, 1), (1, 11, 21), (13, 13, 2), (20, 20, 2), (50, 21, 1)]
)
def test_no_tensor_holds_more_logits_than_a_chunks(chunk, rows, chunks):
    with Largest() as seen:
        linear_cross_entropy(*given(), chunk=chunk, z_loss=0.1)[0].backward()
    assert seen.numel == rows * VOCAB  # (a chunk of one: the head's gradient is larger)
    assert seen.products == 3 * chunks
    with Largest() as seen, torch.no_grad():
        objective, nats = linear_cross_entropy(*given(), chunk=chunk)
    assert seen.products == chunks  # an evaluation forms no gradient
    assert torch.equal(objective, nats)


def test_excluded_tokens():
    hidden, weight, targets = given()
    weight.data[5:, 0] = -torch.inf
    objective, _ = linear_cross_entropy(hidden, weight, targets % 5)
    assert_close(objective, oracle.cross_entropy((hidden @ weight.T).flatten(0, 1), (targets % 5).flatten()))
    assert linear_cross_entropy(hidden, weight, targets)[1] == torch.inf


@pytest.mark.parametrize("wrong", [VOCAB, -1])
def test_a_target_outside_of_the_vocabulary_is_refused(wrong):
    hidden, weight, targets = given()
    targets[1, 2] = wrong
    with pytest.raises((IndexError, RuntimeError)):
        linear_cross_entropy(hidden, weight, targets)


def test_bad_arguments():
    hidden, weight, targets = given()
    with pytest.raises(ValueError, match="chunk is 0: it must be at least 1 token"):
        linear_cross_entropy(hidden, weight, targets, chunk=0)
    with pytest.raises(ValueError, match=r"hidden is \(3, 7, 11\) and targets \(3, 6\): one target a vector"):
        linear_cross_entropy(hidden, weight, targets[:, 1:])
    with pytest.raises(ValueError, match="one target a vector"):
        linear_cross_entropy(hidden[:0], weight, targets[:0])
