import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config import ModelConfig
from core.corpus.dataset import prepare_files, prepare_stories
from core.corpus.grammar import Grammar
from core.corpus.stories import GRAMMAR
from core.model import functional
from core.model.transformer import Transformer
from core.optim.adamw import AdamW
from core.training.evaluation import EvaluationSet, evaluate, evaluation_set, evaluation_windows, token_losses

END = 10
CONTEXT = 7
MODEL = Transformer(
    ModelConfig(vocab_size=11, context_length=CONTEXT, d_model=6, num_layers=2, num_heads=3, d_ff=13, rope_theta=50.0),
    seed=5,
).double()


def document_tokens(*lengths, closed=True, seed=0):
    """Documents of these lengths, their end markers included."""
    rng = np.random.default_rng(seed)
    pieces = [np.append(rng.integers(0, END, length - 1), END) for length in lengths]
    tokens = np.concatenate(pieces).astype(np.uint16)
    return tokens if closed else tokens[:-1]


@st.composite
def token_arrays(draw):
    lengths = draw(st.lists(st.integers(1, 17), min_size=1, max_size=13))
    return document_tokens(*lengths, closed=draw(st.booleans()) or lengths == [1])


@settings(deadline=None)
@given(token_arrays(), st.integers(1, 19))
def test_windows_cut_the_tokens_once_and_no_document_that_fits(tokens, context_length):
    windows = evaluation_windows(tokens, context_length, END)
    assert [place for start, end in windows for place in range(start, end)] == list(range(len(tokens)))
    assert all(0 < end - start <= context_length for start, end in windows)
    edges = {end for _, end in windows}
    begin = 0
    documents = [*(np.flatnonzero(tokens == END) + 1).tolist(), len(tokens)]
    for finish in documents:
        if finish - begin <= context_length:
            assert not edges & set(range(begin + 1, finish))
        begin = finish
    # No window could have held another whole document.
    for (start, end), (_, next_end) in itertools.pairwise(windows):
        following = min((finish for finish in documents if finish > end), default=next_end)
        assert following - start > context_length


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 19))
def test_without_an_end_marker_windows_are_full_but_the_last(num_tokens, context_length):
    windows = evaluation_windows(np.full(num_tokens, END, dtype=np.uint16), context_length, None)
    starts = list(range(0, num_tokens, context_length))
    assert windows == [(start, min(start + context_length, num_tokens)) for start in starts]


def test_windows_of_an_example():
    # Documents of 3, 2, 9, 4 and 1: the long one is cut, what is left of it shares a window.
    assert evaluation_windows(document_tokens(3, 2, 9, 4, 1), CONTEXT, END) == [(0, 5), (5, 12), (12, 19)]
    assert evaluation_windows(document_tokens(3, 2, 9, 4, 2), CONTEXT, END) == [(0, 5), (5, 12), (12, 18), (18, 20)]


@torch.no_grad()
def naive_losses(tokens, end_of_text_id, context_length):
    """One forward pass per token, over what its window holds before it."""
    before = [] if end_of_text_id is None else [end_of_text_id]
    text = before + tokens.tolist()
    losses = []
    for start, end in evaluation_windows(tokens, context_length, end_of_text_id):
        for place in range(start, end):
            # `text` is shifted by the marker in front: its index of token `place` is place + len(before).
            target = place + len(before)
            context = text[max(start + len(before) - 1, 0) : target]
            assert len(context) <= context_length
            if context:
                losses.append(-float(torch.log_softmax(MODEL(torch.tensor([context]))[0, -1], -1)[text[target]]))
            else:
                losses.append(math.nan)
    return np.array(losses)


TOKENS = document_tokens(3, 2, 9, 4, 2, 7, 17, 1, 1, 5)


@pytest.mark.parametrize("context_length", [None, 1, 3, CONTEXT, 11])
@pytest.mark.parametrize("tokens", [TOKENS, TOKENS[:-2], TOKENS[:1], TOKENS[:CONTEXT]], ids=len)
def test_each_tokens_loss_is_the_naive_one(tokens, context_length):
    losses = token_losses(MODEL, tokens, END, context_length=context_length)
    assert losses.dtype == np.float64
    np.testing.assert_allclose(losses, naive_losses(tokens, END, context_length or CONTEXT), rtol=1e-10, atol=0)


@pytest.mark.parametrize("num_tokens", [1, 2, CONTEXT, CONTEXT + 1, 51])
def test_without_an_end_marker_the_first_token_alone_has_no_loss(num_tokens):
    losses = token_losses(MODEL, TOKENS[:num_tokens], None)
    assert len(losses) == num_tokens
    assert np.flatnonzero(np.isnan(losses)).tolist() == [0]


@pytest.mark.parametrize("num_tokens", [2, 3, CONTEXT])
def test_without_an_end_marker_a_token_is_seen_with_what_precedes_it_and_nothing_else(num_tokens):
    tokens = TOKENS[:num_tokens]
    expected = naive_losses(tokens, None, CONTEXT)[1:]
    np.testing.assert_allclose(token_losses(MODEL, tokens, None)[1:], expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 1000])
