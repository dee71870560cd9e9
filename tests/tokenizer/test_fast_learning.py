import random
from collections import Counter as Tally
from itertools import pairwise

import numpy as np
import pytest
from fast_cases import awkward, cases, segments_of
from naive_bpe import naive_train

from core.files import text_blocks
from core.tokenizer import train_bpe
from core.tokenizer.fast.counting import Counter
from core.tokenizer.fast.engine import count_files
from core.tokenizer.fast.learning import learn_merges as fast_learn
from core.tokenizer.pretokenize import PATTERNS
from core.tokenizer.train import count_pre_tokens, learn_merges


def arrays_of(words):
    """Words (text to count) as the arrays that the fast engine takes."""
    encoded = [word.encode() for word in words]
    text = np.frombuffer(b"".join(encoded) + bytes(16), np.uint8).copy()
    begin = np.concatenate([[0], np.cumsum([len(word) for word in encoded], dtype=np.int64)]).astype(np.int64)
    return text, begin, np.array(list(words.values()), np.int64)


def assert_learns(words, num_merges):
    got, expected = fast_learn(*arrays_of(words), num_merges), learn_merges(Tally(words), num_merges)
    if got != expected:
        place = next(i for i in range(len(expected) + 1) if got[i : i + 1] != expected[i : i + 1])
        raise AssertionError(
            f"{words}: merge {place} is {expected[place:][:1]}, the fast engine says {got[place:][:1]}"
        )


def random_words(source, alphabet, longest, most, count):
    words = ("".join(source.choices(alphabet, k=source.randrange(1, longest + 1))) for _ in range(count))
    return {word: source.randrange(1, most + 1) for word in words}


@pytest.mark.parametrize("alphabet", ["a", "ab", "abc", "ab\0", "aé漢", "abcdefghijklmnop"])
def test_words_of_few_letters_with_many_ties(alphabet):
    source = random.Random(40)
    for _ in range(cases(900)):
        words = random_words(
            source, alphabet, source.choice([2, 4, 8, 20]), source.choice([1, 2, 20]), source.randrange(12)
        )
        assert_learns(words, source.choice([1, 2, 5, 20, 300]))


@pytest.mark.slow
@pytest.mark.parametrize("alphabet", ["a", "ab", "abc", "abcd", "aé"])
def test_many_more_words_of_few_letters(alphabet):
    source = random.Random(41)
    for _ in range(8000):
        words = random_words(
            source, alphabet, source.choice([3, 6, 12, 40]), source.choice([1, 2, 9]), source.randrange(20)
        )
        assert_learns(words, source.choice([3, 30, 1000]))


def test_counts_of_every_size_go_through_all_stages():
    source = random.Random(42)
    for _ in range(cases(150)):
        words = random_words(source, "abcde", 9, 2, 150)
        words = {word: 1 << source.randrange(41) for word in words}
        assert_learns(words, source.choice([10, 100, 2000]))
        assert_learns({word: count + source.randrange(3) for word, count in words.items()}, 2000)


@pytest.mark.parametrize("num_merges", [0, 1, 511, 512, 513, 1024, 1500, 100_000])
def test_any_number_of_merges(num_merges):
    source = random.Random(43)
    assert_learns(random_words(source, "abcdefgh", 12, 30, cases(3000)), num_merges)


def test_more_merges_than_the_words_have_pairs():
    assert fast_learn(*arrays_of({"abc": 3, "ab": 1}), 3_000_000) == [(b"a", b"b"), (b"ab", b"c")]


def test_there_is_nothing_to_learn_from_nothing():
    for words in ({}, {"a": 5, "b": 1}):
        assert fast_learn(*arrays_of(words), 10) == []
    assert fast_learn(*arrays_of({"ab": 0, "cd": 1}), 10) == [(b"c", b"d")]


def test_words_of_one_letter_merge_in_halves():
    for size in (2, 3, 4, 7, 64, 1000, 100_000):
        assert_learns({"a" * size: 1}, 40)
        assert_learns({"ab" * size: 2, "ba" * (size // 2): 3}, 40)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_awkward_text_is_counted_and_learnt_as_by_the_reference(pattern):
    texts = awkward(15_000, 44)
    counter = Counter(pattern)
    assert counter.count(*segments_of([text.encode() for text in texts])) == -1
    expected = Tally()
    for text in texts:
        expected.update(count_pre_tokens([text], [], pattern))
    num_merges = cases(2500)
    assert fast_learn(*counter.words(), num_merges) == learn_merges(expected, num_merges)


def test_both_engines_train_as_on_a_blackboard(tmp_path):
    path, specials = tmp_path / "text.txt", ["<|a|>", "a b", "<|a|><|b|>", " "]
    for seed in range(cases(60)):
        text = "".join(awkward(12, 4500 + seed, more=[*specials, "ab", "aa"])) + "."
        path.write_bytes(text.encode())
        expected = naive_train(text, 300, specials)
        for engine in ("reference", "fast"):
            assert train_bpe(path, 300, specials, engine=engine) == expected


@pytest.mark.parametrize("wanted", [700, 100_000])
def test_progress_ends_at_the_merges_that_were_made(wanted):
    calls = []
    words = random_words(random.Random(46), "abcdefgh", 12, 30, 2000)
    merges = fast_learn(*arrays_of(words), wanted, lambda done, of: calls.append((done, of)))
    assert 700 <= len(merges) <= wanted
    assert calls[-1] == (len(merges), wanted)
    assert calls == sorted(set(calls))


LONG = {
    "a": "a" * 1_000_000,
    "letters": "".join(random.Random(47).choices("abcdefghijklmnopqrstuvwxyz", k=1_000_000)),
    "spaces": " " * 1_000_000,
    "ab": "ab" * 150_000,
}


@pytest.mark.parametrize("kind", LONG)
def test_a_very_long_pre_token_trains(tmp_path, kind):
    path = tmp_path / "text.txt"
    path.write_text(LONG[kind])
    vocab, merges = train_bpe(path, 256 + 25, [], engine="fast")
    if kind == "letters":
        pair, _ = max(Tally(pairwise(LONG[kind])).items(), key=lambda item: item[::-1])
        assert (len(merges), merges[0]) == (25, (pair[0].encode(), pair[1].encode()))
    else:  # each token twice the one before, as long as there are two of it
        unit, most = (LONG[kind][:2], 150_000) if kind == "ab" else (LONG[kind][0], 1_000_000)
        doublings = [(unit * (1 << power)).encode() for power in range(most.bit_length()) if most >> power]
        assert [vocab[256 + i] for i in range(len(doublings) - 1)] == doublings[kind != "ab" :][: len(doublings) - 1]
    path.write_text(LONG[kind][: cases(50_000)])
    assert train_bpe(path, 281, [], engine="fast") == train_bpe(path, 281, [], engine="reference")


def test_real_text_trains_alike(shared_text):
    path = shared_text / "tinyshakespeare.txt"
    expected = learn_merges(count_pre_tokens(text_blocks(path), []), cases(5000))
    assert fast_learn(*count_files([path], []).words(), cases(5000)) == expected
