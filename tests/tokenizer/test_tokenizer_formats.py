import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_bpe import naive_train

from core.corpus.stories import story_block
from core.tokenizer import Tokenizer
from core.tokenizer.formats import (
    byte_to_character,
    gpt2_paths,
    read_merges,
    read_vocab,
    spell,
    unspell,
    write_merges,
    write_vocab,
)

FUZZ = settings(deadline=None, derandomize=True, max_examples=200)
REAL_TEXT = Path(__file__).parents[2].parent / "shared" / "data" / "text"

BYTES = {value: bytes([value]) for value in range(256)}
BYTES_JSON = {spell(token): token_id for token_id, token in BYTES.items()}


@pytest.mark.parametrize(
    ("byte", "character"),
    [
        *((0x00, "Ā"), (0x09, "ĉ"), (0x0A, "Ċ"), (0x0D, "č"), (0x20, "Ġ"), (0x21, "!"), (0x41, "A"), (0x7E, "~")),
        *((0x7F, "ġ"), (0x80, "Ģ"), (0xA0, "ł"), (0xA1, "¡"), (0xAC, "¬"), (0xAD, "Ń"), (0xAE, "®"), (0xFF, "ÿ")),
    ],
)
def test_bytes_are_spelled_as_gpt2_spells_them(byte, character):
    assert byte_to_character()[byte] == character
    assert spell(bytes([byte])) == character
    assert unspell(character) == bytes([byte])


def test_the_spelling_is_one_to_one_and_visible():
    spelling = byte_to_character()
    assert sorted(spelling) == list(range(256))
    assert len(set(spelling.values())) == 256
    assert not any(character.isspace() for character in spelling.values())
    assert {ord(character) for character in spelling.values()} >= set(range(0x100, 0x144))


def test_the_spelling_is_that_of_another_library():
    tokenizers = pytest.importorskip("tokenizers")
    assert set(byte_to_character().values()) == set(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    words = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for text in ("a \n\t\r\x00\x7f\u00a0\u00ad", "".join(map(chr, range(0x7FF))), "漢 字😀"):
        assert words.pre_tokenize_str(text)[0][0] == spell(text.encode())


@FUZZ
@given(st.binary(max_size=20))
def test_any_bytes_survive_spelling(token):
    assert unspell(spell(token)) == token
    assert not re.search(r"\s", spell(token))


def test_text_outside_the_spelling_stands_for_its_utf8():
    # Other programs write special tokens into vocab.json as they are.
    assert unspell("漢 字") == "漢 字".encode()
    assert unspell("<|endoftext|>") == b"<|endoftext|>"


def test_files_have_gpt2s_form(tmp_path):
    write_vocab(tmp_path / "vocab.json", {0: b"a", 1: b" a", 2: b"\n\xff"})
    write_merges(tmp_path / "merges.txt", [(b" ", b"a"), (b"\n", b"\xff")])
    assert json.loads((tmp_path / "vocab.json").read_bytes()) == {"a": 0, "Ġa": 1, "Ċÿ": 2}
    assert (tmp_path / "merges.txt").read_bytes().decode() == "#version: 0.2\nĠ a\nĊ ÿ\n"


@settings(FUZZ, max_examples=40)
@given(
    tokens=st.lists(st.binary(min_size=2, max_size=6), unique=True, max_size=8),
    specials=st.lists(st.text(st.characters(codec="utf-8"), min_size=2, max_size=6), unique=True, max_size=3),
)
def test_weird_bytes_survive_save_and_load(tmp_path_factory, tokens, specials):
    folder = tmp_path_factory.mktemp("tokenizer")
    vocab = BYTES | {300 + 2 * place: token for place, token in enumerate(tokens)}
    merges = [(token[:1], token[1:]) for token in tokens if token[1:] in vocab.values()]
    tokenizer = Tokenizer(vocab, merges, specials)
    tokenizer.save(folder)
    for loaded in (
        Tokenizer.load(folder),
        Tokenizer.from_files(folder / "vocab.json", folder / "merges.txt", specials),
    ):
        assert loaded.vocab == tokenizer.vocab
        assert loaded.merges == merges
        assert loaded.special_tokens == specials
        assert loaded.tokenizer_id == tokenizer.tokenizer_id


@pytest.mark.parametrize(
    ("vocab", "specials"),
    [(BYTES, ["\n"]), (BYTES | {256: b"\n"}, ["\n"]), (BYTES | {256: b"ab", 257: b"ab"}, [])],
    ids=["one-byte special", "one-byte special with an id of its own", "two ids, the same bytes"],
)
def test_two_ids_for_the_same_bytes_encode_alike_after_loading(tmp_path, vocab, specials):
    """`train_bpe` makes such a vocabulary for a special token of one byte; `vocab.json` holds one of the ids."""
    tokenizer = Tokenizer(vocab, [], specials)
    tokenizer.save(tmp_path / "one")
    loaded = Tokenizer.load(tmp_path / "one")
    assert loaded.encode("a\nb ab") == tokenizer.encode("a\nb ab")
    loaded.save(tmp_path / "two")
    assert Tokenizer.load(tmp_path / "two").tokenizer_id == loaded.tokenizer_id


def test_bytes_with_other_ids_than_their_values_keep_them(tmp_path):
    """Ids below 256 may be free: they are nobody's then, not the bytes'."""
    vocab = {1000 + value: bytes([value]) for value in range(256)} | {97: b"ab"}
    Tokenizer(vocab, [(b"a", b"b")]).save(tmp_path)
    assert read_vocab(tmp_path / "vocab.json") == vocab
    assert Tokenizer.load(tmp_path).encode("cab") == [1099, 97]


def test_gpt2s_files_are_found_under_both_names(tmp_path):
    assert gpt2_paths(tmp_path) == (tmp_path / "vocab.json", tmp_path / "merges.txt")
    (tmp_path / "encoder.json").touch()
    assert gpt2_paths(tmp_path) == (tmp_path / "vocab.json", tmp_path / "merges.txt")
    (tmp_path / "vocab.bpe").touch()
    assert gpt2_paths(tmp_path) == (tmp_path / "encoder.json", tmp_path / "vocab.bpe")


def test_saving_again_writes_the_same_files(tmp_path):
    tokenizer = Tokenizer(*naive_train("the cat and the hat\r\n" * 3, 280), ["<|endoftext|>"])
    tokenizer.save(tmp_path / "one")
    Tokenizer.load(tmp_path / "one").save(tmp_path / "two")
    names = ["merges.txt", "pre_tokenization.json", "special_tokens.json", "vocab.json"]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_folder_without_special_tokens_has_none(tmp_path):
    Tokenizer(BYTES, [], ["<|x|>"]).save(tmp_path)
    (tmp_path / "special_tokens.json").unlink()
    loaded = Tokenizer.load(tmp_path)
    assert loaded.special_tokens == []
    assert loaded.encode("<|x|>") == list(b"<|x|>")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe\xff", "not JSON"),
        (b"[1, 2]", "not a vocabulary"),
        (b'{"a": -1}', "not a vocabulary"),
        (b'{"a": "1"}', "not a vocabulary"),
        (b'{"a": 1.5}', "not a vocabulary"),
        (b'{"a": true}', "not a vocabulary"),
        (b'{"a": null}', "not a vocabulary"),
        (b'{"a": 1, "b": 1, "c": 1, "d": 2}', "2 tokens share an id"),
    ],
)
def test_a_malformed_vocabulary_is_named(tmp_path, content, message):
    path = tmp_path / "vocab.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{path}: {message}")):
        read_vocab(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"#version: 0.2\na b\na b c\n", "line 3 is 'a b c'"),
        (b"a b\nab\n", "line 2 is 'ab'"),
        (b"a b\n\n\na  b\n", "line 4 is 'a  b'"),
        (b" b\n", "line 1 is ' b'"),
        (b"a b\n#version: 0.2 x\n", "line 2 is '#version: 0.2 x'"),
        (b"a b\nc \xff\n", "not UTF-8 at byte 6"),
    ],
)
def test_a_malformed_merges_file_is_named_with_its_line(tmp_path, content, message):
    path = tmp_path / "merges.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{path}: {message}")):
        read_merges(path)


