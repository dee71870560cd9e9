import base64
import random
import re
from itertools import pairwise

import pytest
from awkward_text import awkward_texts
from naive_bpe import naive_encode, naive_train

from core.tokenizer import Tokenizer, train_bpe
from core.tokenizer.pretokenize import PATTERNS
from core.tokenizer.ranks import merges_of_ranks, read_ranks, write_ranks

BYTES = {value: bytes([value]) for value in range(256)}
SPECIALS = ["<|endoftext|>", " <|s p|>", "\n\n\n"]


def naive_rank_encode(word, ranks):
    """tiktoken's rule: of all neighbours that spell a token those of the lowest rank merge, the leftmost first."""
    parts = [bytes([value]) for value in word]
    while ranked := [(ranks[a + b], at) for at, (a, b) in enumerate(pairwise(parts)) if a + b in ranks]:
        _, at = min(ranked)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return [ranks[part] for part in parts]


@pytest.fixture
def tiktoken(monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")  # it would take a file of an earlier test for one at the same path
    pytest.importorskip("tiktoken.load")
    return pytest.importorskip("tiktoken")


def tiktoken_encoding(tiktoken, path, tokenizer):
    return tiktoken.Encoding(
        "ours",
        pat_str=PATTERNS[tokenizer.pattern],
        mergeable_ranks=tiktoken.load.load_tiktoken_bpe(str(path)),
        special_tokens={token: tokenizer.special_id(token) for token in tokenizer.special_tokens},
    )


@pytest.mark.parametrize("pattern", PATTERNS)
def test_tiktoken_loads_the_file_and_encodes_alike(tiktoken, tmp_path, pattern):
    """The special tokens' ids lie between bytes and merges, so the ranks have a gap."""
    (tmp_path / "text.txt").write_bytes("".join(awkward_texts(1500, seed=1)).encode())
    tokenizer = Tokenizer(*train_bpe(tmp_path / "text.txt", 700, SPECIALS, pattern=pattern), SPECIALS, pattern=pattern)
    write_ranks(tmp_path / "ours.tiktoken", tokenizer)
    theirs = tiktoken_encoding(tiktoken, tmp_path / "ours.tiktoken", tokenizer)
    for text in awkward_texts(3000, seed=2):
        ids = tokenizer.encode(text)
        assert ids == theirs.encode(text, allowed_special="all")
        assert theirs.decode(ids) == text
    again = read_ranks(tmp_path / "ours.tiktoken", pattern, {token: 256 + n for n, token in enumerate(SPECIALS)})
    assert again.tokenizer_id == tokenizer.tokenizer_id
    assert again.vocab == tokenizer.vocab


def test_real_text_encodes_alike(tiktoken, tmp_path, shared_text):
    vocab, merges = train_bpe(shared_text / "tinystories_sample.txt", 2000, ["<|endoftext|>"])
    tokenizer = Tokenizer(vocab, merges, ["<|endoftext|>"])
    write_ranks(tmp_path / "ours.tiktoken", tokenizer)
    theirs = tiktoken_encoding(tiktoken, tmp_path / "ours.tiktoken", tokenizer)
    for name in ("tinystories_sample.txt", "tinyshakespeare.txt"):
        text = (shared_text / name).read_text(encoding="utf-8")[:200_000]
        assert tokenizer.encode(text) == theirs.encode(text, allowed_special="all")


def test_the_file_has_tiktokens_form(tmp_path):
    write_ranks(
        tmp_path / "f",
        Tokenizer(BYTES | {256: b"<|x|>", 257: b" t", 300: b" th"}, [(b" ", b"t"), (b" t", b"h")], ["<|x|>"]),
    )
    lines = (tmp_path / "f").read_bytes().split(b"\n")
    assert lines[0] == b"AA== 0"
    assert lines[255:] == [b"/w== 255", b"IHQ= 257", b"IHRo 300", b""]


def test_trained_merges_are_found_again_in_their_ranks():
    source = random.Random(3)
    for _ in range(60):
        text = "".join(source.choices("abc ", weights=[6, 3, 2, 1], k=source.randint(5, 150)))
        vocab, merges = naive_train(text, 256 + source.randint(0, 40))
        ranks = {token: token_id for token_id, token in vocab.items()}
        assert merges_of_ranks(ranks) == merges
        word = "".join(source.choices("abc", k=40))
        assert naive_rank_encode(word.encode(), ranks) == naive_encode(word, vocab, merges)


def test_ranks_that_no_training_made_are_encoded_by_tiktokens_rule(tmp_path):
    """Tokens joined at random from earlier ones: whatever is read gives the ids of merging whatever spells a token."""
    source = random.Random(4)
    read = 0
    for _ in range(200):
        tokens = [bytes([value]) for value in range(256)]
        pool = [b"a", b"b", b"c"]
        for _ in range(source.randint(1, 12)):
            token = source.choice(pool) + source.choice(pool)
            if token not in tokens:
                tokens.append(token)
                pool.append(token)
        ranks = {token: rank for rank, token in enumerate(tokens)}
        (tmp_path / "f").write_text("".join(f"{base64.b64encode(t).decode()} {r}\n" for t, r in ranks.items()))
        try:
            tokenizer = read_ranks(tmp_path / "f", "gpt2")
        except ValueError:  # a token of three, which tiktoken gives only where it is a whole pre-token
            continue
        read += 1
        for _ in range(20):
            word = "".join(source.choices("abc", k=source.randint(1, 20)))
            assert tokenizer.encode(word) == naive_rank_encode(word.encode(), ranks)
        write_ranks(tmp_path / "again", tokenizer)
        assert (tmp_path / "again").read_bytes() == (tmp_path / "f").read_bytes()
    assert read > 70


def test_tokens_of_many_thousand_bytes_take_few_rounds(tmp_path):
    tokens = [b"a" * 2**power for power in range(1, 18)]
    tokenizer = Tokenizer(BYTES | dict(enumerate(tokens, 256)), [(token[: len(token) // 2],) * 2 for token in tokens])
    write_ranks(tmp_path / "f", tokenizer)
    assert read_ranks(tmp_path / "f", "gpt2").tokenizer_id == tokenizer.tokenizer_id


@pytest.mark.parametrize(
    ("vocab", "specials"),
    [
        (BYTES, ["\n"]),
        (BYTES | {256: b"\n"}, ["\n"]),
        (BYTES | {256: b"ab", 257: b"ab"}, []),
        (BYTES | {256: b"ab", 257: b"ab"}, ["ab"]),
        (BYTES | {256: b"ab"}, ["ab"]),
    ],
    ids=["a byte's own id", "a byte with an id of its own", "two ids", "a merge spells it", "a merge makes it"],
)
def test_ids_that_spell_the_same_bytes_survive(tiktoken, tmp_path, vocab, specials):
    tokenizer = Tokenizer(vocab, [(b"a", b"b")] if 256 in vocab and vocab[256] == b"ab" else [], specials)
    write_ranks(tmp_path / "f", tokenizer)
    special_ids = {token: tokenizer.special_id(token) for token in specials}
    again = read_ranks(tmp_path / "f", "gpt2", special_ids)
    theirs = tiktoken_encoding(tiktoken, tmp_path / "f", tokenizer)
    assert again.tokenizer_id == tokenizer.tokenizer_id
    for text in ("a\nb abba", "ab", "\n\n", "aab"):
        assert again.encode(text) == tokenizer.encode(text) == theirs.encode(text, allowed_special="all")


@pytest.mark.parametrize(
    ("tokens", "merges", "message"),
    [
        ({256: b"bc", 257: b"ab"}, ["a b", "b c"], "merge 1 (b'b', b'c') makes id 256 after id 257"),
        ({256: b"ab"}, ["a b", "a b"], "merge 1 (b'a', b'b') makes id 256 after id 256"),
        ({256: b"ab", 257: b"cd"}, ["a b"], "no merge makes id 257, b'cd'"),
        (
            {256: b"ab", 257: b"bc", 258: b"abc"},
            ["a b", "b c", "a bc"],
            "merge 2 is (b'a', b'bc'): tiktoken would first make (b'ab', b'c')",
        ),
        (
            {256: b"cd", 257: b"bc", 258: b"ab", 259: b"bcd", 260: b"abcd"},
            ["c d", "b c", "a b", "b cd", "a bcd"],
            "merge 4 is (b'a', b'bcd'): tiktoken would first make (b'ab', b'cd')",
        ),
        (
            {256: b"ab", 257: b"cd", 258: b"bc", 259: b"bcd", 260: b"abcde", 261: b"de", 262: b"bcde"},
            ["a b", "c d", "b c", "b cd"],
            "no merge makes id 260",
        ),
    ],
)
def test_ids_that_are_no_ranking_are_refused(tmp_path, tokens, merges, message):
    pairs = [tuple(part.encode() for part in merge.split()) for merge in merges]
    with pytest.raises(ValueError, match=re.escape(message)):
        write_ranks(tmp_path / "f", Tokenizer(BYTES | tokens, pairs))
    assert list(tmp_path.iterdir()) == []


LINES = "".join(f"{base64.b64encode(bytes([value])).decode()} {value}\n" for value in range(256))


@pytest.mark.parametrize(
    ("more", "specials", "message"),
    [
        ("YWI=\n", {}, "line 257 is b'YWI='"),
        ("YWI= x\n", {}, "line 257 is b'YWI= x'"),
        ("YWI= -1\n", {}, "line 257 is b'YWI= -1'"),
        ("YWI 256\n", {}, "line 257 is b'YWI 256'"),
        ("Y?WI= 256\n", {}, "line 257 is b'Y?WI= 256'"),
        ("YWI= 256\n\nYWI= 257\n", {}, "line 259 repeats"),
        ("YWI= 9\n", {}, "line 257 repeats"),
        ("YWJj 256\n", {}, "token b'abc', rank 256: tokens of lower rank make [b'a', b'b', b'c'] of it, not two"),
        (
            "YWE= 256\nYWFhYWFh 257\nYWFhYQ== 258\n",
            {},
            "token b'aaaaaa', rank 257: tokens of lower rank make [b'aa', b'aa', b'aa'] of it, not two",
        ),
        ("YWI= 256\n", {"<|x|>": 256}, "special token '<|x|>' has id 256: it is that of b'ab'"),
        ("YWI= 256\n", {"<|x|>": -1}, "special token '<|x|>' has id -1: it must not be negative"),
        ("YWI= 256\n", {"ab": 300}, "special token 'ab' has id 300: 256 spells it too"),
        ("YWI= 256\n", {"": 300}, "special token ''"),
    ],
)
def test_a_malformed_file_is_named(tmp_path, more, specials, message):
    (tmp_path / "f").write_text(LINES + more)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_ranks(tmp_path / "f", "gpt2", specials)


def test_other_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'gone'}: no such file")):
        read_ranks(tmp_path / "gone", "gpt2")
    (tmp_path / "short").write_text("YQ== 0\n")
    with pytest.raises(
        ValueError, match=re.escape(f"{tmp_path / 'short'}: the vocabulary lacks 255 of the 256 single")
    ):
        read_ranks(tmp_path / "short", "gpt2")
    (tmp_path / "whole").write_text(LINES)
    with pytest.raises(ValueError, match="pattern is 'gpt4'"):
        read_ranks(tmp_path / "whole", "gpt4")
