import hashlib
import itertools
import math
import re

import numpy as np
import pytest

from core.corpus.stories import GRAMMAR, floor_nats, grammar_id, story_block, write_stories

END = "<|endoftext|>"

STORY = (
    "Mia was a very kind girl. She loved to draw.\n"
    "It was the wedding day of her father, and Mia wanted to make a pie for him. "
    '"I need eggs, plums and milk," she said. But when she came home, the plums had been forgotten. '
    "Mia ran all the way back for more plums. "
    'Soon a pie stood on the table. "With eggs, plums and milk! It is the best ever," said Dad.\n'
    "From then on Mia knew that kindness comes back."
)


@pytest.fixture(scope="module")
def sampled():
    """2,000 stories with the sampler's log-probabilities and the parser's derivations."""
    texts, log_p = story_block(0, 0)
    return texts[:2000], log_p[:2000], [GRAMMAR.derivations(text) for text in texts[:2000]]


def test_the_first_stories_of_seed_0_never_change():
    texts, _ = story_block(0, 0)
    assert texts[0].startswith("Once upon a time there was a kind boy named Ben. Every day he liked")
    digest = hashlib.sha256(END.join(texts[:200]).encode()).hexdigest()
    assert digest == "3a84e9abdd12d33d9f2ae42d328dd8a2038abe07c5f8b260ba7d21aa6b91fa22"


def test_a_block_is_a_function_of_seed_and_number():
    texts, log_p = story_block(3, 2)
    again, log_p_again = story_block(3, 2)
    assert texts == again
    assert log_p.tolist() == log_p_again.tolist()
    assert len({tuple(texts[:50]), tuple(story_block(3, 1)[0][:50]), tuple(story_block(2, 2)[0][:50])}) == 3


def test_every_story_has_exactly_one_derivation(sampled):
    assert [len(derivations) for _, derivations in zip(sampled[0], sampled[2], strict=True)] == [1] * 2000


def test_a_storys_probability_is_the_product_of_its_choices(sampled):
    texts, log_p, derivations = sampled
    assert [value for (value,) in derivations] == pytest.approx(log_p.tolist(), rel=0, abs=1e-9)
    assert floor_nats(texts[:50]) == pytest.approx((-log_p[:50]).tolist(), rel=0, abs=1e-9)


def test_a_storys_probability_worked_out_by_hand():
    choices = [
        *[(2, 11), (1, 7)],  # story: present; opening: the third
        *[(3, 40), (3, 15)],  # Mia: of 2 x (4 x 3 + 8 x 1); kind: of 3 x 3 + 6
        *[(3, 6), (3, 11)],  # likes; to draw: of 2 x 3 + 5
        *[(1, 6), (2, 8), (3, 10)],  # wedding day: of 3 + 3; father; a pie: of 2 x 3 + 4
        *[(1, 3), (3, 20), (1, 17), (3, 16)],  # shopping: the second; eggs, then plums, then milk of 4 x 3 + 8
        *[(2, 3), (1, 3), (1, 2), (2, 3)],  # loss, which, gone, fetch
        *[(1, 3), (1, 3)],  # serving: the second; moral: the second
    ]
    assert GRAMMAR.log_probability(STORY) == pytest.approx(math.fsum(math.log(n / of) for n, of in choices), abs=1e-9)


@pytest.mark.parametrize(
    ("old", "new"),
    [("She loved", "He loved"), ("more plums", "more eggs"), ("said Dad", "said Mom"), ("kindness", "x")],
)
def test_what_context_forbids_has_no_probability(old, new):
    """The far context decides: who the hero is, what was lost, whose feast it is."""
    assert floor_nats([STORY]) == [-GRAMMAR.log_probability(STORY)]
    with pytest.raises(ValueError, match="not a text of this grammar"):
        floor_nats([STORY.replace(old, new)])


def test_the_floor_is_the_entropy_of_the_grammar():
    floor = np.array(floor_nats(story_block(1, 0)[0][:1000]))
    entropy = -story_block(2, 0)[1]
    standard_error = math.hypot(floor.std() / math.sqrt(floor.size), entropy.std() / math.sqrt(entropy.size))
    assert abs(floor.mean() - entropy.mean()) < 4 * standard_error
    assert standard_error < 0.01 * entropy.mean()


def test_the_grammar_is_named_by_its_content(monkeypatch):
    before = grammar_id()
    assert re.fullmatch("[0-9a-f]{64}", before)
    monkeypatch.setattr("core.corpus.stories.BLOCK_STORIES", 1)
    assert grammar_id() != before


# --- a model with a short memory ---


ORDER = 5
WORD = re.compile(r"\s?\w+|\s?[^\w\s]")


def word_ids(texts, ids):
    """Words and signs with the white space before them, an end marker after each story; `ids` grows."""
    stories = []
    for text in texts:
        words = WORD.findall(text)
        assert "".join(words) == text
        stories.append(np.array([ids.setdefault(word, len(ids) + 1) for word in [*words, END]]))
    return stories


def n_grams(stories, n, num_words):
    """The n words up to each word as one integer; 0 stands before a story's start."""
    start = np.zeros(ORDER, dtype=np.int64)
    flat = np.concatenate([part for story in stories for part in (start, story)])
    ends = np.flatnonzero(flat)
    return sum(flat[ends - back] * num_words**back for back in range(n))


