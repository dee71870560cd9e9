import math
from decimal import Decimal, getcontext

import pytest
import torch
import torch.nn.functional as oracle
from torch.testing import assert_close

from core.model import functional

BATCH, HEADS, QUERIES, KEYS, D_HEAD, D_VALUE, VOCAB = 2, 3, 5, 7, 11, 13, 17
BFLOAT16_ROUNDING = 2.0**-8
"""Largest relative error of rounding once to bfloat16."""


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def exactly(actual, expected):
    assert_close(actual, expected, rtol=1e-12, atol=1e-14)


def rounded_once(actual, exact):
    """`actual` is bfloat16 and no further from `exact` (float64) than float32 work and one rounding put it."""
    assert actual.dtype == torch.bfloat16
    assert_close(actual.double(), exact, rtol=BFLOAT16_ROUNDING * 1.001, atol=1e-30)


def test_linear_is_the_matrix_product():
    x, weight = normal(BATCH, HEADS, D_HEAD), normal(D_VALUE, D_HEAD, seed=1)
    exactly(functional.linear(x, weight), oracle.linear(x, weight))


def test_embedding_takes_rows():
    ids = torch.tensor([[16, 0, 3], [3, 3, 7]])
    table = normal(VOCAB, D_HEAD)
    assert torch.equal(functional.embedding(ids, table), oracle.embedding(ids, table))


@pytest.mark.parametrize("scale", [0.0, 1e-40, 1e-3, 1.0, 1e3, 1e40])
@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_rms_norm(scale, eps):
    x, gain = scale * normal(BATCH, QUERIES, D_HEAD), normal(D_HEAD, seed=1)
    exactly(functional.rms_norm(x, gain, eps), oracle.rms_norm(x, (D_HEAD,), gain, eps))


def test_rms_norm_gradients():
    ours = [normal(BATCH, D_HEAD).requires_grad_(), normal(D_HEAD, seed=1).requires_grad_()]
    theirs = [tensor.detach().clone().requires_grad_() for tensor in ours]
    up = normal(BATCH, D_HEAD, seed=2)
    functional.rms_norm(*ours, 1e-5).backward(up)
    oracle.rms_norm(theirs[0], (D_HEAD,), theirs[1], 1e-5).backward(up)
    for mine, torchs in zip(ours, theirs, strict=True):
        exactly(mine.grad, torchs.grad)


def test_rms_norm_of_float32_keeps_its_dtype():
    x, gain = normal(BATCH, D_HEAD, dtype=torch.float32), normal(D_HEAD, seed=1, dtype=torch.float32)
    actual = functional.rms_norm(x, gain, 1e-5)
    assert actual.dtype == torch.float32
    assert_close(actual.double(), oracle.rms_norm(x.double(), (D_HEAD,), gain.double(), 1e-5), rtol=1e-6, atol=0)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e15])
def test_rms_norm_of_bfloat16_takes_statistics_in_float32(scale):
    x = (scale * normal(101, 211)).bfloat16()
    gain = normal(211, seed=1, dtype=torch.bfloat16)
    rounded_once(functional.rms_norm(x, gain, 1e-5), oracle.rms_norm(x.double(), (211,), gain.double(), 1e-5))


def test_silu():
    x = torch.cat([normal(BATCH, D_HEAD).flatten() * 5, torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4]).double()])
    exactly(functional.silu(x), oracle.silu(x))


def test_relu2_and_its_gradient():
    ours = torch.cat(
        [normal(BATCH, D_HEAD).flatten() * 5, torch.tensor([-1e200, -1e4, -0.0, 0.0, 1e4, 1e150]).double()]
    )
    ours.requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    up = normal(*ours.shape, seed=1)
    actual, expected = functional.relu2(ours), oracle.relu(theirs) ** 2
    exactly(actual, expected)
    actual.backward(up)
    expected.backward(up)
    exactly(ours.grad, theirs.grad)
    assert (ours.grad[ours <= 0] == 0).all()
    at_the_ends = functional.relu2(torch.tensor([-math.inf, 1e200, math.inf, math.nan]).double())
    assert_close(at_the_ends.tolist(), [0.0, math.inf, math.inf, math.nan], equal_nan=True, rtol=0, atol=0)


def test_swiglu_gates_its_first_argument():
    gate, up = normal(BATCH, D_HEAD), normal(BATCH, D_HEAD, seed=1)
    exactly(functional.swiglu(gate, up), oracle.silu(gate) * up)


@pytest.mark.parametrize("shift", [0.0, 1000.0, -1000.0, 1e9])
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_softmax(shift, scale):
    x = scale * normal(BATCH, QUERIES, KEYS) + shift
    exactly(functional.softmax(x), torch.softmax(x, dim=-1))


