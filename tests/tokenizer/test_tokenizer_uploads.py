import re

import pytest

from core.tokenizer.anatomy import train_on_text
from core.tokenizer.huggingface import write_huggingface
from core.tokenizer.uploads import read_uploaded


@pytest.fixture(scope="module")
def tokenizer():
    return train_on_text("the cat and the hat; 12345" * 3, 280, ["<|endoftext|>"], pattern="cl100k")


def saved(tokenizer, folder):
    tokenizer.save(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_was_saved_is_read(tokenizer, tmp_path):
    files = saved(tokenizer, tmp_path)
    assert read_uploaded(files).tokenizer_id == tokenizer.tokenizer_id
    pair = read_uploaded({name: files[name] for name in ("vocab.json", "merges.txt")})
    assert (pair.merges, pair.special_tokens, pair.pattern) == (tokenizer.merges, [], "gpt2")
    renamed = read_uploaded({"encoder.json": files["vocab.json"], "vocab.bpe": files["merges.txt"]})
    assert renamed.tokenizer_id == pair.tokenizer_id


def test_hugging_face_s_file_is_read(tokenizer, tmp_path):
    write_huggingface(tmp_path / "tokenizer.json", tokenizer)
    read = read_uploaded({"tokenizer.json": (tmp_path / "tokenizer.json").read_bytes()})
    assert read.encode("that 678 hat<|endoftext|>") == tokenizer.encode("that 678 hat<|endoftext|>")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "files are none: vocab.json and merges.txt are missing; choose tokenizer.json alone, or vocab.json and"),
        (["vocab.json"], "files are vocab.json: merges.txt is missing; choose"),
        (["special_tokens.json", "vocab.bpe"], "files are merges.txt, special_tokens.json: vocab.json is missing;"),
        (["vocab.json", "merges.txt", "../../x"], "files are ../../x, merges.txt, vocab.json: ../../x does not belong"),
        (["tokenizer.json", "vocab.json"], "files are tokenizer.json, vocab.json: tokenizer.json does not belong"),
        (["b", "a"], "files are a, b: a and b do not belong; choose"),
    ],
)
def test_other_files_are_named(names, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read_uploaded(dict.fromkeys(names, b"{}"))


def test_a_damaged_file_is_named_without_where_it_was_put(tokenizer, tmp_path):
    files = saved(tokenizer, tmp_path) | {"merges.txt": b"#version: 0.2\nt\n"}
    with pytest.raises(ValueError, match=r"^merges.txt: line 2 is 't'"):
        read_uploaded(files)
