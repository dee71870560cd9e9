import random
from concurrent.futures import ThreadPoolExecutor
from string import ascii_lowercase

import numpy as np
import pytest
from fast_cases import ReferenceTokenizer, assert_encodes_alike, awkward, cases, segments_of, trained
from naive_bpe import naive_encode

from core.tokenizer import Tokenizer
from core.tokenizer.fast.encoder import MOST_WORDS, SHORT_TEXT, Encoder
from core.tokenizer.fast.merging import LANES, merge_tables
from core.tokenizer.fast.words import WORDS, new_table
from core.tokenizer.pretokenize import PATTERNS

both_patterns = pytest.mark.parametrize("pattern", PATTERNS)

BYTES = {value: bytes([value]) for value in range(256)}
SPECIALS = ["<|endoftext|>", "<|end", "a b", "\n\n", " s", "'"]


@pytest.fixture(scope="module", params=PATTERNS)
def tokenizer(request):
    return trained("".join(awkward(3000, 20)), 1500, pattern=request.param)


def with_ids(tokenizer, ids):
    """The same tokens under other ids."""
    vocab = dict(zip(ids, tokenizer.vocab.values(), strict=True))
    return ReferenceTokenizer(vocab, tokenizer.merges, tokenizer.special_tokens, pattern=tokenizer.pattern)


def random_merges(source, alphabet, count):
    """Merges of tokens that there are, in an order that no training gives."""
    tokens, merges = [bytes([byte]) for byte in alphabet.encode()], []
    for _ in range(count):
        pair = source.choice(tokens), source.choice(tokens)
        if pair not in merges and len(pair[0] + pair[1]) < 90:
            merges.append(pair)
            tokens.append(pair[0] + pair[1])
    source.shuffle(merges)
    extra = dict.fromkeys(left + right for left, right in merges)
    return dict(enumerate([*BYTES.values(), *extra])), merges


def test_awkward_texts_get_the_ids_of_the_reference(tokenizer):
    assert_encodes_alike(tokenizer, awkward(50_000, 21))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2100, 2102))
def test_many_more_awkward_texts(tokenizer, seed):
    assert_encodes_alike(tokenizer, awkward(200_000, seed))


@both_patterns
def test_special_tokens_of_all_kinds_among_awkward_texts(pattern):
    tokenizer = trained("".join(awkward(2000, 22)), 700, SPECIALS, pattern)
    assert_encodes_alike(tokenizer, awkward(20_000, 23, more=[*SPECIALS, "<|", "endoftext|>"]))


def test_ids_in_any_order_and_of_any_size(tokenizer):
    size, source = len(tokenizer.vocab), random.Random(24)
    texts = awkward(5000, 25)
    assert_encodes_alike(with_ids(tokenizer, source.sample(range(size), size)), texts)
    assert_encodes_alike(with_ids(tokenizer, source.sample(range((1 << 20) - size, (1 << 20) + size), size)), texts)
    assert_encodes_alike(with_ids(tokenizer, source.sample(range((1 << 21) - 1 - size, (1 << 21) - 1), size)), texts)


def test_more_ids_than_fit_are_refused():
    ids = [*range(255), (1 << 21) - 2]
    assert merge_tables(ids, {}, 0).byte_ids.tolist() == ids
    with pytest.raises(ValueError, match="the largest id is 2097151 "):
        merge_tables([*range(255), (1 << 21) - 1], {}, 0)
    with pytest.raises(ValueError, match="4194304 merges"):
        merge_tables(list(range(256)), {}, 1 << 22)


def test_two_merges_whose_rows_collide_at_every_shift():
    assert_encodes_alike(
        ReferenceTokenizer(BYTES | {256: b"fe", 257: b"bz"}, [(b"f", b"e"), (b"b", b"z")]), ["febzfbez"]
    )


def test_every_two_letters_merge():
    source, letters = random.Random(34), [b"%c" % byte for byte in b"abcdefghijklmnopqrstuvwxyz"]
    for count in (3, 60, 64, 127, 128, 400, 676):
        merges = source.sample([(left, right) for left in letters for right in letters], count)
        vocab = dict(enumerate([*BYTES.values(), *(left + right for left, right in merges)]))
        assert_encodes_alike(ReferenceTokenizer(vocab, merges), ["".join(source.choices(ascii_lowercase, k=2000))])


def test_tokens_that_have_several_ids_and_merges_that_spell_the_same():
    vocab = BYTES | {
        256: b"ab",
        257: b"bc",
        258: b"abc",
        300: b"abc",
        301: b"ab",
        302: b"a",
        5000: b"abcab",
        5001: b"ca",
    }
    merges = [(b"b", b"c"), (b"a", b"b"), (b"ab", b"c"), (b"c", b"a"), (b"a", b"bc"), (b"abc", b"ab"), (b"a", b"b")]
    source = random.Random(26)
    texts = ["".join(source.choices("abc ", k=source.randrange(100))) for _ in range(cases(3000))]
    assert_encodes_alike(ReferenceTokenizer(vocab, merges), texts)


@pytest.mark.parametrize("alphabet", ["a", "ab", "abc", "aé"])
def test_merges_in_any_order_on_words_of_every_length(alphabet):
    source = random.Random(27)
    for _ in range(cases(60)):
        vocab, merges = random_merges(source, alphabet, source.randrange(1, 60))
        words = ["".join(source.choices(alphabet, k=source.randrange(2 * LANES + 40))) for _ in range(60)]
        words += [alphabet[0] * size for size in (1, 7, 8, 9, 16, 17, LANES - 1, LANES, LANES + 1, 300)]
        assert_encodes_alike(ReferenceTokenizer(vocab, merges), words)
        for word in words[:5]:
            fast = Tokenizer(vocab, merges).fast_encoder().encode(word[:40])
            assert fast == naive_encode(word[:40], vocab, merges)


