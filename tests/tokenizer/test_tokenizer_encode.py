import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_bpe import naive_encode, naive_train

from core.tokenizer import Tokenizer

FUZZ = settings(deadline=None, derandomize=True, max_examples=200)
REAL_TEXT = Path(__file__).parents[2].parent / "shared" / "data" / "text"

BYTES = {value: bytes([value]) for value in range(256)}
SPECIALS = ["<|a|>", "<|a|><|b|>", "a b", " <|", "\n\n", "|><|", "漢 ", "<|endoftext|>"]

# str.isspace and \s differ on U+001C to U+001F; U+180E and U+200B were white space once or look like it.
WHITE_SPACE = [chr(code) for code in range(0x110000) if chr(code).isspace()] + ["\u180e", "\u200b", "\ufeff"]
AWKWARD = [
    *WHITE_SPACE,
    *("e\u0301", "\u0301", "\u20dd", "\u093f", "\u0e33", "n\u0303 "),  # combining marks
    *("漢字", "かな", "한국", "ﬁ", "ǆ", "ß", "İ", "العربية", "שלום", "\u200f", "١٢٣", "Ⅷ", "½", "²"),
    *("👨\u200d👩\u200d👧", "🏳\ufe0f\u200d🌈", "👍🏽", "🇩🇪", "😀", "\u200d"),
    *("\r\n", "\r\n\r\n", "  \r\n\t", "\x00", "\x7f", "\x80", "\ufffd", "\ufffe"),
    *("'s", "'S", "'ll", "'ve", "'re", "'t", "'d", "'m", "’s", "'", "''s", "don't", " 'tis"),
    *("\u0378", "\ue000", "\U000e0080", "\U0010ffff"),  # unassigned, private, the last one
    *("a", "ab", "the ", " the", "aaaa", "A", "1", "12", " 3", ".", "...", " --", "_", "$ ", "<|", "|>", "<|end"),
]
awkward_texts = st.lists(st.sampled_from([*AWKWARD, *SPECIALS]), max_size=25).map("".join)
texts = st.one_of(awkward_texts, st.text(max_size=30), st.text("ab <|>\n", max_size=40))
specials_lists = st.lists(st.sampled_from(SPECIALS), unique=True, max_size=4)

TRAINED = naive_train("".join(random.Random(2).choices(AWKWARD, k=500)) + " the then that aab aaaa" * 9, 380)


@st.composite
def vocabularies(draw):
    """Merges as no training makes them: a late one may feed an early one, two may spell the same bytes."""
    tokens, merges = [b"a", b"b", b" ", b"<", b"\xe6", b"\xbc", b"\xa2"], []
    for _ in range(draw(st.integers(0, 14))):
        pair = draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens))
        merges.append(pair)
        tokens.append(pair[0] + pair[1])
    merges = draw(st.permutations(merges))
    return dict(enumerate([*BYTES.values(), *(left + right for left, right in merges)])), merges


@FUZZ
@given(text=texts, specials=specials_lists)
def test_the_ids_are_those_of_the_naive_encoder(text, specials):
    tokenizer = Tokenizer(*TRAINED, specials)
    assert tokenizer.encode(text) == naive_encode(text, tokenizer.vocab, TRAINED[1], specials)


@FUZZ
@given(vocabulary=vocabularies(), text=st.text("ab <漢", max_size=30))
def test_any_order_of_merges_is_followed(vocabulary, text):
    assert Tokenizer(*vocabulary).encode(text) == naive_encode(text, *vocabulary)


@FUZZ
@given(text=texts, specials=specials_lists)
def test_decoding_gives_the_text_back(text, specials):
    tokenizer = Tokenizer(*TRAINED, specials)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode(text)) == text  # from the cache now


def test_every_awkward_atom_beside_every_other():
    tokenizer = Tokenizer(*TRAINED)
    for left in AWKWARD:
        text = "".join(f"{left}{right}x" for right in AWKWARD)
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
    assert ids == naive_encode(text, *TRAINED)


@FUZZ
@given(st.lists(st.integers(0, 255), max_size=12))
def test_bytes_that_are_not_utf8_decode_as_python_replaces_them(ids):
    assert Tokenizer(BYTES, []).decode(ids) == bytes(ids).decode(errors="replace")


def test_a_character_cut_in_two_decodes_to_the_replacement_sign():
    tokenizer = Tokenizer(BYTES, [])
    ids = tokenizer.encode("漢")
    assert tokenizer.decode(ids[:2]) == "\ufffd"
    assert tokenizer.decode_bytes(ids[:2]) == b"\xe6\xbc"


@pytest.mark.parametrize("token_id", [256, -1, 10**9])
def test_an_unknown_id_is_named(token_id):
    with pytest.raises(ValueError, match=rf"id {token_id} is not in the vocabulary of 256"):
        Tokenizer(BYTES, []).decode([97, token_id])


def test_nothing_encodes_to_nothing():
    tokenizer = Tokenizer(BYTES, [], ["<|x|>"])
    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""


def test_special_tokens_that_the_vocabulary_lacks_get_the_next_ids():
    vocab = BYTES | {256: b"<|x|>", 300: b"ab"}
    tokenizer = Tokenizer(vocab, [(b"a", b"b")], ["<|y|>", "<|x|>", "<|z|>"])
    assert [tokenizer.special_id(token) for token in ("<|y|>", "<|x|>", "<|z|>")] == [301, 256, 302]
    assert tokenizer.encode("<|z|>ab<|x|><|y|>") == [302, 300, 256, 301]
    assert tokenizer.vocab_size == 303
    assert tokenizer.special_id("ab") is None
    assert vocab == BYTES | {256: b"<|x|>", 300: b"ab"}


