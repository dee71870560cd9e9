"""Commands that would destroy what they read, or find out after the work that it was for nothing."""

import io
import re
import typing

import pytest
from outcomes import TEXT, refused, said
from rich.console import Console

import core.cli.console
import core.corpus.longtail
import core.experiments.tokenizer_bench
import core.experiments.tokenizer_study  # before names are replaced, for what it imports keeps its own
from core.cli.console import byte_progress, stage_progress
from core.corpus.shards import shard_name
from core.records import TokenizerSpeedRow
from core.results import write_rows


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def encoded(run, trained):
    """The texts as tokens, shards and counts."""
    said(run("encode", "a.txt", "--tokenizer", "tok", "--out", "a.bin"))
    said(run("encode", "a.txt", "--tokenizer", "tok", "--out", "shards", "--shards", 2))
    said(run("count", "a.txt", "--out", "a.counts"))
    for number in (0, 1):
        said(run("count", "a.txt", "--out", f"{number}.counts", "--shard", f"{number}/2"))


def test_no_command_writes_over_what_it_reads(run, encoded, tmp_path):
    (tmp_path / "link").symlink_to("a.txt")
    before = contents(tmp_path)
    for words in (
        ("count", "a.txt", "--out", "a.txt"),
        ("count", "link", "--out", "./tok/../a.txt"),
        ("count", "a.txt", "--out", "link"),
        ("encode", "link", "--tokenizer", "tok", "--out", "a.txt"),
        ("encode", "a.bin.json", "--tokenizer", "tok", "--out", "a.bin"),
        ("encode", "a.txt", "--tokenizer", "tok", "--out", "tok/vocab.json"),
        ("decode", "a.bin", "--tokenizer", "tok", "--out", "a.bin"),
        ("decode", "a.bin", "--tokenizer", "tok", "--out", "a.bin.json"),
        ("decode", "a.bin", "--tokenizer", "tok", "--out", "tok/merges.txt"),
        ("join", "shards", "--out", f"shards/{shard_name(1, 2)}"),
        ("merge-counts", "0.counts", "1.counts", "--out", "./1.counts"),
        ("merge-counts", "0.counts", "1.counts", "--out", "1.counts.json"),
        ("train", "tok/merges.txt", "--out", "tok"),
        ("convert", "tok", "--out", "tok"),
        ("convert", "tok", "--out", "tok/vocab.json"),
    ):
        assert "to be read and to be written; name another file" in refused(run(*words)), words
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("a.txt/x", "a.txt/x: a.txt is a file, not a folder"),
        ("tok", "tok: a folder; name the file to write"),
        ("/proc/nosuch/x", "/proc/nosuch/x: cannot be written ("),
    ],
)
def test_what_cannot_be_written_is_said_before_the_work(run, workbook, encoded, monkeypatch, tmp_path, out, message):
    for name in (
        "core.tokenizer.train.train_bpe_files",
        "core.corpus.tokens.encoded_pieces",
        "core.tokenizer.counts.count_pre_tokens",
        "core.tokenizer.counts.open_counts",
        "core.tokenizer.Tokenizer.decode_bytes",
        "core.corpus.shards.binary_blocks",
        "core.corpus.longtail.write_longtail",
        "core.experiments.tokenizer_study.open_corpus",
        "core.experiments.tokenizer_bench.open_corpus",
    ):
        monkeypatch.setattr(name, lambda *words, **more: pytest.fail("worked"))
    before = contents(tmp_path)
    for words in (
        ("encode", "a.txt", "--tokenizer", "tok", "--out", out),
        ("decode", "a.bin", "--tokenizer", "tok", "--out", out),
        ("join", "shards", "--out", out),
        ("count", "a.txt", "--out", out),
        ("merge-counts", "0.counts", "1.counts", "--out", out),
        ("convert", "tok", "--out", out, "--format", "huggingface"),
    ):
        assert message in refused(run(*words)), words
    assert message in refused(workbook("data", "longtail", out))
    if out != "tok":
        for words in (
            ("train", "a.txt", "--out", out),
            ("encode", "a.txt", "--tokenizer", "tok", "--out", out, "--shards", 2),
            ("convert", "tok", "--out", out, "--format", "gpt2"),
        ):
            assert message in refused(run(*words)), words
        for words in (("tokenizer", "study", "a=a.txt"), ("bench", "tokenizer", "a.txt")):
            line = refused(workbook(*words, "--results", out))
            assert out in line, words
            assert message.partition(": ")[2] in line, words
    assert contents(tmp_path) == before


def test_texts_that_cannot_be_read_are_said_before_anything_else(run, workbook, texts):
    assert "gone.txt: no such file" in refused(run("study", "a=a.txt", "gone=gone.txt"))
    assert "gone.txt: no such file" in refused(workbook("bench", "tokenizer", "a.txt", "gone.txt"))


def test_tokens_of_another_text_are_replaced_only_afresh(run, trained, tmp_path):
    encode = ["--tokenizer", "tok", "--out", "a.bin"]
    said(run("encode", "a.txt", *encode))
    said(run("encode", "a.txt", *encode))
    line = refused(run("encode", "b.txt.gz", *encode))
    assert "tokens of other text or another tokenizer stand there; --fresh" in line
    said(run("encode", "b.txt.gz", *encode, "--fresh"))
    said(run("decode", "a.bin", "--tokenizer", "tok", "--out", "back.txt"))
    assert (tmp_path / "back.txt").read_bytes() == TEXT[::-1].encode()


