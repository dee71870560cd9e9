import pytest
import torch
from torch import nn
from torch.testing import assert_close

from core.optim.average import WeightAverage


def model():
    torch.manual_seed(5)
    built = nn.ModuleDict({"a": nn.Linear(3, 5, bias=False), "b": nn.Linear(3, 5, bias=False), "c": nn.Linear(7, 2)})
    built["b"].weight = built["a"].weight  # tied
    return built.double()


@torch.no_grad()
def move(module, step):
    generator = torch.Generator().manual_seed(step)
    for parameter in module.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))


def values(module):
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9999])
def test_equals_its_definition(decay):
    module = model()
    average = WeightAverage(module, decay)
    expected = values(module)
    for t in range(20):
        move(module, t)
        average.update()
        d = min(decay, (1 + t) / (10 + t))
        expected = {name: d * expected[name] + (1 - d) * value for name, value in values(module).items()}
    assert average.step == 20
    assert list(average.weights) == ["a.weight", "c.weight", "c.bias"]
    assert_close(average.weights, expected, rtol=1e-12, atol=1e-13)


def test_the_first_updates_weigh_by_hand():
    """From 0, with a weight of 1 ever after, the average is 1 less the product of all decays."""
    module = nn.Linear(1, 1, bias=False).double()
    nn.init.zeros_(module.weight)
    average = WeightAverage(module, 0.25)
    nn.init.ones_(module.weight)
    seen = []
    for _ in range(5):
        average.update()
        seen.append(float(average.weights["weight"]))
    decays = [1 / 10, 2 / 11, 3 / 12, 0.25, 0.25]
    products = [torch.tensor(decays[: t + 1], dtype=torch.float64).prod().item() for t in range(5)]
    assert seen == pytest.approx([1 - product for product in products], rel=1e-14)


def test_it_holds_no_memory_of_the_model():
    module = model()
    average = WeightAverage(module, 0.9)
    before = values(module)
    move(module, 1)
    assert_close(average.weights, before, rtol=0, atol=0)


def test_swapping_gives_the_average_and_brings_the_weights_back_bit_for_bit():
    module = model()
    average = WeightAverage(module, 0.9)
    for t in range(3):
        move(module, t)
        average.update()
    trained, averaged = values(module), {name: value.clone() for name, value in average.weights.items()}
    places = [parameter.data_ptr() for parameter in module.parameters()]
    with average.swapped():
        assert_close(values(module), averaged, rtol=0, atol=0)
        assert_close(average.weights, trained, rtol=0, atol=0)
    with pytest.raises(RuntimeError, match="passes"), average.swapped():
        raise RuntimeError("passes")
    assert_close(values(module), trained, rtol=0, atol=0)
    assert_close(average.weights, averaged, rtol=0, atol=0)
    assert [parameter.data_ptr() for parameter in module.parameters()] == places


def test_resumed_from_its_weights_and_step_it_goes_on_bit_for_bit():
    module = model()
    average = WeightAverage(module, 0.9)
    for t in range(3):
        move(module, t)
        average.update()
    again = WeightAverage(module, 0.9)
    for name, value in average.weights.items():
        again.weights[name].copy_(value)
    again.step = average.step
    move(module, 3)
    average.update()
    again.update()
    assert_close(again.weights, average.weights, rtol=0, atol=0)


@pytest.mark.parametrize("decay", [1.0, -0.5, float("nan")])
def test_a_decay_out_of_range_is_named(decay):
    with pytest.raises(ValueError, match=f"decay is {decay}"):
        WeightAverage(model(), decay)
