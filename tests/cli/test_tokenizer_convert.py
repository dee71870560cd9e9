import functools

import pytest

from core.tokenizer import Tokenizer
from core.tokenizer.formats import write_merges, write_vocab
from core.tokenizer.huggingface import read_huggingface, write_huggingface
from core.tokenizer.ranks import read_ranks, write_ranks

VOCAB = {value: bytes([value]) for value in range(256)}
VOCAB |= {256: b"<|endoftext|>", 257: b"<x=1>", 258: b"12", 259: b"34", 260: b"1234"}
MERGES = [(b"1", b"2"), (b"3", b"4"), (b"12", b"34")]
SPECIALS = {"<|endoftext|>": 256, "<x=1>": 257}


@pytest.fixture
def convert(workbook):
    return functools.partial(workbook, "tokenizer", "convert")


@pytest.fixture(params=["gpt2", "cl100k"])
def tokenizer(request):
    """The patterns encode 1234 differently: one number, or three digits and one."""
    return Tokenizer(VOCAB, MERGES, list(SPECIALS), pattern=request.param)


def test_every_format_goes_to_every_other(convert, tmp_path, tokenizer):
    sources = {"ours": tmp_path / "ours", "json": tmp_path / "a.json", "ranks": tmp_path / "a.tiktoken"}
    tokenizer.save(sources["ours"])
    write_huggingface(sources["json"], tokenizer)
    write_ranks(sources["ranks"], tokenizer)
    for name, source in sources.items():
        words = ["--pattern", tokenizer.pattern, "--special", "<|endoftext|>=256", "--special", "<x=1>=257"]
        more = words if name == "ranks" else []
        for out in (tmp_path / f"{name}-folder", tmp_path / f"{name}.json", tmp_path / f"{name}.tiktoken"):
            code, said, error = convert(source, "--out", out, *more)
            assert (code, error) == (0, "")
            assert said == (
                f"{out}: 261 tokens, 3 merges, pattern {tokenizer.pattern}, "
                "special tokens: <|endoftext|>=256, <x=1>=257\n"
            )
        loaded = [
            Tokenizer.load(tmp_path / f"{name}-folder"),
            read_huggingface(tmp_path / f"{name}.json"),
            read_ranks(tmp_path / f"{name}.tiktoken", tokenizer.pattern, SPECIALS),
        ]
        assert [again.tokenizer_id for again in loaded] == [tokenizer.tokenizer_id] * 3
        assert loaded[0].encode("1234<x=1>") == ([260, 257] if tokenizer.pattern == "gpt2" else [258, 51, 52, 257])


def test_a_format_can_be_named_whatever_the_file(convert, tmp_path):
    tokenizer = Tokenizer(VOCAB, MERGES, list(SPECIALS))
    tokenizer.save(tmp_path / "ours")
    assert convert(tmp_path / "ours", "--out", tmp_path / "a", "--format", "huggingface")[0] == 0
    assert convert(tmp_path / "a", "--out", tmp_path / "b.txt", "--format", "tiktoken")[0] == 0
    assert convert(tmp_path / "b.txt", "--out", tmp_path / "c.json", "--format", "gpt2", "--pattern", "gpt2")[0] == 0
    assert Tokenizer.load(tmp_path / "c.json").merges == MERGES


@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
def test_gpt2s_files_from_elsewhere_are_told_what_they_do_not_say(convert, tmp_path, names):
    write_vocab(tmp_path / names[0], VOCAB)
    write_merges(tmp_path / names[1], MERGES)
    more = ["--special", "<|endoftext|>", "--special", "<x=1>"]
    assert convert(tmp_path, "--out", tmp_path / "out", *more)[0] == 0
    assert Tokenizer.load(tmp_path / "out").tokenizer_id == Tokenizer(VOCAB, MERGES, list(SPECIALS)).tokenizer_id
    assert convert(tmp_path, "--out", tmp_path / "other", *more, "--pattern", "cl100k")[0] == 0
    assert Tokenizer.load(tmp_path / "other").pattern == "cl100k"


