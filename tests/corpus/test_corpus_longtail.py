import hashlib
import itertools
import sys
from collections import Counter

import numpy as np
import pytest
import regex

import core.cli.app
from core.corpus import longtail
from core.corpus.longtail import longtail_block, longtail_blocks, write_longtail
from core.corpus.longtail_words import (
    CHINESE,
    CYRILLIC,
    DOCUMENT_KINDS,
    LATIN,
    SEPARATORS,
    capitalise,
    quantiles,
    spell,
    text_rows,
)
from core.tokenizer.pretokenize import END_OF_TEXT, pre_token_pattern
from core.tokenizer.train import count_pre_tokens


@pytest.fixture(scope="module")
def text():
    """The first four blocks."""
    return b"".join(itertools.islice(longtail_blocks(), 4)).decode()


def words(script, ranks):
    rows = spell(np.array(ranks), np.full(len(ranks), script))
    return [bytes(row).replace(b"\0", b"").decode() for row in rows]


def test_the_text_is_the_same_everywhere_and_always():
    digests = [hashlib.sha256(longtail_block(*place)).hexdigest() for place in [(0, 0), (7, 3)]]
    assert digests == [
        "b0fa2cb2d309ff4a7c95eff35e9f5525f1a5ff52774a82601da1a0a8a2beeef1",
        "cefd68c3bac79b5aa9ef480390bebd98b0931a7f9f0b5ce0b4c8d0c7ea25e2a7",
    ]


def test_a_file_is_the_beginning_of_the_stream_up_to_the_end_of_a_document(tmp_path):
    stream = longtail_block(5, 0) + longtail_block(5, 1)
    marker = END_OF_TEXT.encode()
    one = stream.index(marker) + len(marker)
    for size in (1, one - 1, one, one + 1, len(longtail_block(5, 0)), len(longtail_block(5, 0)) + 1):
        progress = []
        path = write_longtail(tmp_path / "text.txt", size, seed=5, progress=progress.append)
        expected = stream[: stream.index(marker, max(0, size - len(marker))) + len(marker)]
        assert path.read_bytes() == expected
        assert progress[-1] == len(expected) >= size
    assert len(expected) > len(longtail_block(5, 0))
    assert [file.name for file in tmp_path.iterdir()] == ["text.txt"]


def test_bad_sizes_and_seeds_are_refused(tmp_path):
    with pytest.raises(ValueError, match="num_bytes is 0: it must be positive"):
        write_longtail(tmp_path / "text.txt", 0)
    with pytest.raises(ValueError, match="seed is -1: it must not be negative"):
        write_longtail(tmp_path / "text.txt", 9, seed=-1)
    assert list(tmp_path.iterdir()) == []


