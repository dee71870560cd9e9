import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from core.inference.sampling import next_token_probabilities

P = [0.5, 0.25, 0.125, 0.125]
LOGITS = torch.tensor(P, dtype=torch.float64).log() + 1000


def probabilities(logits=LOGITS, **options):
    return next_token_probabilities(logits, **options).tolist()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_without_options_it_is_the_softmax_in_float64(dtype):
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(1)).to(dtype)
    expected = torch.softmax(logits.double(), dim=-1)
    assert_close(next_token_probabilities(logits), expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("temperature", [0.1, 0.7, 1.0, 3.0, 1e6])
def test_temperature_divides_the_logits(temperature):
    powers = [p ** (1 / temperature) for p in P]
    assert probabilities(temperature=temperature) == pytest.approx([power / sum(powers) for power in powers], rel=1e-9)


@pytest.mark.parametrize("options", [{"temperature": 0}, {"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-6}])
def test_greedy_in_four_ways(options):
    logits = torch.tensor([[0.1, 3.0, -2.0, 2.9, 0.0], [-7.0, -5.0, -6.0, -5.5, -5.25]])
    assert probabilities(logits, **options) == [[0, 1, 0, 0, 0], [0, 1, 0, 0, 0]]


@pytest.mark.parametrize("options", [{"temperature": 0}, {"top_k": 1}, {"top_p": 0.3}])
def test_the_first_of_equals_is_greedy(options):
    assert probabilities(torch.tensor([1.0, 2.0, 2.0, -1.0]), **options) == [0, 1, 0, 0]


@pytest.mark.parametrize("top_p", [1e-12, 1e-13, 1e-300])
def test_however_small_top_p_is_the_most_probable_token_is_kept(top_p):
    assert probabilities(top_p=top_p) == [1, 0, 0, 0]


@pytest.mark.parametrize("temperature", [1e-300, 1e-310, 5e-324])
def test_however_small_the_temperature_is_the_most_probable_token_is_kept(temperature):
    assert probabilities(temperature=temperature) == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (0.3, [1, 0, 0, 0]),
        (0.5, [1, 0, 0, 0]),
        (0.51, [2 / 3, 1 / 3, 0, 0]),
        (0.6, [2 / 3, 1 / 3, 0, 0]),
        (0.75, [2 / 3, 1 / 3, 0, 0]),
        (0.76, [4 / 7, 2 / 7, 1 / 7, 0]),
        (0.875, [4 / 7, 2 / 7, 1 / 7, 0]),
        (0.88, P),
        (1.0, P),
    ],
)
def test_top_p_keeps_the_token_that_crosses_it(top_p, expected):
    assert probabilities(top_p=top_p) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("top_k", "expected"),
    [(1, [1, 0, 0, 0]), (2, [2 / 3, 1 / 3, 0, 0]), (3, [4 / 7, 2 / 7, 1 / 7, 0]), (4, P), (1000, P)],
)
def test_top_k(top_k, expected):
    assert probabilities(top_k=top_k) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("top_k", "top_p", "expected"),
    [
        (3, 4 / 7, [1, 0, 0, 0]),  # of what top-k left, the first is 4/7
        (3, 0.6, [2 / 3, 1 / 3, 0, 0]),
        (3, 6 / 7, [2 / 3, 1 / 3, 0, 0]),
        (3, 0.87, [4 / 7, 2 / 7, 1 / 7, 0]),
        (2, 0.66, [1, 0, 0, 0]),
        (2, 1.0, [2 / 3, 1 / 3, 0, 0]),
    ],
)
def test_top_p_acts_on_what_top_k_leaves(top_k, top_p, expected):
    assert probabilities(top_k=top_k, top_p=top_p) == pytest.approx(expected, rel=1e-12)


def test_temperature_acts_before_top_p():
    # Squared and normalised: 16/22, 4/22, 1/22, 1/22.
    assert probabilities(temperature=0.5, top_p=0.7) == [1, 0, 0, 0]
    assert probabilities(temperature=0.5, top_p=0.75) == pytest.approx([0.8, 0.2, 0, 0], rel=1e-12)


@st.composite
def questions(draw):
    size = draw(st.integers(2, 13))
    # Distinct logits, some tokens impossible: equals are resolved by their id, which a permutation changes.
    logits = draw(st.lists(st.integers(-400, 400), min_size=size, max_size=size, unique=True))
    values = [logit / 16 for logit in logits]
    if draw(st.booleans()):
        values[values.index(min(values))] = -math.inf
    options = {
        "temperature": draw(st.sampled_from([0.0, 0.25, 1.0, 2.0])),
        "top_k": draw(st.none() | st.integers(1, 17)),
        "top_p": draw(st.none() | st.floats(0.001, 1.0)),
    }
    return values, options


@settings(deadline=None)
@given(questions(), st.randoms())
def test_it_sums_to_1_keeps_the_order_and_does_not_care_how_tokens_are_numbered(question, random):
    values, options = question
    logits = torch.tensor(values, dtype=torch.float64)
    answer = next_token_probabilities(logits, **options)
    assert float(answer.sum()) == pytest.approx(1, abs=1e-12)
    kept = answer > 0
    assert answer[logits.argmax()] == answer.max()
    if options["top_k"] is not None:
        assert kept.sum() <= options["top_k"]
    # What is kept is what was most probable, in the ratios that temperature alone gives.
    if options["temperature"] > 0:
        full = next_token_probabilities(logits, temperature=options["temperature"])
        assert_close(answer, torch.where(kept, full, 0) / full[kept].sum(), rtol=1e-9, atol=1e-15)
        if kept.any() and not kept.all():
            assert logits[kept].min() > logits[~kept].max()
    order = list(range(len(values)))
    random.shuffle(order)
    assert_close(next_token_probabilities(logits[order], **options), answer[order], rtol=1e-12, atol=0)


def test_top_k_prefers_smaller_ids_among_equals():
    answer = next_token_probabilities(torch.zeros(2, 1009), top_k=5)
    assert answer[:, :5].tolist() == [[0.2] * 5] * 2
    assert (answer[:, 5:] == 0).all()


def test_rows_do_not_meet():
    logits = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    whole = next_token_probabilities(logits, temperature=0.7, top_k=5, top_p=0.8)
    for row in range(3):
        for column in range(5):
            alone = next_token_probabilities(logits[row, column], temperature=0.7, top_k=5, top_p=0.8)
            assert_close(whole[row, column], alone, rtol=1e-12, atol=0)


def test_the_logits_are_left_as_they_were():
    logits = LOGITS.clone()
    next_token_probabilities(logits, temperature=0.5, top_k=2, top_p=0.5)
    assert torch.equal(logits, LOGITS)


BAD_OPTIONS = [
    ("temperature", -0.5),
    ("temperature", math.nan),
    ("temperature", math.inf),
    ("top_k", 0),
    ("top_k", -3),
    ("top_p", 0.0),
    ("top_p", -0.25),
    ("top_p", 1.5),
    ("top_p", math.nan),
]


@pytest.mark.parametrize(("name", "value"), BAD_OPTIONS)
def test_an_option_out_of_range_is_named_with_its_value(name, value):
    with pytest.raises(ValueError, match=f"^{name} is {value}:"):
        probabilities(**{name: value})
