import gzip
import re
from collections import Counter
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_bpe import naive_train, naive_words

from core.files import text_blocks
from core.tokenizer import train_bpe
from core.tokenizer.train import count_pre_tokens, train_bpe_files

FUZZ = settings(deadline=None, derandomize=True, max_examples=150)
REAL_TEXT = Path(__file__).parents[2].parent / "shared" / "data" / "text"

BYTES = {value: bytes([value]) for value in range(256)}
SPECIALS = ["<|a|>", "<|a|><|b|>", "a b", " <|", "b", "\n\n", "|><|", "漢 "]
specials_lists = st.lists(st.sampled_from(SPECIALS), unique=True, max_size=4)

small_texts = st.one_of(
    st.text("a", max_size=70),
    st.text("ab", max_size=70),
    st.text("abc ", max_size=70),
    st.lists(st.sampled_from(["aaaa", "aaa", "aa", "abab", "aba", " aa", " ab", "\n", "'s", "1a"]), max_size=25).map(
        "".join
    ),
)
unicode_texts = st.text(max_size=40)
texts_with_specials = st.lists(
    st.sampled_from([*SPECIALS, "<|", "|>", "a", "b", "ab", " ", "\n", "<|a", "aab", "é"]), max_size=40
).map("".join)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("train") / "text.txt"


def written(path, text):
    path.write_bytes(text.encode())
    return path


@FUZZ
@given(text=small_texts.filter(bool), extra=st.integers(0, 40))
def test_the_merges_are_those_of_the_naive_trainer(path, text, extra):
    assert train_bpe(written(path, text), 256 + extra, []) == naive_train(text, 256 + extra)


@FUZZ
@given(text=unicode_texts.filter(bool))
def test_unicode_text_merges_as_bytes(path, text):
    assert train_bpe(written(path, text), 286, []) == naive_train(text, 286)


@FUZZ
@given(text=texts_with_specials.filter(bool), specials=specials_lists)
def test_special_tokens_cut_the_text_and_never_merge(path, text, specials):
    size = 280 + len(specials)
    assert train_bpe(written(path, text), size, specials) == naive_train(text, size, specials)


@FUZZ
@given(text=texts_with_specials, specials=specials_lists, data=st.data())
def test_pre_tokens_are_counted_alike_wherever_the_stream_is_cut(text, specials, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    blocks = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert count_pre_tokens(blocks, specials) == Counter(naive_words(text, specials))


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 5, 13])
def test_a_special_token_may_lie_across_file_blocks(path, block_bytes):
    text = "αβ γ<|endoftext|> don't\r\n<|endoftext|>漢字 <|endof text|>" * 3
    counts = count_pre_tokens(text_blocks(written(path, text), block_bytes), ["<|endoftext|>"])
    assert counts == Counter(naive_words(text, ["<|endoftext|>"]))


def test_ties_go_to_the_greatest_pair_of_bytes_not_of_ids(path):
    # After (a, b) -> ab, (ab, c) and (z, d) are equally frequent: ab is the younger symbol, z the greater byte.
    _, merges = train_bpe(written(path, "abc\nabc\nabc\nab\nab\nzd\nzd\nzd"), 259, [])
    assert merges == [(b"a", b"b"), (b"z", b"d"), (b"ab", b"c")]


def test_a_prefix_is_less_than_what_extends_it(path):
    # (a, b) -> ab; then (a, c) and (ab, c) tie at 2, and (b"ab", ...) > (b"a", ...).
    text = "ab\nab\nab\nabc\nabc\nac\nac"
    _, merges = train_bpe(written(path, text), 259, [])
    assert merges == [(b"a", b"b"), (b"ab", b"c"), (b"a", b"c")]


def test_overlapping_pairs_merge_from_the_left(path):
    # aaaaa holds (a, a) four times and becomes aa aa a.
    vocab, merges = train_bpe(written(path, "aaaaa"), 270, [])
    assert merges == [(b"a", b"a"), (b"aa", b"aa"), (b"aaaa", b"a")]
    assert vocab == BYTES | {256: b"aa", 257: b"aaaa", 258: b"aaaaa"}