def test_losses_do_not_depend_on_how_many_windows_go_together(batch_size):
    np.testing.assert_allclose(
        token_losses(MODEL, TOKENS, END, batch_size=batch_size), token_losses(MODEL, TOKENS, END), rtol=1e-12, atol=0
    )


def test_evaluate_is_the_mean():
    expected = math.fsum(token_losses(MODEL, TOKENS, END)) / len(TOKENS)
    assert evaluate(MODEL, EvaluationSet(TOKENS, END, 1, None)) == pytest.approx(expected, rel=1e-12)
    without_marker = math.fsum(token_losses(MODEL, TOKENS, None)[1:]) / (len(TOKENS) - 1)
    assert evaluate(MODEL, EvaluationSet(TOKENS, None, 1, None)) == pytest.approx(without_marker, rel=1e-12)


def test_a_model_that_has_diverged_is_seen():
    broken = Transformer(MODEL.config, seed=5)
    broken.final_norm.gain.data[3] = math.nan
    assert math.isnan(evaluate(broken, EvaluationSet(TOKENS, END, 1, None)))


def test_bits_per_byte():
    # 3 nats per token, 1.5 tokens per byte.
    evaluation = EvaluationSet(TOKENS[:21], END, 14, None)
    assert evaluation.bits_per_byte(3.0) == pytest.approx(4.5 / math.log(2), rel=1e-14)


def test_the_stories_evaluation_set_ends_with_a_document_and_knows_its_floor(tmp_path):
    dataset, _ = prepare_stories(tmp_path / "stories", train_bytes=20_000, valid_bytes=10_000, vocab_size=307)
    evaluation = evaluation_set(dataset, 1009)
    end = dataset.tokenizer.special_id("<|endoftext|>")
    size = len(evaluation.tokens)
    assert evaluation.tokens.tolist() == dataset.valid.tokens[:size].tolist()
    assert evaluation.tokens[-1] == evaluation.end_of_text_id == end
    assert end not in dataset.valid.tokens[size:1009]
    text = dataset.tokenizer.decode(evaluation.tokens.tolist())
    assert evaluation.num_bytes == len(text.encode())
    stories = text.split("<|endoftext|>")[:-1]
    assert len(stories) >= 2
    nats = -math.fsum(GRAMMAR.log_probability(story) for story in stories)
    assert evaluation.floor_loss_nats == pytest.approx(nats / size, rel=1e-12)


def test_another_texts_evaluation_set_has_no_floor(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on the mat. " * 61)
    dataset, _ = prepare_files(tmp_path / "text", [path], vocab_size=263)
    evaluation = evaluation_set(dataset, 23)
    assert evaluation.floor_loss_nats is None
    assert evaluation.tokens.tolist() == dataset.valid.tokens[:23].tolist()
    assert evaluation.num_bytes == len(dataset.tokenizer.decode(evaluation.tokens.tolist()))


TINY = Grammar(
    {
        "story": [(3, "{a:name} + {b:name-a}[end]"), (1, "[end]")],
        "end": [(2, "!"), (1, " - {a:name}")],
    },
    {"name": [(3, "A"), (2, "Bo")]},
)


def divergence(model, texts):
    """Kullback-Leibler divergence in nats of the model's whole texts, end marker included, from the truth."""
    return math.fsum(float(p) * (math.log(p) + math.fsum(token_losses(model, tokens, 256))) for p, tokens in texts)


def test_no_model_is_closer_to_the_truth_than_the_truth():
    texts = [(p, np.array([*text.encode(), 256])) for text, p in TINY.enumerate()]
    assert sum(p for p, _ in texts) == 1
    longest = max(len(tokens) for _, tokens in texts)
    model = Transformer(
        ModelConfig(vocab_size=257, context_length=longest, d_model=18, num_layers=1, num_heads=3, d_ff=37), seed=5
    )
    untrained = divergence(model, texts)
    assert untrained > 10

    inputs = torch.full((len(texts), longest), 256)
    targets = torch.full((len(texts), longest), 256)
    weights = torch.zeros(len(texts), longest)
    for row, (p, tokens) in enumerate(texts):
        inputs[row, 1 : len(tokens)] = torch.from_numpy(tokens[:-1])
        targets[row, : len(tokens)] = torch.from_numpy(tokens)
        weights[row, : len(tokens)] = float(p)
    optimizer = AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95), weight_decay=0.0)
    divergences = []
    for step in range(120):
        optimizer.zero_grad()
        (functional.cross_entropy(model(inputs), targets) * weights).sum().backward()
        optimizer.step()
        if step % 30 == 29:
            divergences.append(divergence(model, texts))
    # Trained on the exact distribution it comes close, and never below.
    assert min(divergences) >= 0
    assert divergences[-1] < 0.2