@pytest.mark.parametrize("specials", [["<|a|>", "<|a|><|b|>"], ["<|a|><|b|>", "<|a|>"]])
def test_the_longest_special_token_wins(specials):
    tokenizer = Tokenizer(BYTES, [], specials)
    assert tokenizer.encode("<|a|><|b|>") == [tokenizer.special_id("<|a|><|b|>")]
    assert tokenizer.encode("<|a|><|b") == [tokenizer.special_id("<|a|>"), *b"<|b"]


def test_a_special_token_that_starts_earlier_wins_over_a_longer_one():
    tokenizer = Tokenizer(BYTES, [], ["xy", "yzzz"])
    assert tokenizer.encode("xyzzz") == [256, *b"zzz"]


def test_special_tokens_are_literal_text_not_patterns():
    tokenizer = Tokenizer(BYTES, [], [".*", "[a]", "\\d"])
    assert tokenizer.encode("a.*[a]\\d7") == [97, 256, 257, 258, 55]


def test_an_undeclared_special_token_is_ordinary_text():
    vocab = BYTES | {256: b"<|endoftext|>"}
    assert Tokenizer(vocab, []).encode("<|endoftext|>") == list(b"<|endoftext|>")
    assert Tokenizer(vocab, [], ["<|endoftext|>"]).encode("<|endoftext|>") == [256]


def test_a_merge_never_crosses_a_special_token():
    tokenizer = Tokenizer(BYTES | {256: b"ab"}, [(b"a", b"b")], ["|"])
    assert tokenizer.encode("a|bab") == [97, tokenizer.special_id("|"), 98, 256]


def test_of_two_ids_that_spell_the_same_bytes_the_lower_is_used():
    vocab = BYTES | {256: b"ab", 257: b"bc", 258: b"abc", 259: b"abc"}
    tokenizer = Tokenizer(vocab, [(b"b", b"c"), (b"a", b"b"), (b"ab", b"c"), (b"a", b"bc")])
    assert tokenizer.encode("abc") == [258]
    assert tokenizer.decode([259]) == "abc"


def test_a_megabyte_of_one_letter_encodes():
    """One pre-token: an encoder that looks at all pairs for every merge would take days."""
    tokenizer = Tokenizer(BYTES | {256: b"aaa", 257: b"aa"}, [(b"a", b"a"), (b"aa", b"a")])
    assert tokenizer.encode("a" * 1_000_000) == [257] * 500_000


def test_the_cache_is_bounded_and_changes_nothing(monkeypatch):
    monkeypatch.setattr("core.tokenizer.tokenizer._CACHE_ENTRIES", 5)
    monkeypatch.setattr("core.tokenizer.tokenizer._CACHE_LONGEST", 4)
    tokenizer = Tokenizer(*TRAINED)
    text = " the then that aab aaaa the aaaaaaaa then" * 3
    assert tokenizer.encode(text) == naive_encode(text, *TRAINED)
    assert len(tokenizer._cache) <= 5
    assert max(map(len, tokenizer._cache)) <= 4


@pytest.mark.parametrize(
    ("vocab", "merges", "specials", "message"),
    [
        ({}, [], [], "lacks 256 of the 256 single bytes, the first is 0"),
        (
            {k: v for k, v in BYTES.items() if k not in (7, 9)},
            [],
            [],
            "lacks 2 of the 256 single bytes, the first is 7",
        ),
        (BYTES, [(b"a", b"b")], [], "merge 0 (b'a', b'b'): the vocabulary has no token b'ab'"),
        (BYTES | {256: b"abc"}, [(b"ab", b"c")], [], "the vocabulary has no token b'ab'"),
        (BYTES, [], ["x", ""], "special token ''"),
        (BYTES, [], ["<|x|>", "<|x|>"], "['<|x|>', '<|x|>']"),
        (BYTES, [], [b"<|x|>"], "special token b'<|x|>'"),
    ],
)
def test_what_does_not_fit_together_is_named(vocab, merges, specials, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Tokenizer(vocab, merges, specials)


def test_the_tokenizer_id_changes_with_everything_that_changes_an_encoding():
    vocab = BYTES | {256: b"ab", 257: b"bc"}
    merges = [(b"a", b"b"), (b"b", b"c")]
    ids = [
        Tokenizer(vocab, merges).tokenizer_id,
        Tokenizer(vocab, merges[::-1]).tokenizer_id,
        Tokenizer(vocab, merges[:1]).tokenizer_id,
        Tokenizer(vocab | {256: b"bc", 257: b"ab"}, merges).tokenizer_id,
        Tokenizer(vocab, merges, ["ab"]).tokenizer_id,
        Tokenizer(vocab, merges, ["<|x|>"]).tokenizer_id,
    ]
    assert len(set(ids)) == len(ids)
    assert Tokenizer(dict(reversed(vocab.items())), tuple(merges), []).tokenizer_id == ids[0]


@pytest.mark.skipif(not REAL_TEXT.is_dir(), reason="no shared/data/text")
def test_real_text_encodes_as_the_naive_encoder_does():
    text = (REAL_TEXT / "tinystories_sample.txt").read_text(encoding="utf-8")
    vocab, merges = naive_train(text[:8_000], 340)
    tokenizer = Tokenizer(vocab, merges, ["<|endoftext|>"])
    assert tokenizer.decode(tokenizer.encode(text)) == text
    part = text[-8_000:]
    assert tokenizer.encode(part) == naive_encode(part, tokenizer.vocab, merges, ["<|endoftext|>"])