def look_up(keys, counts, wanted):
    place = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
    return np.where(keys[place] == wanted, counts[place], 0)


def n_gram_losses(train, unseen, num_words, strength):
    """Negative log-probability of each unseen story, its end marker included, by models of 1 to ORDER words.

    p(w | h) = (c(hw) + strength p(w | shorter h)) / (c(h) + strength), with uniform words at the bottom.
    """
    story = np.repeat(np.arange(len(unseen)), [words.size for words in unseen])
    p = np.full(story.size, 1 / num_words)
    losses = []
    for n in range(1, ORDER + 1):
        grams, counts = np.unique(n_grams(train, n, num_words), return_counts=True)
        contexts, context_of = np.unique(grams // num_words, return_inverse=True)
        context_counts = np.bincount(context_of, counts)
        wanted = n_grams(unseen, n, num_words)
        count, context_count = look_up(grams, counts, wanted), look_up(contexts, context_counts, wanted // num_words)
        p = (count + strength * p) / (context_count + strength)
        losses.append(np.bincount(story, -np.log(p)))
    return losses


@pytest.mark.parametrize("start", [[], [1], [1, 2], [4, 4, 1, 2, 3]])
def test_the_n_gram_models_are_distributions(start):
    """Else their losses could not be compared with the floor."""
    ids = {}
    train = word_ids(["a b a", "a c", "b b a"], ids)
    nexts = [np.array([*start, word]) for word in range(1, len(ids) + 1)]
    losses = n_gram_losses(train, nexts, len(ids) + 1, 0.5)
    before = n_gram_losses(train, [np.array(start)], len(ids) + 1, 0.5) if start else np.zeros((ORDER, 1))
    for loss, loss_before in zip(losses, before, strict=True):
        # Id 0 stands for no word and is never counted: it keeps a small share of its own.
        assert 0.9 < np.exp(loss_before[0] - loss).sum() < 1


def test_a_short_memory_does_not_reach_the_floor():
    """A 5-gram model of words stays above the floor on unseen stories: the far context is what it lacks."""
    ids = {}
    train = word_ids([text for block in range(3) for text in story_block(10, block)[0]][:20_000], ids)
    num_words = len(ids) + 1
    texts, log_p = (part[:2000] for part in story_block(11, 0))
    losses = n_gram_losses(train, word_ids(texts, ids), num_words, 0.5)
    assert len(ids) + 1 == num_words  # no word is new
    means = [loss.mean() for loss in losses]
    assert means == sorted(means, reverse=True)
    above = losses[-1] + log_p
    assert above.mean() > 10 * above.std(ddof=1) / math.sqrt(above.size)
    assert above.mean() < 0.1 * (losses[0] + log_p).mean()  # it is not for want of counting


# --- files ---


def test_a_file_is_large_enough_and_ends_with_the_marker(tmp_path):
    for num_bytes in (1, 999, 20_000):
        data = write_stories(tmp_path / "stories.txt", num_bytes, 4).read_bytes()
        assert len(data) >= num_bytes
        assert data.endswith(END.encode())
        stories = data.decode().split(END)[:-1]
        assert stories == story_block(4, 0)[0][: len(stories)]


def test_a_shorter_file_is_the_beginning_of_a_longer_one(tmp_path):
    sizes = [1, 2_000, 30_000, 3_000_000, 4_600_000]  # the last one draws a second block
    files = [write_stories(tmp_path / f"{size}.txt", size, 4).read_bytes() for size in sizes]
    assert [len(data) >= size for data, size in zip(files, sizes, strict=True)] == [True] * 5
    assert all(longer.startswith(shorter) for shorter, longer in itertools.pairwise(files))
    expected = "".join(story + END for block in (0, 1) for story in story_block(4, block)[0]).encode()
    assert expected.startswith(files[-1])
    assert write_stories(tmp_path / "again.txt", 2_000, 4).read_bytes() == files[1]
    assert not files[-1].startswith(write_stories(tmp_path / "other.txt", 2_000, 5).read_bytes())


def test_a_file_stops_at_the_first_storys_end_that_makes_it_large_enough(tmp_path):
    stories = [(story + END).encode() for story in story_block(4, 0)[0][:3]]
    first, second = len(stories[0]), len(stories[0] + stories[1])
    for num_bytes in (first - 14, first - 13, first - 12, first - 1, first):
        assert write_stories(tmp_path / "stories.txt", num_bytes, 4).stat().st_size == first
    for num_bytes in (first + 1, second):
        assert write_stories(tmp_path / "stories.txt", num_bytes, 4).stat().st_size == second


def test_progress_counts_the_bytes(tmp_path):
    calls = []
    path = write_stories(tmp_path / "stories.txt", 4_600_000, 0, calls.append)
    assert len(calls) == 2
    assert calls[-1] == path.stat().st_size
    assert 0 < calls[0] < 4_600_000


@pytest.mark.parametrize("num_bytes", [0, -5])
def test_a_size_that_is_not_positive_is_named(tmp_path, num_bytes):
    with pytest.raises(ValueError, match=f"num_bytes is {num_bytes}"):
        write_stories(tmp_path / "stories.txt", num_bytes, 0)
    assert list(tmp_path.iterdir()) == []