@pytest.mark.parametrize("shift", [0.0, 1000.0, -1000.0])
@pytest.mark.parametrize("scale", [0.0, 1.0, 300.0])
def test_the_gradient_of_softmax_needs_none_through_the_shift(shift, scale):
    # scale 0: every entry is the maximum, which would share its gradient out among them.
    ours = scale * normal(BATCH, QUERIES, KEYS) + shift
    ours[0, 0, 3:] = ours[1, 2, ::2] = -math.inf
    ours.requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    up = normal(BATCH, QUERIES, KEYS, seed=1)
    functional.softmax(ours).backward(up)
    torch.softmax(theirs, dim=-1).backward(up)
    assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-14)


def test_softmax_gives_masked_entries_exactly_nothing():
    x = normal(QUERIES, KEYS) + 1000
    x[0, 3:] = x[1, :6] = x[2, ::2] = -math.inf
    actual = functional.softmax(x)
    exactly(actual, torch.softmax(x, dim=-1))
    assert actual[1].tolist() == [0, 0, 0, 0, 0, 0, 1]
    assert (actual[x == -math.inf] == 0).all()


def test_softmax_of_nothing_allowed_is_nan_in_that_row_alone():
    x = torch.tensor([[-math.inf] * 3, [0.0, -math.inf, 0.0]])
    assert_close(functional.softmax(x), torch.tensor([[math.nan] * 3, [0.5, 0.0, 0.5]]), equal_nan=True, rtol=0, atol=0)


def test_softmax_of_bfloat16_works_in_float32():
    x = (7 * normal(101, 211)).bfloat16()
    rounded_once(functional.softmax(x), torch.softmax(x.double(), dim=-1))


def flat_cross_entropy(logits, targets):
    return oracle.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none").view(targets.shape)


@pytest.mark.parametrize("shift", [0.0, 1000.0, -1000.0])
@pytest.mark.parametrize("scale", [1.0, 50.0, 1000.0])
def test_cross_entropy_and_its_gradient(shift, scale):
    targets = torch.randint(VOCAB, (BATCH, QUERIES), generator=torch.Generator().manual_seed(1))
    ours = (scale * normal(BATCH, QUERIES, VOCAB) + shift).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    weights = normal(BATCH, QUERIES, seed=2)
    loss, expected = functional.cross_entropy(ours, targets), flat_cross_entropy(theirs, targets)
    exactly(loss, expected)
    loss.backward(weights)
    expected.backward(weights)
    exactly(ours.grad, theirs.grad)


def test_cross_entropy_with_excluded_tokens():
    logits = normal(3, VOCAB)
    logits[:, 5:] = -math.inf
    targets = torch.tensor([0, 4, 11])
    actual = functional.cross_entropy(logits, targets)
    exactly(actual, oracle.cross_entropy(logits, targets, reduction="none"))
    assert actual[2] == math.inf


def test_cross_entropy_of_one_vector():
    assert float(functional.cross_entropy(torch.zeros(VOCAB), torch.tensor(3))) == pytest.approx(math.log(VOCAB))


def test_cross_entropy_keeps_small_differences_between_large_logits():
    # In float32 1e4 and log(2) cannot be added and taken apart again without losing digits.
    loss = functional.cross_entropy(torch.full((1, 2), 1e4), torch.tensor([0]))
    assert float(loss) == pytest.approx(math.log(2), rel=1e-6)


