import itertools
import math

import pytest
import torch

from core.config import ModelConfig
from core.inference.generate import generate
from core.inference.sampling import next_token_probabilities
from core.model.transformer import Transformer

CONFIG = ModelConfig(vocab_size=11, context_length=7, d_model=6, num_layers=1, num_heads=3, d_ff=13)
MODEL = Transformer(CONFIG, seed=5)
PROMPT = [3, 1, 4]
OPTIONS = {"temperature": 0.9, "top_k": 7, "top_p": 0.95}


def text(prompt=PROMPT, max_new_tokens=13, model=MODEL, **options):
    return list(generate(model, prompt, max_new_tokens, **options))


@torch.no_grad()
def logits_after(ids, model=MODEL):
    return model(torch.tensor([ids[-model.config.context_length :]]))[0, -1]


def test_temperature_0_takes_the_argmax_of_the_last_context_each_time():
    ids = list(PROMPT)
    for _ in range(13):
        ids.append(int(logits_after(ids).argmax()))
    assert text(temperature=0) == ids[len(PROMPT) :]
    assert text(temperature=0, seed=99) == ids[len(PROMPT) :]
    assert text(top_k=1, seed=7) == ids[len(PROMPT) :]


def test_every_token_is_one_that_could_be_drawn():
    ids = text(max_new_tokens=61, **OPTIONS)
    assert len(ids) == 61
    for place, token_id in enumerate(ids):
        assert next_token_probabilities(logits_after(PROMPT + ids[:place]), **OPTIONS)[token_id] > 0


def test_drawn_frequencies_are_the_probabilities():
    # With a context of one token the text is a Markov chain whose every transition probability is known.
    model = Transformer(
        ModelConfig(vocab_size=3, context_length=1, d_model=2, num_layers=1, num_heads=1, d_ff=5), seed=7
    )
    options = {"temperature": 1.5, "top_p": 0.85}
    ids = [2, *text([2], 601, model, **options)]
    expected = torch.stack([next_token_probabilities(logits_after([state], model), **options) for state in range(3)])
    counts = torch.zeros(3, 3, dtype=torch.float64)
    for state, drawn in itertools.pairwise(ids):
        counts[state, drawn] += 1
    assert (counts[expected == 0] == 0).all()
    assert (counts.sum(1) > 50).all()
    draws = counts.sum(1, keepdim=True) * expected
    possible = expected > 0
    chi_square = float(((counts - draws)[possible] ** 2 / draws[possible]).sum())
    degrees = int(possible.sum()) - 3
    assert abs(chi_square - degrees) < 4 * math.sqrt(2 * degrees)


def test_first_draws_of_many_seeds_have_the_same_frequencies():
    expected = next_token_probabilities(logits_after(PROMPT))
    counts = torch.zeros(CONFIG.vocab_size, dtype=torch.float64)
    for seed in range(307):
        counts[text(max_new_tokens=1, seed=seed)[0]] += 1
    chi_square = float(((counts - 307 * expected) ** 2 / (307 * expected)).sum())
    assert abs(chi_square - 10) < 4 * math.sqrt(2 * 10)


def test_the_seed_decides_the_text_and_the_global_random_state_does_not():
    torch.manual_seed(1)
    first = text(max_new_tokens=41, seed=3)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert text(max_new_tokens=41, seed=3) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert text(max_new_tokens=41, seed=4) != first


def test_a_shorter_text_is_the_beginning_of_a_longer_one():
    assert text(max_new_tokens=13) == text(max_new_tokens=29)[:13]


def test_the_stop_token_ends_the_text_and_is_not_in_it():
    whole = text(max_new_tokens=41, seed=3)
    stop_id = whole[6]
    assert text(max_new_tokens=41, seed=3, stop_id=stop_id) == whole[: whole.index(stop_id)]


def test_a_stop_token_in_the_prompt_stops_nothing():
    whole = text([0, 1, 4], 3, temperature=0)
    assert 0 not in whole
    assert text([0, 1, 4], 3, temperature=0, stop_id=0) == whole


def test_a_prompt_longer_than_the_context_is_cut_to_its_end():
    long = [9, 8, 2, 5, 0, 10, 3, 1, 4, 7, 6]
    cut = long[-CONFIG.context_length :]
    assert text(long, 23, seed=3) == text(cut, 23, seed=3)
    assert text(long, 1, temperature=0) == [int(logits_after(cut).argmax())]


def test_tokens_come_one_by_one():
    tokens = generate(MODEL, PROMPT, 10**9, seed=3)
    assert [next(tokens) for _ in range(5)] == text(max_new_tokens=5, seed=3)


def test_the_models_gradients_stay_on():
    text(max_new_tokens=2)
    assert torch.is_grad_enabled()
    assert MODEL(torch.tensor([PROMPT])).requires_grad


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([], 5), {}, "the prompt has no tokens"),
        (([3, 11], 5), {}, "vocabulary of 11"),
        (([-1], 5), {}, "vocabulary of 11"),
        ((PROMPT, 0), {}, "max_new_tokens is 0:"),
        ((PROMPT, -3), {}, "max_new_tokens is -3:"),
        ((PROMPT, 5), {"temperature": math.nan}, "temperature is nan:"),
        ((PROMPT, 5), {"temperature": -1.0}, "temperature is -1.0:"),
        ((PROMPT, 5), {"top_k": 0}, "top_k is 0:"),
        ((PROMPT, 5), {"top_p": 1.25}, "top_p is 1.25:"),
    ],
)
def test_what_cannot_be_generated_is_said_with_its_value(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        text(*arguments, **options)