def test_ids_are_bytes_then_specials_in_the_given_order_then_merges(path):
    vocab, merges = train_bpe(written(path, "zz<|b|>zz<|a|>"), 259, ["<|b|>", "<|a|>"])
    assert vocab == BYTES | {256: b"<|b|>", 257: b"<|a|>", 258: b"zz"}
    assert merges == [(b"z", b"z")]


def test_training_stops_when_no_pair_is_left(path):
    vocab, merges = train_bpe(written(path, "abc" * 5 + " d"), 10_000, ["<|endoftext|>"])
    assert (vocab, merges) == naive_train("abc" * 5 + " d", 10_000, ["<|endoftext|>"])
    assert len(vocab) == 257 + len(merges) < 300


def test_the_smallest_vocabulary_has_no_merges(path):
    assert train_bpe(written(path, "aaaa"), 257, ["<|x|>"]) == (BYTES | {256: b"<|x|>"}, [])


def test_newlines_are_kept_as_they_stand(path):
    text = "one\r\n\r\ntwo\r\n\r\nthree\rfour\n" * 3
    vocab, merges = train_bpe(written(path, text), 270, [])
    assert (vocab, merges) == naive_train(text, 270)
    assert b"\r\n" in vocab.values()


def test_compressed_files_train_alike(tmp_path):
    text = "the cat and the hat<|endoftext|>that café\r\n" * 20
    plain = written(tmp_path / "a.txt", text)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "a.txt.zst").write_bytes(zstandard.ZstdCompressor().compress(text.encode()))
    expected = naive_train(text, 300, ["<|endoftext|>"])
    for path in (plain, tmp_path / "a.txt.gz", tmp_path / "a.txt.zst"):
        assert train_bpe(path, 300, ["<|endoftext|>"]) == expected


def test_no_pre_token_crosses_from_one_file_into_the_next(tmp_path):
    paths = [written(tmp_path / "1.txt", "ababab"), written(tmp_path / "2.txt", "bababa")]
    _, merges = train_bpe_files(paths, 400, [])
    assert merges == naive_train("ababab|bababa", 401, ["|"])[1]
    assert max(len(left + right) for left, right in merges) == 6


def test_progress_counts_the_merges(path):
    calls = []
    train_bpe(written(path, "aaaa bbbb"), 300, [], on_merge=lambda done, wanted: calls.append((done, wanted)))
    assert calls == [(done, 44) for done in range(1, len(naive_train("aaaa bbbb", 300)[1]) + 1)]


@pytest.mark.parametrize(
    ("vocab_size", "specials", "message"),
    [
        (255, [], "vocab_size is 255: it must be at least 256"),
        (0, [], "vocab_size is 0"),
        (257, ["<|x|>", "<|y|>"], "vocab_size is 257: it must be at least 258"),
        (300, ["<|x|>", "<|y|>", "<|x|>"], "['<|x|>', '<|y|>', '<|x|>']"),
        (300, ["<|x|>", ""], "special token ''"),
        (300, [7], "special token 7"),
    ],
)
def test_bad_arguments_are_named(path, vocab_size, specials, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        train_bpe(written(path, "abc"), vocab_size, specials)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"good \xff bad", "not UTF-8 at byte 5"),
        ("é".encode() + b"abc\xc3", "not UTF-8 at byte 5"),
        (b"x" * ((1 << 20) - 1) + b"\xe6\xbc" + b"y", f"not UTF-8 at byte {(1 << 20) - 1}"),
    ],
    ids=["empty", "wrong byte", "cut off", "across a block"],
)
def test_bad_files_are_named(tmp_path, content, message):
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{path}: {message}")):
        train_bpe(path, 300, [])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'absent.txt'}: no such file")):
        train_bpe(tmp_path / "absent.txt", 300, [])


@pytest.mark.skipif(not REAL_TEXT.is_dir(), reason="no shared/data/text")
def test_real_text_is_counted_and_merged_like_the_naive_trainer(path):
    text = (REAL_TEXT / "tinystories_sample.txt").read_text(encoding="utf-8")
    counts = count_pre_tokens(text_blocks(REAL_TEXT / "tinystories_sample.txt", 4099), ["<|endoftext|>"])
    assert counts == Counter(naive_words(text, ["<|endoftext|>"]))
    text = text[:12_000]
    assert train_bpe(written(path, text), 320, ["<|endoftext|>"]) == naive_train(text, 320, ["<|endoftext|>"])
