import pytest
import torch
from torch.optim import _muon as torchs_muon
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from core.optim import muon
from core.optim.muon import ITERATIONS, NEWTON_SCHULZ, Muon, orthogonalise

SHAPES = [(13, 31), (31, 13), (17, 17)]
OPTIONS = {"lr": 0.03, "momentum": 0.9, "weight_decay": 0.2}


def matrices(*shape, seed=3, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def spectrum(size, smallest):
    """A matrix with a known decomposition: U, singular values from 1 down to `smallest`, V."""
    u, v = (torch.linalg.qr(matrices(size, size, seed=seed)).Q for seed in (5, 7))
    values = torch.logspace(0, torch.tensor(smallest).log10().item(), size, dtype=torch.float64)
    return u, values, v


def polynomial(values):
    a, b, c = NEWTON_SCHULZ
    for _ in range(ITERATIONS):
        values = a * values + b * values**3 + c * values**5
    return values


@pytest.mark.parametrize("shape", SHAPES)
def test_the_iteration_is_its_polynomial_of_the_singular_values(shape):
    matrix = matrices(2, *shape)
    u, values, vh = torch.linalg.svd(matrix, full_matrices=False)
    expected = u @ torch.diag_embed(polynomial(values / values.norm(dim=-1, keepdim=True))) @ vh
    assert_close(orthogonalise(matrix), expected, rtol=1e-10, atol=1e-11)


def test_singular_values_end_in_the_stated_band():
    u, values, v = spectrum(97, 0.01)
    assert float(values[-1] / values.norm()) > 0.002
    ended = torch.linalg.svdvals(orthogonalise((u * values @ v.T)[None])[0])
    assert 0.68 < float(ended.min()) < 0.69
    assert 1.1 < float(ended.max()) < 1.21


def test_the_whole_band_on_a_fine_grid():
    ended = polynomial(torch.logspace(-2.6989, 0, 100_001, dtype=torch.float64))
    assert (float(ended.min()), float(ended.max())) == pytest.approx((0.68183, 1.20237), abs=1e-5)


def test_it_points_where_the_exact_orthogonal_factor_does():
    u, values, v = spectrum(97, 0.01)
    ended, exact = orthogonalise((u * values @ v.T)[None])[0], u @ v.T
    cosine = (ended * exact).sum() / ended.norm() / exact.norm()
    assert float(cosine) > 0.98
    assert_close(u.T @ ended @ v, torch.diag(polynomial(values / values.norm())), rtol=0, atol=1e-11)


@pytest.mark.parametrize("shape", SHAPES)
def test_transposing_before_is_transposing_after(shape):
    matrix = matrices(2, *shape)
    assert_close(orthogonalise(matrix.mT), orthogonalise(matrix).mT, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_gradients_scale_does_not_matter(scale):
    matrix = matrices(2, 13, 31)
    assert_close(orthogonalise(scale * matrix), orthogonalise(matrix), rtol=1e-11, atol=1e-12)


def test_float32_is_near_float64():
    matrix = matrices(2, 13, 31)
    assert_close(orthogonalise(matrix.float()).double(), orthogonalise(matrix), rtol=0, atol=2e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_equals_torchs_iteration(shape):
    matrix = matrices(*shape, dtype=torch.bfloat16)
    theirs = torchs_muon._zeropower_via_newtonschulz(matrix, NEWTON_SCHULZ, ITERATIONS, 1e-7)
    assert_close(orthogonalise(matrix[None])[0], theirs, rtol=0, atol=0.03)


def test_zero_stays_zero_and_only_decay_moves_the_weight():
    assert torch.equal(orthogonalise(torch.zeros(1, 3, 5)), torch.zeros(1, 3, 5))
    weight = torch.nn.Parameter(torch.ones(3, 5, dtype=torch.float64))
    weight.grad = torch.zeros_like(weight)
    Muon([weight], **OPTIONS).step()
    assert_close(weight, torch.full_like(weight, 1 - 0.03 * 0.2), rtol=1e-15, atol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_product_count(shape):
    """What accounting states: with m the smaller side and n the larger, 5 (4 m^2 n + 2 m^3)."""
    small, large = sorted(shape)
    with FlopCounterMode(display=False) as counter:
        orthogonalise(matrices(1, *shape))
    assert counter.get_total_flops() == 5 * (4 * small**2 * large + 2 * small**3)


def parameters():
    return [torch.nn.Parameter(matrices(*shape, seed=seed)) for seed, shape in enumerate([*SHAPES, *SHAPES])]


def train(tensors, optimizer, steps=range(7)):
    """The second parameter has a gradient at every third step only."""
    for step in steps:
        for number, tensor in enumerate(tensors):
            gradient = 10.0 ** (step - 3) * matrices(*tensor.shape, seed=100 * step + number)
            tensor.grad = None if number == 1 and step % 3 else gradient
        optimizer.step()


def test_seven_steps_equal_torchs_around_the_same_iteration(monkeypatch):
    """torch's keeps a mean where we keep a sum, which the normalisation cancels; its iteration is bfloat16 alone."""
    monkeypatch.setattr(torchs_muon, "_zeropower_via_newtonschulz", lambda update, *_: orthogonalise(update[None])[0])
    ours, theirs = parameters(), parameters()
    train(ours, Muon(ours, **OPTIONS))
    train(theirs, torch.optim.Muon(theirs, nesterov=True, adjust_lr_fn="original", **OPTIONS))
    for one, other in zip(ours, theirs, strict=True):
        assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_batches_change_nothing(monkeypatch):
    one_by_one, together = parameters(), parameters()
    train(one_by_one, Muon(one_by_one, **OPTIONS))
    monkeypatch.setattr(muon, "_most_elements", lambda device: 10_000)
    train(together, Muon(together, **OPTIONS))
    assert [len(batch) for batch in muon._batches(together)] == [2, 2, 2]
    for one, other in zip(one_by_one, together, strict=True):
        assert_close(one, other, rtol=1e-11, atol=1e-12)


def test_the_first_step_by_hand():
    """Of a tall matrix with orthogonal columns of length 3: one singular value, at 1/sqrt(2) of the norm."""
    weight = torch.nn.Parameter(torch.zeros(8, 2, dtype=torch.float64))
    weight.grad = torch.zeros_like(weight)
    weight.grad[1, 0], weight.grad[5, 1] = 3.0, -3.0
    Muon([weight], lr=0.5).step()
    moved = 0.5 * 2 * float(polynomial(torch.tensor(0.5, dtype=torch.float64).sqrt()))
    expected = torch.zeros_like(weight)
    expected[1, 0], expected[5, 1] = -moved, moved
    assert_close(weight.detach(), expected.detach(), rtol=1e-12, atol=1e-14)


def test_a_saved_state_goes_on_bit_for_bit():
    whole, parted = parameters(), parameters()
    train(whole, Muon(whole, **OPTIONS))
    first_half = Muon(parted, **OPTIONS)
    train(parted, first_half, range(3))
    assert {key for state in first_half.state.values() for key in state} == {"momentum"}
    second_half = Muon(parted, **OPTIONS)
    second_half.load_state_dict(first_half.state_dict())
    train(parted, second_half, range(3, 7))
    assert [torch.equal(one, other) for one, other in zip(whole, parted, strict=True)] == [True] * 6


def test_a_closure_is_called_with_gradients_and_its_loss_returned():
    weight = torch.nn.Parameter(torch.full((1, 1), 3.0, dtype=torch.float64))
    optimizer = Muon([weight], lr=0.1)

    def closure():
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 9.0
    moved = 0.1 * float(polynomial(torch.ones((), dtype=torch.float64)))
    assert weight.item() == pytest.approx(3 - moved, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "value"), [("lr", -0.25), ("momentum", 1.0), ("momentum", -0.5), ("weight_decay", -1.5)]
)
def test_an_argument_out_of_range_is_named_with_its_value(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        Muon(parameters(), **{name: value})


def test_a_vector_is_refused_by_its_shape():
    with pytest.raises(ValueError, match=r"\(7,\)"):
        Muon([torch.nn.Parameter(torch.ones(7))])