LONG = {
    "a": lambda source: "a" * 1_000_000,
    "letters": lambda source: "".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=1_000_000)),
    "spaces": lambda source: " " * 1_000_000,
    "ab": lambda source: "ab" * 150_000,
    "signs": lambda source: "".join(source.choices("!?-", k=300_000)),
    "漢": lambda source: "漢" * 100_000,
}


@pytest.mark.parametrize("kind", LONG)
def test_a_very_long_pre_token(kind):
    text = LONG[kind](random.Random(28))
    tokenizer = trained(text[:2048], 200)
    fast = tokenizer.fast(1)
    ids = fast.encode(text)
    assert b"".join(map(tokenizer.vocab.__getitem__, ids)) == text.encode()
    assert fast.encode(text[:50_000]) == tokenizer.encode(text[:50_000])
    if kind in ("a", "spaces"):  # tokens of 1, 2, 4 ... 2048 of them, and a million is 488 * 2048 + 512 + 64
        assert [tokenizer.vocab[token_id][1:] for token_id in ids[488:]] == [text[1:512].encode(), text[1:64].encode()]


def test_texts_longer_than_many_blocks(tokenizer):
    texts = ["x" * seed + "".join(awkward(8000, 2900 + seed)) for seed in range(3)]
    texts += ["12345678901 " * 9000, "漢字。仮名" * 9000, "абв" * 30_000, "1!" * 50_000, "", "a"]
    assert_encodes_alike(tokenizer, texts)


def test_a_text_gets_the_same_ids_alone_in_a_batch_and_twice(tokenizer):
    texts, fast = awkward(2000, 30), tokenizer.fast(1)
    batch = fast.encode_batch(texts)
    assert [fast.encode(text) for text in texts] == batch
    assert tokenizer.fast(1).encode_batch(texts[::-1]) == batch[::-1]
    assert fast.encode_batch([]) == []
    assert fast.encode_batch(["", "", "a", ""]) == [[], [], [97], []]


def test_one_encoder_may_be_used_from_several_threads(tokenizer):
    fast, texts = tokenizer.fast(), ["".join(awkward(40, seed)) for seed in range(200)]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(fast.encode, texts)) == list(map(tokenizer.encode, texts))


def encoder_of(tokenizer):
    return Encoder(merge_tables(tokenizer._byte_ids, tokenizer._merged, len(tokenizer.merges)), tokenizer.pattern)


def encoded(encoder, texts):
    buffer, rows = segments_of([text.encode() for text in texts])
    return encoder.encode(buffer, np.column_stack([rows, np.full(len(rows), -1)]))[0].tolist()


def test_small_tables_grow_and_keep_what_they_hold(tokenizer):
    encoder, source = encoder_of(tokenizer), random.Random(31)
    encoder._table, encoder._pool = new_table(1 << 8), np.zeros(16, np.int32)
    texts = ["".join(source.choices("abcdefghij ", k=9)) for _ in range(cases(20_000))] + awkward(3000, 32)
    for part in (texts[:100], texts, texts):
        assert encoded(encoder, part) == [token_id for text in part for token_id in tokenizer.encode(text)]


def test_short_and_long_texts_share_what_an_encoder_has_met(tokenizer):
    encoder, source = encoder_of(tokenizer), random.Random(34)
    encoder._table, encoder._pool = new_table(1 << 8), np.zeros(16, np.int32)
    texts = ["".join(source.choices("abcdefghij 漢", k=source.randrange(60))) for _ in range(cases(5000))]
    for number, text in enumerate(texts):
        assert encoder.encode_short(text.encode()) == tokenizer.encode(text), text
        if number % 97 == 0:
            long = "".join(texts[: 10 * number])  # what it works in grows, too
            assert encoded(encoder, [long, text]) == tokenizer.encode(long) + tokenizer.encode(text)
    words = int(encoder._table.used[WORDS])
    assert encoded(encoder, texts) == [token_id for text in texts for token_id in encoder.encode_short(text.encode())]
    assert int(encoder._table.used[WORDS]) == words


@pytest.mark.parametrize("size", [0, 1, SHORT_TEXT - 1, SHORT_TEXT, SHORT_TEXT + 1])
def test_the_longest_short_text(tokenizer, size):
    text = ("the 12 hats " * SHORT_TEXT)[:size]
    assert tokenizer.fast().encode(text) == tokenizer.encode(text)


@pytest.mark.slow
def test_ids_stay_the_same_when_the_table_forgets(tokenizer):
    source, encoder = random.Random(33), encoder_of(tokenizer)
    words = ["".join(source.choices("abcdefghijklmnop", k=7)) for _ in range(1_200_000)]
    assert len(set(words)) > MOST_WORDS
    for text in (" ".join(words), " ".join(words[:100_000]), " ".join(words[-100_000:])):
        assert encoded(encoder, [text]) == tokenizer.encode(text)
    assert encoder._table.used[WORDS] < MOST_WORDS // 2


def test_a_lone_surrogate_is_refused_as_by_the_reference(tokenizer):
    for text in ("a \ud800", "\udfff"):
        for encode in (tokenizer.encode, tokenizer.fast().encode):
            with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
                encode(text)