def test_what_cannot_be_converted_is_one_line(convert, tmp_path):
    folder, ranks, out = tmp_path / "ours", tmp_path / "a.tiktoken", tmp_path / "out.json"
    tokenizer = Tokenizer(VOCAB, MERGES, list(SPECIALS))
    tokenizer.save(folder)
    write_ranks(ranks, tokenizer)
    Tokenizer(VOCAB | {300: b"zz"}, MERGES, list(SPECIALS)).save(tmp_path / "unmade")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("once upon a time\n")
    (tmp_path / "bad.json").write_text('{"model": {"type": "Unigram"}}')
    cases = {
        "gone: no such file or folder": [tmp_path / "gone", "--out", out],
        "empty: not a tokenizer folder (no vocab.json and no merges.txt)": [tmp_path / "empty", "--out", out],
        "leave out --pattern and --special": [folder, "--out", out, "--pattern", "gpt2"],
        "ours: it names its pattern": [folder, "--out", out, "--special", "<|endoftext|>"],
        "give --pattern gpt2 or cl100k": [ranks, "--out", out],
        "pattern is 'gpt4': it must be one of gpt2, cl100k": [ranks, "--out", out, "--pattern", "gpt4"],
        "--special is '<|endoftext|>': TOKEN=ID was expected": [
            ranks, "--out", out, "--pattern", "gpt2", "--special", "<|endoftext|>",
        ],
        "each may stand only once": [ranks, "--out", out, "--pattern", "gpt2", "--special", "x=7", "--special", "x=8"],
        "special token 'x' has id 7: it is that of": [ranks, "--out", out, "--pattern", "gpt2", "--special", "x=7"],
        "text.txt: not a tokenizer: neither": [tmp_path / "text.txt", "--out", out, "--pattern", "gpt2"],
        "model.type is 'Unigram': only BPE is read": [tmp_path / "bad.json", "--out", out],
        "a file; name the folder to write to": [folder, "--out", tmp_path / "text.txt", "--format", "gpt2"],
        "a folder; name the file to write": [folder, "--out", tmp_path / "empty", "--format", "tiktoken"],
        "q.xyz: .xyz is no format: .json is Hugging Face's, .tiktoken": [folder, "--out", tmp_path / "q.xyz"],
        "a.tiktoken: to be read and to be written": [ranks, "--out", ranks, "--pattern", "gpt2"],
        "ours/vocab.json: to be read and to be written; name": [folder, "--out", tmp_path / "empty" / ".." / "ours"],
        "no merge makes id 300, b'zz'": [tmp_path / "unmade", "--out", tmp_path / "x.tiktoken"],
        "'onnx'": [folder, "--out", out, "--format", "onnx"],
    }  # fmt: skip
    for message, words in cases.items():
        code, said, error = convert(*words)
        assert (code, said, error.count("\n")) == (2, "", 1), (words, error)
        assert message in error, (words, error)
    assert not out.exists()
    assert not (tmp_path / "x.tiktoken").exists()


def test_what_gpt2s_two_files_do_not_say_is_assumed_and_said(convert, tmp_path):
    bare = tmp_path / "bare"
    write_vocab(bare / "vocab.json", VOCAB | {300: b"zz"})
    write_merges(bare / "merges.txt", MERGES)
    code, said, _ = convert(bare, "--out", tmp_path / "out")
    assert code == 0
    assert said.splitlines()[1] == (
        f"assumed, for {bare} does not say: pattern gpt2; special tokens <|endoftext|>, <x=1>, "
        "not zz, which no merge makes (--special names others)"
    )
    assert Tokenizer.load(tmp_path / "out").encode("<|endoftext|>zz") == [256, 122, 122]
    code, said, _ = convert(bare, "--out", tmp_path / "one", "--special", "<x=1>", "--pattern", "cl100k")
    assert (code, said.count("\n")) == (0, 1)
    assert Tokenizer.load(tmp_path / "one").special_tokens == ["<x=1>"]


def test_ranks_without_special_tokens_say_which_ids_are_free(convert, tmp_path):
    ranks = tmp_path / "a.tiktoken"
    write_ranks(ranks, Tokenizer(VOCAB, MERGES, list(SPECIALS)))
    code, said, _ = convert(ranks, "--out", tmp_path / "a.json", "--pattern", "gpt2")
    assert code == 0
    assert said.splitlines()[1] == (
        f"assumed, for {ranks} does not say: no special tokens (no token has id 256, 257); --special TOKEN=ID names one"
    )
