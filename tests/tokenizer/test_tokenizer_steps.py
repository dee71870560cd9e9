from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from naive_bpe import naive_encode, naive_train

from core.tokenizer import steps

FUZZ = settings(deadline=None, derandomize=True, max_examples=100)
words = st.lists(st.sampled_from(["aaaa", "aab", " aa", "abab", "é", " cab", "漢字", "漢"]), min_size=1, max_size=12)


@FUZZ
@given(words, st.integers(0, 30))
def test_the_merges_are_those_of_the_naive_trainer(pre_tokens, num_merges):
    # A special token between them keeps the words apart, so that both see the same pre-tokens.
    _, merges = naive_train("|".join(pre_tokens), 257 + num_merges, ["|"])
    history = steps.training_steps(Counter(pre_tokens), num_merges)
    made = [step.pairs[0][0] for step in history[:num_merges] if step.pairs]
    assert made == merges
    assert len(history) == len(merges) + 1


@FUZZ
@given(words)
def test_each_step_counts_what_is_there(pre_tokens):
    history = steps.training_steps(Counter(pre_tokens), 30)
    for step, after in pairwise(history):
        counts = Counter()
        for pieces, times in step.words:
            for pair in pairwise(pieces):
                counts[pair] += times
        assert dict(step.pairs) == counts
        assert step.pairs == sorted(step.pairs, key=lambda item: (item[1], item[0]), reverse=True)
        assert step.tied == list(counts.values()).count(max(counts.values()))
        assert [b"".join(pieces) for pieces, _ in after.words] == [b"".join(pieces) for pieces, _ in step.words]
        assert sum(len(pieces) for pieces, _ in after.words) < sum(len(pieces) for pieces, _ in step.words)
    assert history[-1].pairs == []
    assert [pieces for pieces, _ in history[-1].words] == [(word.encode(),) for word in dict.fromkeys(pre_tokens)]


@FUZZ
@given(words, st.sampled_from(["aaaaaaa", "aabaab", " aabab", "漢字漢", "é漢", "b", " "]))
def test_a_word_ends_as_the_naive_encoder_says(pre_tokens, word):
    vocab, merges = naive_train("|".join(pre_tokens), 280, ["|"])
    history = steps.encoding_steps(word.encode(), steps.pair_ranks(merges))
    assert history[0].pieces == tuple(bytes([value]) for value in word.encode())
    assert [vocab[token_id] for token_id in naive_encode(word, vocab, merges)] == list(history[-1].pieces)
    assert history[-1].place is None
    for step, after in pairwise(history):
        place = step.place
        assert (step.ranks[place], place) == min((rank, at) for at, rank in step.ranks.items())
        assert after.pieces[place] == step.pieces[place] + step.pieces[place + 1]
        assert len(after.pieces) == len(step.pieces) - 1


def test_of_a_repeated_pair_the_first_merge_counts():
    assert steps.pair_ranks([(b"a", b"b"), (b"c", b"d"), (b"a", b"b")]) == {(b"a", b"b"): 0, (b"c", b"d"): 1}


def test_overlapping_pairs_are_joined_from_the_left():
    assert steps.pair_places((b"a",) * 5, (b"a", b"a")) == [0, 1, 2, 3]
    assert steps.pair_places((b"b", b"a", b"a", b"b"), (b"a", b"b")) == [2, 3]
    assert steps.pair_places((), (b"a", b"a")) == []


def test_rows_of_a_figure_by_hand():
    # ab twice, ac once: (a, b) is merged; then (a, c) is all that is left, and (ab) is one piece.
    history = steps.training_steps({"ab": 2, "ac": 1, "cb": 2}, 10)
    assert steps.word_rows(history[0]) == [
        {"pieces": (b"a", b"b"), "places": [], "told": "× 2"},
        {"pieces": (b"a", b"c"), "places": [], "told": "× 1"},
        {"pieces": (b"c", b"b"), "places": [0, 1], "told": "× 2"},
    ]
    assert steps.pair_rows(history[0], 2) == [
        {"pair": (b"c", b"b"), "count": 2, "next": True, "note": "merged next"},
        {"pair": (b"a", b"b"), "count": 2, "next": False, "note": "as often, but smaller bytes"},
    ]
    assert [row["note"] for row in steps.pair_rows(history[0], 9)][2:] == [""]
    assert steps.made_rows(history[:2]) == [
        {
            "number": 1,
            "token": [{"id": 256, "token": b"cb"}],
            "pair": [{"id": 99, "token": b"c"}, {"id": 98, "token": b"b"}],
            "count": 2,
        },
        {
            "number": 2,
            "token": [{"id": 257, "token": b"ab"}],
            "pair": [{"id": 97, "token": b"a"}, {"id": 98, "token": b"b"}],
            "count": 2,
        },
    ]
    assert steps.word_rows(history[-1])[0] == {"pieces": (b"ab",), "places": [], "told": "× 2"}


def test_rows_of_encoding_name_the_merges_that_wait():
    ranks = {(b"a", b"b"): 1, (b"b", b"c"): 0, (b"c", b"d"): 2, (b"a", b"bc"): 3}
    assert steps.encoding_rows(steps.encoding_steps(b"abcd", ranks)) == [
        {"pieces": (b"a", b"b", b"c", b"d"), "places": [1, 2], "told": "merge 1 next; 2, 3 wait"},
        {"pieces": (b"a", b"bc", b"d"), "places": [0, 1], "told": "merge 4 next"},
        {"pieces": (b"abc", b"d"), "places": [], "told": "no merge is left"},
    ]
    long = steps.encoding_rows(steps.encoding_steps(b"xy" * 5, {(b"x", b"y"): 1233}))
    assert long[0]["told"] == "merge 1,234 next; 1,234, 1,234 … wait"
