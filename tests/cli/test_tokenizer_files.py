import re

import pytest
from outcomes import TEXT, refused, said

from core.corpus.tokens import open_tokens
from core.tokenizer import Tokenizer


@pytest.mark.parametrize("engine", ["reference", "fast"])
def test_several_texts_train_as_one(run, texts, tmp_path, engine):
    words = ["--vocab-size", 300, "--pattern", "cl100k", "--special", "<pad>", "--engine", engine, "--threads", 1]
    said(run("train", *texts, *words, "--out", engine))
    (tmp_path / "all.txt").write_text(TEXT + "<pad>" + TEXT[::-1], newline="")
    said(run("train", "all.txt", *words, "--out", "whole"))
    tokenizer = Tokenizer.load(tmp_path / engine)
    assert tokenizer.tokenizer_id == Tokenizer.load(tmp_path / "whole").tokenizer_id
    assert (tokenizer.pattern, tokenizer.special_tokens, tokenizer.vocab_size) == ("cl100k", ["<pad>"], 300)


def test_counts_of_parts_train_what_the_texts_train(run, trained, tmp_path):
    for number in (2, 0, 1):
        out = said(run("count", *trained, "--shard", f"{number}/3", "--out", f"c{number}.parquet"))
        assert re.search(rf"^c{number}\.parquet: [\d,]+ pre-tokens, [\d,]+ distinct, of [\d,]+ bytes$", out, re.M)
    out = said(run("merge-counts", "c0.parquet", "c1.parquet", "c2.parquet", "--out", "all.parquet"))
    assert out.endswith(f"of {2 * len(TEXT.encode()):,} bytes\n")
    said(run("train", "--counts", "all.parquet", "--vocab-size", 290, "--out", "counted"))
    assert Tokenizer.load(tmp_path / "counted").tokenizer_id == Tokenizer.load(tmp_path / "tok").tokenizer_id


def test_shards_are_encoded_recognised_and_joined(run, trained, tmp_path):
    whole = said(run("encode", *trained, "--tokenizer", "tok", "--out", "whole.bin"))
    for number in (1, 0):
        said(run("encode", *trained, "--tokenizer", "tok", "--out", "shards", "--shard", f"{number}/3"))
    assert "not finished: shard 2/3" in refused(run("join", "shards", "--out", "joined.bin"))
    out = said(run("encode", *trained, "--tokenizer", "tok", "--out", "shards", "--shards", 3))
    assert [line.endswith("(stands already)") for line in out.splitlines() if line.startswith("shards")] == [
        True,
        True,
        False,
    ]
    out = said(run("join", "shards", "--out", "joined.bin"))
    assert (tmp_path / "joined.bin").read_bytes() == (tmp_path / "whole.bin").read_bytes()
    assert whole.splitlines()[-1].startswith("whole.bin: ")
    assert out.splitlines()[-1].endswith("61 documents")  # the second text has no end marker


def test_object_storage_holds_texts_shards_counts_and_tokens(run, trained, tmp_path):
    from core.files import write_text

    url = "memory://cli-files"
    write_text(f"{url}/a.txt", TEXT)
    for number in (0, 1):
        said(run("encode", f"{url}/a.txt", "--tokenizer", "tok", "--out", f"{url}/shards", "--shard", f"{number}/2"))
        said(run("count", f"{url}/a.txt", "--out", f"{url}/{number}.parquet", "--shard", f"{number}/2"))
    said(run("join", f"{url}/shards", "--out", "joined.bin"))
    said(run("join", f"{url}/shards", "--out", f"{url}/joined.bin"))
    said(run("encode", "a.txt", "--tokenizer", "tok", "--out", "whole.bin"))
    assert (tmp_path / "joined.bin").read_bytes() == (tmp_path / "whole.bin").read_bytes()
    said(run("merge-counts", f"{url}/0.parquet", f"{url}/1.parquet", "--out", f"{url}/all.parquet"))
    said(run("train", "--counts", f"{url}/all.parquet", "--vocab-size", 280, "--out", "remote"))
    said(run("train", "a.txt", "--vocab-size", 280, "--out", "local"))
    assert Tokenizer.load(tmp_path / "remote").tokenizer_id == Tokenizer.load(tmp_path / "local").tokenizer_id
    assert "copy it and its sidecar" in refused(run("decode", f"{url}/joined.bin", "--tokenizer", "tok"))


def test_statistics_are_the_same_from_both_engines(run, trained, tmp_path):
    shown = []
    for engine in ("reference", "fast"):
        out = said(run("stats", *trained, "--tokenizer", "tok", "--engine", engine, "--top", 3))
        shown.append(out[out.index(f"{2 * len(TEXT.encode()):,} bytes, ") :])
    assert shown[0] == shown[1]
    said(run("encode", *trained, "--tokenizer", "tok", "--out", "a.bin"))
    tokens = open_tokens(tmp_path / "a.bin").tokens
    assert f" {len(tokens):,} tokens, " in shown[0]
    assert f"{len(set(tokens.tolist())):,} of 290 ids used" in shown[0]
    assert len(shown[0].splitlines()) == 6


def test_what_is_wrong_is_said_in_a_line(run, trained):
    encode = ["encode", *trained, "--tokenizer", "tok", "--out", "x"]
    for words, message in {
        (*encode, "--shard", "3/3"): "0/16 for the first of 16 and 15/16 for the last",
        (*encode, "--shard", "x"): "--shard is 'x': i/n was expected",
        (*encode, "--shard", "-1/3"): "--shard is '-1/3': i/n",
        (*encode, "--shard", "1/3", "--shards", "4"): "--shard 1/3 and --shards 4: give one",
        (*encode, "--shard", "1/3", "--shards", "3"): "--shard 1/3 and --shards 3: give one",
        (*encode, "--engine", "rust"): "engine is 'rust': it must be one of auto, reference, fast",
        ("encode", "absent", "--tokenizer", "tok", "--out", "x"): "absent: no such file",
        ("encode", "tok", "--tokenizer", "tok", "--out", "x"): "tok: a folder; name a file",
        ("encode", "a.txt", "--tokenizer", "tok", "--out", "tok"): "tok: a folder; name the file to write",
        (
            "encode",
            "a.txt",
            "--tokenizer",
            "tok",
            "--out",
            "a.txt",
            "--shard",
            "0/2",
        ): "a.txt: a file; name the folder to write to",
        ("count", "a.txt", "--out", "tok"): "tok: a folder; name the file to write",
        ("join", "nowhere", "--out", "x"): "nowhere: no shards there",
        ("train", "--out", "t"): "nothing to train on: name text files, or --counts",
        ("train", "a.txt", "--counts", "c", "--out", "t"): "--counts takes the place of INPUT",
        ("train", "--counts", "a.txt", "--out", "t"): "a.txt: not a file of counts: it has no a.txt.json beside it",
        ("train", "a.txt", "--pattern", "gpt9", "--out", "t"): "pattern is 'gpt9'",
        ("count", "a.txt", "--out", "c", "--shard", "2"): "--shard is '2'",
        ("merge-counts", "a.txt", "--out", "c"): "a.txt: not a file of counts: it has no a.txt.json beside it",
    }.items():
        assert message in refused(run(*words)), words
