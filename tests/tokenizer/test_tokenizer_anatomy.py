from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.tokenizer import Tokenizer, train_bpe
from core.tokenizer.anatomy import Anatomy, lengths, merges_applied, pre_token_starts, train_on_text, with_vocab_size
from core.tokenizer.pretokenize import END_OF_TEXT, PATTERNS, pre_token_pattern
from core.tokenizer.samples import TALE, TONGUES, code

FUZZ = settings(deadline=None, derandomize=True, max_examples=60)
texts = st.lists(
    st.sampled_from([" the", "the", " tea", "é", "漢字", "\n", "  ", "12345", "'ll", END_OF_TEXT, "🙂", "The", "aaaa"]),
    max_size=20,
).map("".join)


@pytest.fixture(scope="module")
def tale():
    return train_on_text(TALE, 600, [END_OF_TEXT])


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("text", [TALE, TONGUES + END_OF_TEXT + "the end", code()], ids=["tale", "tongues", "code"])
def test_training_in_memory_is_training_on_a_file(tmp_path, text, pattern):
    (tmp_path / "text.txt").write_bytes(text.encode())
    vocab, merges = train_bpe(tmp_path / "text.txt", 400, [END_OF_TEXT], pattern=pattern)
    tokenizer = train_on_text(text, 400, [END_OF_TEXT], pattern=pattern)
    assert tokenizer.tokenizer_id == Tokenizer(vocab, merges, [END_OF_TEXT], pattern=pattern).tokenizer_id
    smaller = with_vocab_size(tokenizer, 300)
    assert smaller.tokenizer_id == train_on_text(text, 300, [END_OF_TEXT], pattern=pattern).tokenizer_id
    assert (smaller.vocab_size, smaller.pattern) == (300, pattern)


def test_no_text_teaches_nothing():
    assert train_on_text("", 300, [END_OF_TEXT]).merges == []
    assert train_on_text("", 256).vocab_size == 256
    assert with_vocab_size(train_on_text("aaaa", 300), 10).merges == []


@pytest.mark.parametrize("pattern", PATTERNS)
def test_one_encoding_tells_the_length_at_every_size(pattern):
    tokenizer = train_on_text(TALE + TONGUES, 700, [END_OF_TEXT], pattern=pattern)
    sizes = [257, 258, 263, 300, 420, 699, 700, 900]
    smaller = [with_vocab_size(tokenizer, size) for size in sizes]
    for text in (TALE, TONGUES, code(), f"the sea{END_OF_TEXT}the sea", "", "aaaaaaaaaaa 漢 éé"):
        assert lengths(tokenizer, text, sizes) == [len(each.encode(text)) for each in smaller]


def test_merges_are_counted_down_to_the_bytes():
    merges = [(b"a", b"b"), (b"ab", b"ab"), (b"c", b"d")]
    ranks = {b"ab": 0, b"abab": 1, b"cd": 2}
    assert merges_applied({b"abab": 3, b"ab": 1, b"x": 9}, merges, ranks) == Counter({0: 7, 1: 3})


@FUZZ
@given(text=texts)
def test_rows_are_the_tokens_in_order(tale, text):
    anatomy = Anatomy(tale)
    rows = anatomy.rows(text)
    assert [row["id"] for row in rows] == tale.encode(text)
    assert b"".join(row["token"] for row in rows) == text.encode()
    whole = text.encode()
    for row in rows:
        assert whole[row["start"] : row["start"] + len(row["token"])] == row["token"]
        assert row["special"] == (row["token"] == END_OF_TEXT.encode())
        if row["pair"]:
            assert tale.merges[row["rank"]] == row["pair"]
            assert b"".join(row["pair"]) == row["token"]
            assert row["id"] == 257 + row["rank"]
        else:
            assert row["rank"] is None
            assert row["special"] or row["id"] == row["token"][0]
    assert anatomy.rows(tale.encode(text)) == rows


def test_ids_that_are_not_in_the_vocabulary_are_named(tale):
    with pytest.raises(ValueError, match="id 600 is not in the vocabulary of 600"):
        Anatomy(tale).rows([104, 600])


@pytest.fixture(scope="module", params=PATTERNS)
def anatomy(request):
    return Anatomy(train_on_text(TALE, 500, [END_OF_TEXT], pattern=request.param), "a tale")


@FUZZ
@given(text=texts)
def test_no_token_reaches_across_the_start_of_a_pre_token(anatomy, text):
    starts, pattern = anatomy.starts(text), anatomy.tokenizer.pattern
    assert starts == pre_token_starts(text, pattern, [END_OF_TEXT])
    assert starts <= {row["start"] for row in anatomy.rows(text)}
    if END_OF_TEXT not in text:
        assert len(starts) == len(pre_token_pattern(pattern).findall(text))


def test_starts_are_counted_in_bytes_and_specials_stand_alone():
    assert sorted(pre_token_starts(f"é 漢{END_OF_TEXT}12 ", "gpt2", [END_OF_TEXT])) == [0, 2, 6, 19, 21]
    assert sorted(pre_token_starts("1234", "cl100k")) == [0, 3]


def test_the_code_is_this_project_s():
    folder = Path(__file__).parents[2] / "core" / "tokenizer"
    assert (folder / "tokenizer.py").read_text(encoding="utf-8") in code()