def test_a_folder_of_other_shards_and_too_many_are_refused_at_once(run, encoded, tmp_path):
    before = contents(tmp_path)
    encode = ["--tokenizer", "tok", "--out", "shards"]
    for words, message in (
        (("a.txt", *encode, "--shards", 3), "shard-00000-of-00002.bin lies there, and 3 shards are wanted"),
        (("b.txt.gz", *encode, "--shards", 2), "shard-00000-of-00002.bin is of other text or another tokenizer"),
        (("a.txt", *encode, "--shards", 17), f"17 shards of {len(TEXT.encode()):,} bytes: at most 16 make sense"),
        (("a.txt", *encode, "--shard", "5/100000"), "at most 16 make sense here"),
    ):
        assert message in refused(run("encode", *words)), words
    assert "at most 16 make sense" in refused(run("count", "a.txt", "--shard", "0/17", "--out", "x"))
    assert contents(tmp_path) == before


def test_a_damaged_shard_is_made_again(run, encoded, tmp_path):
    path = tmp_path / "shards" / shard_name(1, 2)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "makes it again with --shard 1/2 --fresh" in refused(run("join", "shards", "--out", "joined.bin"))
    lines = said(run("encode", "a.txt", "--tokenizer", "tok", "--out", "shards", "--shards", 2)).splitlines()
    assert [line.endswith("(stands already)") for line in lines] == [True, False]
    said(run("join", "shards", "--out", "joined.bin"))
    assert (tmp_path / "joined.bin").read_bytes() == (tmp_path / "a.bin").read_bytes()


def test_files_that_are_something_else_are_said_to_be(run, encoded, tmp_path):
    (tmp_path / "noise.bin").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "empty").mkdir()
    for words, message in (
        (("decode", "nope.bin", "--tokenizer", "tok"), "workbook: nope.bin: no such file"),
        (("decode", "a.txt", "--tokenizer", "tok"), "a.txt: not a token file: it has no a.txt.json beside it"),
        (("encode", "a.txt", "--tokenizer", "empty", "--out", "x"), "empty: not a tokenizer folder (no vocab.json"),
        (("encode", "a.txt", "--tokenizer", "a.txt", "--out", "x"), "a.txt: a file; a tokenizer is a folder"),
        (("merge-counts", "a.counts", "a.counts", "--out", "x"), "a.counts: named twice"),
        (("train", "--counts", "1.counts", "--out", "x"), "1.counts: of its text these parts are missing: 0/2"),
        (("train", "--counts", "nope", "--out", "x"), "workbook: nope: no such file"),
        (("convert", "a.txt", "--out", "x.json"), "a.txt: not a tokenizer: neither a tokenizer.json nor"),
        (("convert", "noise.bin", "--out", "x.json", "--pattern", "gpt2"), "noise.bin: not a tokenizer: neither"),
        (("train", "a.txt", "--vocab-size", 256, "--out", "x"), "at least 257 (256 bytes and 1 special token)"),
    ):
        line = refused(run(*words))
        assert message in line, words
        assert len(line) < 200, words


@pytest.mark.parametrize("engine", ["reference", "fast"])
def test_training_says_why_it_ended(run, texts, tmp_path, engine):
    more = ["--engine", engine, "--out", "t"]
    assert said(run("train", "a.txt", "--vocab-size", 257, *more)) == "t: 257 tokens, no merge was learnt\n"
    (tmp_path / "short.txt").write_text("abab abab")
    assert said(run("train", "short.txt", "--vocab-size", 300, *more)) == (
        "t: 260 tokens of 300 wanted (no pair of tokens was left to merge), 3 merges, the longest token ' abab'\n"
    )


@pytest.fixture
def terminal(monkeypatch):
    """What a terminal shows as progress."""
    shown = io.StringIO()
    monkeypatch.setattr(core.cli.console, "errors", Console(file=shown, force_terminal=True, width=120))
    return shown


def test_bars_go_to_standard_error_and_end(run, texts, terminal):
    code, out, error = run("train", "a.txt", "--vocab-size", 9000, "--out", "t", "--engine", "reference")
    assert (code, error) == (0, "")
    assert re.fullmatch(r"t: \d+ tokens of 9,000 wanted .*\n", out)
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).splitlines()[-1]
    assert re.match(r" +merges .* 100%", last)


def test_without_a_terminal_there_are_no_bars(capsys):
    with stage_progress() as stages, byte_progress("bytes") as count:
        stages("work", 1, 2)
        count(1, 2)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("before", "rate"), [(0, "300"), (None, "180")])
def test_the_rate_is_that_of_the_whole(terminal, monkeypatch, before, rate):
    now = 0.0
    monkeypatch.setattr(core.cli.console.errors, "get_time", lambda: now)
    with byte_progress("bytes", before) as count:
        for done in (1200, 1300, 3000):
            now += 10 / 3
            count(done, 3000)
    assert re.findall(r"(\d+) bytes/s", terminal.getvalue())[-1] == rate


def test_one_measurement_has_no_range(workbook, tmp_path):
    common = {"bench_id": "box", "corpus": "a.txt", "vocab_size": 1000, "work": "train", "repeat": 0, "num_threads": 2}
    fields = {
        name: common.get(name, {str: "x", int: 6, float: 1.0, bool: True}.get(kind))
        for name, kind in typing.get_type_hints(TokenizerSpeedRow).items()
    }
    rows = [
        TokenizerSpeedRow(**fields | {"engine": engine, "wall_s": wall_s})
        for engine, wall_s in (("ours", 2.0), ("rustbpe", 11.0))
    ]
    write_rows(tmp_path, "tokenizer_speed", "box", rows)
    code, out, _ = workbook("bench", "tokenizer", "--out", "box", "--results", tmp_path)
    assert code == 0
    assert "5.50x" in next(line for line in out.splitlines() if "rustbpe" in line)
    assert "5.50x (" not in out
