import math

import pytest
import torch
from torch.testing import assert_close

from core.optim.adamw import AdamW

STEPS = 20


def parameters():
    generator = torch.Generator().manual_seed(3)
    shapes = [(2, 3), (5,), (7, 11), ()]
    return [torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in shapes]


def groups(tensors):
    return [
        {"params": tensors[:2], "lr": 3e-2, "weight_decay": 0.3},
        {"params": tensors[2:3], "lr": 7e-3, "weight_decay": 0.0, "betas": (0.5, 0.7), "eps": 1e-3},
        {"params": tensors[3:]},
    ]


def set_gradients(tensors, step):
    """The second parameter has a gradient at every third step only, sizes span twelve orders."""
    generator = torch.Generator().manual_seed(step)
    for number, tensor in enumerate(tensors):
        gradient = 10.0 ** (step % 13 - 6) * torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        tensor.grad = None if number == 1 and step % 3 else gradient


def test_twenty_steps_equal_torchs():
    ours, theirs = parameters(), parameters()
    options = {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-6, "weight_decay": 0.1}
    mine, torchs = AdamW(groups(ours), **options), torch.optim.AdamW(groups(theirs), **options)
    for step in range(STEPS):
        for tensors, optimizer in ((ours, mine), (theirs, torchs)):
            set_gradients(tensors, step)
            optimizer.step()
        for one, other in zip(ours, theirs, strict=True):
            assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_defaults_are_torchs():
    ours, theirs = parameters(), parameters()
    mine, torchs = AdamW(ours), torch.optim.AdamW(theirs)
    for step in range(3):
        for tensors, optimizer in ((ours, mine), (theirs, torchs)):
            set_gradients(tensors, step)
            optimizer.step()
    for one, other in zip(ours, theirs, strict=True):
        assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_a_learning_rate_set_between_steps_is_used():
    ours, theirs = parameters(), parameters()
    mine, torchs = AdamW(ours), torch.optim.AdamW(theirs)
    for step, lr in enumerate((1e-3, 5e-2, 0.0, 2e-3)):
        for tensors, optimizer in ((ours, mine), (theirs, torchs)):
            optimizer.param_groups[0]["lr"] = lr
            set_gradients(tensors, step)
            optimizer.step()
    for one, other in zip(ours, theirs, strict=True):
        assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_without_a_gradient_nothing_moves_not_even_by_decay():
    tensors = parameters()
    before = [tensor.detach().clone() for tensor in tensors]
    AdamW(tensors, lr=1.0, weight_decay=0.5).step()
    assert [torch.equal(tensor, old) for tensor, old in zip(tensors, before, strict=True)] == [True] * 4


def test_the_first_step_by_hand():
    weight = torch.nn.Parameter(torch.tensor([2.0, -3.0], dtype=torch.float64))
    weight.grad = torch.tensor([0.5, -4.0], dtype=torch.float64)
    AdamW([weight], lr=0.1, betas=(0.9, 0.99), eps=0.0, weight_decay=0.5).step()
    # Bias correction makes the first step lr times the gradient's sign, after decay by 1 - 0.1 * 0.5.
    assert weight.tolist() == pytest.approx([2 * 0.95 - 0.1, -3 * 0.95 + 0.1], rel=1e-14)


def test_a_saved_state_goes_on_bit_for_bit():
    whole, parted = parameters(), parameters()
    one, first_half = AdamW(groups(whole)), AdamW(groups(parted))
    for step in range(STEPS):
        set_gradients(whole, step)
        one.step()
    for step in range(7):
        set_gradients(parted, step)
        first_half.step()
    second_half = AdamW(groups(parted))
    second_half.load_state_dict(first_half.state_dict())
    for step in range(7, STEPS):
        set_gradients(parted, step)
        second_half.step()
    assert [torch.equal(a, b) for a, b in zip(whole, parted, strict=True)] == [True] * 4


def test_a_closure_is_called_with_gradients_and_its_loss_returned():
    weight = torch.nn.Parameter(torch.tensor([2.0, -3.0], dtype=torch.float64))
    optimizer = AdamW([weight], lr=0.1, weight_decay=0.0, eps=0.0)

    def closure():
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 13.0
    assert weight.tolist() == pytest.approx([1.9, -2.9], rel=1e-14)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", -0.25),
        ("lr", math.nan),
        ("betas", (1.0, 0.5)),
        ("betas", (0.5, 1.0)),
        ("betas", (-0.125, 0.5)),
        ("betas", (0.5, -0.125)),
        ("betas", (math.nan, 0.5)),
        ("eps", -1e-8),
        ("eps", math.nan),
        ("weight_decay", -0.75),
        ("weight_decay", math.nan),
    ],
)
def test_an_argument_out_of_range_is_named_with_its_value(name, value):
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the message is compared below)
        AdamW(parameters(), **{name: value})
    assert name in str(error.value)
    assert str(value) in str(error.value)