@pytest.mark.parametrize("content", ["#version: 0.2\nĠ a\nb \u00a1\n", "Ġ a\r\nb \u00a1\r\n", "Ġ a\n\nb \u00a1"])
def test_merges_read_with_any_line_ends_and_without_header(tmp_path, content):
    (tmp_path / "merges.txt").write_bytes(content.encode())
    assert read_merges(tmp_path / "merges.txt") == [(b" ", b"a"), (b"b", b"\xa1")]


@pytest.mark.parametrize("missing", ["vocab.json", "merges.txt"])
def test_a_missing_file_is_named(tmp_path, missing):
    Tokenizer(BYTES, []).save(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}: not a tokenizer folder (no {missing})")):
        Tokenizer.load(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'absent'}: no such tokenizer folder")):
        Tokenizer.load(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'file'}: a file; a tokenizer is a folder")):
        Tokenizer.load(tmp_path / "file")


def test_special_tokens_that_are_not_a_list_are_named(tmp_path):
    Tokenizer(BYTES, []).save(tmp_path)
    (tmp_path / "special_tokens.json").write_text('{"<|x|>": 1}')
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'special_tokens.json'}: a list of strings")):
        Tokenizer.load(tmp_path)


def test_files_that_do_not_fit_together_are_refused(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps(BYTES_JSON))
    (tmp_path / "merges.txt").write_text("a b\n")
    with pytest.raises(ValueError, match=re.escape("merge 0 (b'a', b'b')")):
        Tokenizer.from_files(tmp_path / "vocab.json", tmp_path / "merges.txt")


def _sample_texts():
    if REAL_TEXT.is_dir():
        yield (REAL_TEXT / "tinystories_sample.txt").read_text(encoding="utf-8")[:60_000]
        yield (REAL_TEXT / "tinyshakespeare.txt").read_text(encoding="utf-8")[-30_000:]
    yield "<|endoftext|>".join(story_block(5, 0)[0][:60])
    atoms = [
        "don't",
        "I'll've",
        " 'S",
        "\r\n",
        "  ",
        "\t",
        "é",
        "e\u0301",
        "漢字",
        "العربية",
        "👍🏽",
        "½",
        "12",
        "...",
        " ",
    ]
    yield "".join(random.Random(1).choices(atoms, k=3000))
    yield ""


def test_the_files_load_into_another_library_and_encode_alike(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    texts = list(_sample_texts())
    vocab, merges = naive_train("\n".join(text[:3_000] for text in texts), 420)
    ours = Tokenizer(vocab, merges, ["<|endoftext|>"])
    ours.save(tmp_path)
    theirs = tokenizers.ByteLevelBPETokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    theirs.add_special_tokens(["<|endoftext|>"])
    assert theirs.get_vocab_size() == ours.vocab_size
    for text in texts:
        assert ours.encode(text) == theirs.encode(text).ids
        assert theirs.decode(ours.encode(text), skip_special_tokens=False) == text