def test_cross_entropy_of_bfloat16_is_float32():
    logits = (5 * normal(BATCH, QUERIES, VOCAB)).bfloat16()
    targets = torch.randint(VOCAB, (BATCH, QUERIES), generator=torch.Generator().manual_seed(1))
    actual = functional.cross_entropy(logits, targets)
    assert actual.dtype == torch.float32
    assert_close(actual.double(), flat_cross_entropy(logits.double(), targets), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("targets", [[VOCAB, 0], [0, -1]])
def test_cross_entropy_never_reads_another_rows_logit(targets):
    with pytest.raises((IndexError, ValueError, RuntimeError)):
        functional.cross_entropy(normal(2, VOCAB), torch.tensor(targets))


def test_causal_mask():
    assert functional.causal_mask(3, 3).tolist() == [[True, False, False], [True, True, False], [True, True, True]]


def test_causal_mask_with_fewer_queries_than_keys_is_the_full_masks_last_rows():
    assert functional.causal_mask(2, 5).tolist() == [[True, True, True, True, False], [True] * 5]
    assert torch.equal(functional.causal_mask(3, KEYS), functional.causal_mask(KEYS, KEYS)[-3:])
    assert functional.causal_mask(1, KEYS).all()


MASKS = {
    "none": None,
    "causal": functional.causal_mask(QUERIES, KEYS),
    "per batch": torch.rand(BATCH, 1, QUERIES, KEYS, generator=torch.Generator().manual_seed(3)) > 0.4,
}
MASKS["per batch"][..., 2] = True  # every query may look somewhere


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_attention_and_its_gradients(mask, scale):
    ours = [
        scale * normal(BATCH, HEADS, QUERIES, D_HEAD),
        normal(BATCH, HEADS, KEYS, D_HEAD, seed=1),
        normal(BATCH, HEADS, KEYS, D_VALUE, seed=2),
    ]
    theirs = [tensor.clone().requires_grad_() for tensor in ours]
    for tensor in ours:
        tensor.requires_grad_()
    up = normal(BATCH, HEADS, QUERIES, D_VALUE, seed=4)
    actual, expected = functional.attention(*ours, mask), oracle.scaled_dot_product_attention(*theirs, attn_mask=mask)
    exactly(actual, expected)
    actual.backward(up)
    expected.backward(up)
    for mine, torchs in zip(ours, theirs, strict=True):
        assert_close(mine.grad, torchs.grad, rtol=1e-10, atol=1e-12)


def test_attention_without_leading_axes():
    query, key, value = normal(QUERIES, D_HEAD), normal(KEYS, D_HEAD, seed=1), normal(KEYS, D_VALUE, seed=2)
    exactly(functional.attention(query, key, value), torch.softmax(query @ key.T / math.sqrt(D_HEAD), -1) @ value)


def turned(x, positions, theta):
    cos, sin = functional.rotary_angles(positions, x.shape[-1], theta, x.dtype)
    return functional.apply_rotary(x, cos, sin)


def test_rotary_multiplies_interleaved_pairs_as_complex_numbers():
    seq, pairs, theta = 7, 5, 500.0
    x = normal(BATCH, HEADS, seq, 2 * pairs)
    positions = torch.tensor([0, 1, 2, 3, 11, 101, 1009])
    frequency = torch.tensor([theta ** (-2 * pair / (2 * pairs)) for pair in range(pairs)], dtype=torch.float64)
    factor = torch.polar(torch.ones(seq, pairs, dtype=torch.float64), positions[:, None] * frequency)
    product = torch.view_as_complex(x.unflatten(-1, (pairs, 2))) * factor
    exactly(turned(x, positions, theta), torch.view_as_real(product).flatten(-2))


def test_rotary_leaves_position_0_as_it_is():
    x = normal(HEADS, 1, 10)
    assert torch.equal(turned(x, torch.tensor([0]), 500.0), x)


@pytest.mark.parametrize("distance", [0, 1, 13])
def test_rotary_products_depend_on_the_difference_of_positions_alone(distance):
    shifts = torch.tensor([0, 1, 7, 1000, 65_536])
    query, key = normal(10).expand(5, 10), normal(10, seed=1).expand(5, 10)
    products = (turned(query, shifts + distance, 500.0) * turned(key, shifts, 500.0)).sum(-1)
    assert_close(products, products[:1].expand(5), rtol=0, atol=1e-9)
    unmoved = float(query[0] @ key[0])
    assert (abs(float(products[0]) - unmoved) < 1e-12) == (distance == 0)


@pytest.mark.parametrize(("theta", "second"), [(100.0, 0.1), (10_000.0, 0.01), (1e6, 0.001)])
def test_rotary_frequencies(theta, second):
    cos, sin = functional.rotary_angles(torch.tensor([3]), 4, theta, torch.float64)
    exactly(cos, torch.tensor([[math.cos(3.0), math.cos(3 * second)]], dtype=torch.float64))
    exactly(sin, torch.tensor([[math.sin(3.0), math.sin(3 * second)]], dtype=torch.float64))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-7), (torch.bfloat16, 4e-3)])
def test_rotary_angles_of_far_positions_keep_their_phase(dtype, tolerance):
    # 50 digits of arithmetic; angles formed in float32 would be off by some hundredths here.
    getcontext().prec = 50
    two_pi = 2 * Decimal("3.14159265358979323846264338327950288419716939937511")
    position, d_head, theta = 1_000_003, 14, 10_007
    phases = [
        float((position * Decimal(theta) ** (Decimal(-2 * pair) / d_head)) % two_pi) for pair in range(d_head // 2)
    ]
    cos, sin = functional.rotary_angles(torch.tensor([position]), d_head, theta, dtype)
    assert (cos.dtype, sin.dtype) == (dtype, dtype)
    assert cos[0].tolist() == pytest.approx([math.cos(phase) for phase in phases], abs=tolerance)
    assert sin[0].tolist() == pytest.approx([math.sin(phase) for phase in phases], abs=tolerance)


def test_rotary_keeps_bfloat16():
    assert turned(normal(HEADS, 3, 10, dtype=torch.bfloat16), torch.arange(3), 500.0).dtype == torch.bfloat16