def test_pre_tokens_are_as_long_and_as_varied_as_those_of_the_web(text):
    half = text[: text.index(END_OF_TEXT, len(text) // 4) + len(END_OF_TEXT)]
    counts, fewer = (count_pre_tokens([part], [END_OF_TEXT]) for part in (text, half))
    growth = np.log(len(counts) / len(fewer)) / np.log(counts.total() / fewer.total())
    assert 0.6 < growth < 0.75  # Heaps' exponent
    assert 48_000 < len(counts) < 62_000
    assert 4.4 < len(text.encode()) / counts.total() < 4.8
    lengths = Counter()
    for token, count in counts.items():
        lengths[min(len(token.encode()), 17)] += count
    assert lengths[17] > 30  # too long for two machine words
    assert 0.04 < sum(lengths[size] for size in range(9, 17)) / counts.total() < 0.1


def test_there_is_something_of_everything(text):
    letters = Counter(text)
    foreign = sum(count * len(letter.encode()) for letter, count in letters.items() if letter > "\x7f")
    assert 0.03 < foreign / len(text.encode()) < 0.06
    for pattern in (
        r"\p{Greek}{4}",
        r"\p{Cyrillic}{4}",
        r"\p{Han}{2}",
        r"[a-z][éü][a-z]",
        r"\p{Emoji_Modifier}",
        r"[a-z]'(s|t|ll|ve|re|m|d) ",
        r"[a-z]\. [A-Z][a-z]",
        r" \d{4} ",
        r"\n\n[A-Z]",
        r"\n {4}\w",
        r"\n\t\t\w",
        r"\r\n",
        r" [A-Z]{2,4} ",
        r"[a-z]_[a-z]",
    ):
        assert regex.search(pattern, text), pattern
    assert "\0" not in text


def test_documents_have_the_sizes_they_should(text):
    documents = text.split(END_OF_TEXT)
    assert documents.pop() == ""
    sizes = [len(document.encode()) for document in documents]
    assert 150 < min(sizes) < 500
    assert 8_000 < max(sizes) < 14_000
    assert 2_000 < np.mean(sizes) < 4_000
    assert all(document.startswith("\n") and document.endswith(".\n") for document in documents)


def test_frequencies_follow_the_law():
    tables = longtail._tables()
    ranks = np.arange(1, longtail.NUM_COMMON + 1)
    law = np.where(ranks < longtail.KNEE, 1 / (ranks + 2.7), longtail.KNEE**0.5 * ranks**-1.5)
    room = np.bincount(tables.common, minlength=longtail.NUM_COMMON)
    np.testing.assert_allclose(room, law / law.sum() * 2**20, atol=1.001)
    beyond = np.arange(longtail.NUM_COMMON + 1, longtail.NUM_WORDS, dtype=float)
    rest = longtail.KNEE**0.5 * (beyond**-1.5).sum()
    assert tables.tail == pytest.approx(rest / (law.sum() + rest), rel=1e-4)

    drawn = longtail._rare_ranks(np.arange(10_000, dtype=np.uint64) * np.uint64(2**64 // 10_000))
    assert longtail.NUM_COMMON <= drawn.min() < drawn.max() <= longtail.NUM_WORDS
    for rank in (50_000, 300_000, 2_000_000):
        above = (beyond[beyond > rank] ** -1.5).sum() / (beyond**-1.5).sum()
        assert (drawn > rank).mean() == pytest.approx(above, abs=1e-3)


def test_words_are_functions_of_their_rank_and_longer_where_they_are_rarer():
    assert words(LATIN, [3, 70_000, 2_999_999]) == [words(LATIN, [rank])[0] for rank in (3, 70_000, 2_999_999)]
    lengths = [np.mean([len(word) for word in words(LATIN, range(start, start + 500))]) for start in (0, 5000, 10**6)]
    assert lengths == sorted(lengths)
    assert lengths[0] < 6 < 9 < lengths[2]
    many = words(LATIN, range(10**6, 10**6 + 20_000))
    assert len(set(many)) > 19_900
    expected = {r"\d+": 0.025, r"[A-Z][a-z]+": 0.04, r"[A-Z]{1,4}": 0.017, r"[a-z]+": 0.918}
    shares = {pattern: np.mean([bool(regex.fullmatch(pattern, word)) for word in many]) for pattern in expected}
    assert shares == pytest.approx(expected, rel=0.1)
    assert all(regex.fullmatch(r"\p{Han}{1,4}|\d+", word) for word in words(CHINESE, range(1000)))
    assert all(regex.fullmatch(r"\p{Cyrillic}{2,8}|\d+", word) for word in words(CYRILLIC, range(1000)))


def test_quantiles_give_each_choice_its_room():
    weights = np.array([5.0, 0.5, 2.5, 8.0])
    assert np.bincount(quantiles(weights, 5)).tolist() == [10, 1, 5, 16]


def test_rows_of_text():
    assert text_rows(["ab", ""], 3).tolist() == [[97, 98, 0], [0, 0, 0]]
    assert text_rows(["ab", "é"], 3, right=True).tolist() == [[0, 97, 98], [0, 0xC3, 0xA9]]
    with pytest.raises(ValueError, match="'abcd' has 4 bytes: 3 at most"):
        text_rows(["abcd"], 3)
    rows = text_rows(["ab", "zb", "é", "9", "Ab", "ab"], 2)
    capitals = capitalise(rows, np.array([1, 1, 1, 1, 1, 0]))
    assert capitals.tobytes().rstrip(b"\0") == "AbZbé9\0Abab".encode()


def test_separators_keep_words_apart():
    assert {script for _, _, script in DOCUMENT_KINDS} == set(range(5))
    cut = pre_token_pattern("gpt2").findall
    for kind in SEPARATORS[:2]:
        for _, separator, _ in kind:
            assert separator == "" or cut(f"tan{separator}rel")[0] == "tan", separator


def test_the_command_writes_the_file(tmp_path, monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["workbook", "data", "longtail", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            core.cli.app.main()
        return stopped.value.code

    assert run(tmp_path / "text.txt", "--bytes", 9000, "--seed", 2) == 0
    assert capsys.readouterr().out.endswith(f"text.txt: {(tmp_path / 'text.txt').stat().st_size:,} bytes\n")
    assert (tmp_path / "text.txt").read_bytes() == write_longtail(tmp_path / "same.txt", 9000, seed=2).read_bytes()
    assert run(tmp_path) == 2
    assert "a folder; name the file to write" in capsys.readouterr().err
