"""The study against encoding with vocabularies that were trained at each size, and what follows from the rows."""

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from core.cli.tokenizer_study import named_paths, parse_sizes, study
from core.experiments import tokenizer_findings as findings
from core.experiments.tokenizer_study import _spread, open_corpus, read_part, study_rows, tokens_by_size, unmerged
from core.records import CompressionRow
from core.results import read_rows, read_table
from core.tokenizer import Tokenizer, train_bpe
from core.tokenizer.anatomy import token_ranks
from core.tokenizer.pretokenize import END_OF_TEXT
from core.tokenizer.train import count_pre_tokens

SIZES = (256, 257, 300, 341, 400)
TEXTS = {
    "sea": "she sells sea shells; the shells she sells are sea-shells, I'm sure.\n\n  Größe 🙂 {}{}" + END_OF_TEXT,
    "law": "the law says {}: whoever sells shall tell the buyer what he sells{} 漢字" + END_OF_TEXT,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    for name, text in TEXTS.items():
        (folder / f"{name}.txt").write_bytes("".join(text.format(n, n * n) for n in range(53)).encode())
    return folder


@pytest.fixture(scope="module")
def corpora(files):
    (files / "parts").mkdir()
    return {name: open_corpus(name, files / f"{name}.txt", files / "parts", max(SIZES)) for name in TEXTS}


@pytest.fixture(scope="module")
def rows(corpora):
    return study_rows(list(corpora.values()), SIZES, study_id="tiny", git_commit="c0ffee")


def encoded(files, trained_on, vocab_size, encoded_part):
    """Tokens of a part, special tokens apart, with a vocabulary trained at that size from the beginning."""
    vocab, merges = train_bpe(files / "parts" / f"{trained_on}.train.txt", vocab_size + 1, [END_OF_TEXT])
    tokenizer = Tokenizer(vocab, merges, [END_OF_TEXT])
    ids = tokenizer.encode((files / "parts" / encoded_part).read_bytes().decode())
    return [vocab[token_id] for token_id in ids if token_id != tokenizer.special_id(END_OF_TEXT)]


def test_every_size_is_as_if_trained_at_that_size(files, rows):
    compression, _, _ = rows
    assert len(compression) == len(SIZES) * (4 + 2)
    for row in compression:
        part = f"{row.encoded}.{'train' if row.part == 'training' else 'held-out'}.txt"
        tokens = encoded(files, row.trained_on, row.vocab_size, part)
        assert (row.tokens, row.used_tokens) == (len(tokens), len(set(tokens)))
        assert row.text_bytes == sum(map(len, tokens))
        if row.vocab_size == 256:
            assert row.tokens == row.text_bytes


def test_a_tenth_is_held_out_and_markers_count_nowhere(files, corpora, rows):
    for name, corpus in corpora.items():
        text = (files / f"{name}.txt").read_bytes().decode()
        plain = len(text.replace(END_OF_TEXT, "").encode())
        assert corpus.training.num_bytes + corpus.held_out.num_bytes == plain
        held_out = (files / "parts" / f"{name}.held-out.txt").read_bytes().decode()
        assert held_out.count(END_OF_TEXT) == 5  # of 53 documents every tenth
    taught = {row.trained_on: row.train_bytes for row in rows[0]}
    assert taught == {name: corpus.training.num_bytes for name, corpus in corpora.items()}


def test_merges_are_undone_to_the_letter():
    merges = [(b"a", b"b"), (b"c", b"d"), (b"ab", b"cd"), (b"ab", b"ab"), (b"abab", b"abcd")]
    tokens = Counter({b"abababcd": 2, b"abcd": 3, b"abab": 5, b"x": 7})
    ranks = token_ranks(merges)
    assert unmerged(tokens, merges, ranks, 5) == tokens
    assert unmerged(tokens, merges, ranks, 4) == {b"abab": 7, b"abcd": 5, b"x": 7}
    assert unmerged(tokens, merges, ranks, 3) == {b"ab": 14, b"abcd": 5, b"x": 7}
    assert unmerged(tokens, merges, ranks, 1) == {b"ab": 19, b"c": 5, b"d": 5, b"x": 7}
    assert unmerged(tokens, merges, ranks, 0) == {b"a": 19, b"b": 19, b"c": 5, b"d": 5, b"x": 7}


def test_a_vocabulary_that_ends_early_stands_for_the_larger_sizes(tmp_path):
    (tmp_path / "small.txt").write_text("abcd abcd " * 20)
    corpus = open_corpus("small", tmp_path / "small.txt", tmp_path, 400)
    assert len(corpus.merges) < 10
    compression, _, _ = study_rows([corpus], (256, 258, 300, 400), study_id="small")
    sizes = [row.vocab_size for row in compression if row.part == "held-out"]
    assert sizes == [256, 258, 256 + len(corpus.merges)]
    assert list(tokens_by_size({"abcd": 2}, corpus.merges, [256])) == [{b"a": 2, b"b": 2, b"c": 2, b"d": 2}]


def test_frequencies_are_of_the_whole_corpus(files, corpora, rows):
    _, frequency, _ = rows
    for name, corpus in corpora.items():
        whole = count_pre_tokens([(files / f"{name}.txt").read_bytes().decode()], [END_OF_TEXT])
        assert corpus.training.pre_tokens + corpus.held_out.pre_tokens == whole
        words = [row for row in frequency if (row.corpus, row.vocab_size, row.kind) == (name, None, "rank")]
        counts = sorted(whole.values(), reverse=True)
        assert [row.count for row in words] == [counts[row.rank - 1] for row in words]
        assert [whole[row.piece.decode()] for row in words] == [row.count for row in words]
        assert (words[0].rank, words[-1].rank) == (1, len(counts))
        tokens = Counter(encoded(files, name, 341, f"{name}.train.txt"))
        tokens += Counter(encoded(files, name, 341, f"{name}.held-out.txt"))
        ranked = [row for row in frequency if (row.corpus, row.vocab_size, row.kind) == (name, 341, "rank")]
        assert all(tokens[row.piece] == row.count for row in ranked)
        assert ranked[-1].rank == len(tokens)
        longest = [row for row in frequency if (row.corpus, row.vocab_size, row.kind) == (name, 341, "longest")]
        made = [left + right for left, right in corpus.merges[: 341 - 256]]
        assert [len(row.piece) for row in longest] == sorted(map(len, made), reverse=True)[:12]
        assert all(row.piece in made and row.count == tokens[row.piece] for row in longest)


def test_growth_is_counted_along_the_text(tmp_path):
    words = [f"w{n * n % 211}" for n in range(2000)]
    (tmp_path / "text.txt").write_text(" ".join(words))
    part = read_part(tmp_path / "text.txt")
    pieces = [words[0], *(f" {word}" for word in words[1:])]
    pieces = [piece for word in pieces for piece in (word.rstrip("0123456789"), word.lstrip(" w")) if piece]
    ends = {}
    seen, read = set(), 0
    for piece in pieces:
        seen.add(piece)
        read += len(piece)
        ends[read] = len(seen)
    assert all(ends[read] == distinct for read, distinct in part.growth)
    assert part.growth[-1] == (read, len(seen))
    assert [read >= 1024 * 2 ** (place / 4) for place, (read, _) in enumerate(part.growth[:-1])] == [True] * 13
    assert all(read < 1024 * 2 ** (place / 4) + 5 for place, (read, _) in enumerate(part.growth[:-1]))


def test_a_limit_takes_the_beginning_and_no_part_of_a_character(tmp_path):
    (tmp_path / "text.txt").write_text("ab ü " * 50)
    for limit, kept in ((201, 201), (202, 201), (203, 203), (204, 204)):  # bytes 201 and 202 are one character
        folder = tmp_path / str(limit)
        folder.mkdir()
        corpus = open_corpus("cut", tmp_path / "text.txt", folder, 260, limit)
        assert corpus.training.num_bytes + corpus.held_out.num_bytes == kept


def test_ranks_are_spread_from_the_first_to_the_last():
    assert _spread(0) == []
    assert _spread(1) == [1]
    assert _spread(7) == [1, 2, 3, 4, 5, 6, 7]
    ranks = _spread(1_000_000)
    assert (ranks[0], ranks[-1], len(ranks)) == (1, 1_000_000, len(set(ranks)))
    assert max(b / a for a, b in pairwise(ranks[20:])) < 1.3


def row(trained_on, encoded, vocab_size, tokens, part="held-out", text_bytes=1000, used=0):
    return {"trained_on": trained_on, "encoded": encoded, "vocab_size": vocab_size, "part": part} | {
        "tokens": tokens,
        "text_bytes": text_bytes,
        "used_tokens": used,
        "train_bytes": 10,
    }


def test_the_loss_is_against_the_texts_own_vocabulary():
    rows = [row("a", "a", 512, 500), row("a", "a", 1024, 400), row("a", "a", 1024, 250, "training")]
    rows += [row("b", "b", 512, 400), row("b", "a", 512, 625), row("a", "b", 512, 320), row("a", "b", 1024, 300)]
    found = {(each["trained_on"], each["encoded"]): each for each in findings.transfer(rows, 1000)}
    assert {pair: each["loss"] for pair, each in found.items()} == pytest.approx(
        {("a", "a"): 0, ("b", "b"): 0, ("b", "a"): 0.2, ("a", "b"): -0.25}
    )
    found = {(each["trained_on"], each["encoded"]): each for each in findings.transfer(rows, 1024)}
    assert found["b", "a"]["loss"] == pytest.approx(1 - 400 / 625)
    assert (found["b", "a"]["vocab_size"], found["a", "b"]["vocab_size"]) == (512, 1024)
    assert findings.transfer(rows[3:], 256) == []


def test_power_laws_are_found():
    points = [(x, 5 * x**-1.25) for x in (1, 3, 10, 50)]
    assert findings.power_law(points) == pytest.approx((-1.25, 5))
    with pytest.raises(ValueError, match="2 points: a power law needs at least two different x"):
        findings.power_law([(3, 1), (3, 2)])
    ranks = [{"rank": rank, "count": 10**9 / rank if rank >= 10 else 1} for rank in (1, 2, 10, 50, 100, 1000, 10_000)]
    assert findings.zipf_exponent(ranks) == pytest.approx(-1)
    assert findings.zipf_exponent(ranks[:3]) is None
    growth = [{"read_bytes": n, "distinct_pre_tokens": 7 * n**0.5 if n >= 1000 else 3} for n in (10, 1000, 4000, 16000)]
    assert findings.heaps_exponent(growth) == pytest.approx(0.5)
    assert findings.heaps_exponent([]) is None


def test_the_marker_takes_an_id_of_the_smaller_type():
    rows = findings.bytes_per_token([row("a", "a", size, 250) for size in (256, 65_535, 65_536)])
    shares = {(each["vocab_size"], each["dtype"]): each["file_share"] for each in findings.file_sizes(rows)}
    assert shares == {
        (256, "fewest bits"): 250 * 9 / 8 / 1000,
        **{(256, "uint16"): 0.5, (256, "uint32"): 1.0, (65_535, "uint16"): 0.5, (65_535, "uint32"): 1.0},
        **{(65_535, "fewest bits"): 0.5, (65_536, "fewest bits"): 250 * 17 / 8 / 1000, (65_536, "uint32"): 1.0},
    }


def test_own_size_takes_the_last_size_that_there_is():
    rows = [
        {"corpus": corpus, "vocab_size": size, "rank": rank}
        for corpus, sizes in {"a": (None, 256, 512), "b": (None, 256, 300)}.items()
        for size in sizes
        for rank in (2, 1)
    ]
    chosen = findings.own_size(rows, 511)
    assert {name: {each["vocab_size"] for each in found} for name, found in chosen.items()} == {"a": {256}, "b": {300}}
    assert [each["rank"] for each in chosen["a"]] == [1, 2]
    assert {each["vocab_size"] for each in findings.own_size(rows, None)["a"]} == {None}


def test_sizes_and_names_are_checked():
    assert parse_sizes("256,512 1024") == [256, 512, 1024]
    for wrong in ("", "255", "x", "512,-3"):
        with pytest.raises(ValueError, match="--vocab-sizes is"):
            parse_sizes(wrong)
    assert {name: str(path) for name, path in named_paths(["a=x.txt", "b=p=q"]).items()} == {"a": "x.txt", "b": "p=q"}
    with pytest.raises(ValueError, match=r"'x\.txt': name the corpus, as in stories=x\.txt"):
        named_paths(["x.txt"])
    with pytest.raises(ValueError, match="another corpus is called a"):
        named_paths(["a=x", "a=y"])
    with pytest.raises(ValueError, match="a plain name"):
        named_paths(["a/b=x"])


def test_the_command_keeps_what_is_measured(files, rows, tmp_path):
    app = typer.Typer()
    app.command()(study)
    given = [f"{name}={files / f'{name}.txt'}" for name in TEXTS]
    given += ["--vocab-sizes", ",".join(map(str, SIZES)), "--results", str(tmp_path), "--commit", "c0ffee"]
    done = CliRunner().invoke(app, given, catch_exceptions=False)
    read = [CompressionRow(**each) for each in read_rows(tmp_path, "tokenizer_compression", "sea-law")]
    assert [(each.tokens, each.used_tokens) for each in read] == [(each.tokens, each.used_tokens) for each in rows[0]]
    assert {each.git_commit for each in read} == {"c0ffee"}
    for table, expected in (("tokenizer_frequency", rows[1]), ("tokenizer_growth", rows[2])):
        assert read_table(tmp_path, table)[0].height == len(expected)
    (line,) = [line for line in done.output.splitlines() if line.startswith("sea           law")]
    shown = next(each for each in rows[0] if (each.encoded, each.trained_on, each.vocab_size) == ("sea", "law", 256))
    assert line.split() == ["sea", "law", f"{shown.text_bytes / shown.tokens:.3f}"]
    again = CliRunner().invoke(app, given, catch_exceptions=False)
    assert "--fresh measures anew" in again.output
    assert line in again.output


def test_the_command_has_corpora_of_its_own(tmp_path):
    app = typer.Typer()
    app.command()(study)
    given = ["--limit-bytes", "60000", "--vocab-sizes", "256,300", "--results", str(tmp_path)]
    CliRunner().invoke(app, given, catch_exceptions=False)
    read = read_rows(tmp_path, "tokenizer_compression", "stories-longtail-60kb")
    assert {(each["trained_on"], each["encoded"]) for each in read if each["part"] == "held-out"} == {
        (one, other) for one in ("stories", "longtail") for other in ("stories", "longtail")
    }
    assert {each["train_bytes"] > 50_000 for each in read} == {True}


def test_the_committed_rows_come_out_again(shared_text, tmp_path):
    committed, _ = read_table(Path(__file__).parents[2] / "results", "tokenizer_compression")
    sizes = (256, 512)
    corpus = open_corpus("shakespeare", shared_text / "tinyshakespeare.txt", tmp_path, max(sizes))
    found, _, _ = study_rows([corpus], sizes, study_id="again")
    same = [
        (each["part"], each["vocab_size"], each["tokens"], each["used_tokens"], each["text_sha256"])
        for each in committed.to_dicts()
        if each["study_id"] == "five-corpora"
        and each["trained_on"] == each["encoded"] == "shakespeare"
        and each["vocab_size"] in sizes
    ]
    assert same == [(row.part, row.vocab_size, row.tokens, row.used_tokens, row.text_sha256) for row in found]


def test_bits_per_byte_of_every_evaluation():
    run = {"run_id": "r", "eval_bytes": 1000, "eval_tokens": 250, "eval_bits_per_byte": 0.5, "seed": 3}
    run |= {"config_json": '{"model": {"vocab_size": 1024, "context_length": 256}}', "floor_loss_nats": math.log(2)}
    bare = {"run_id": "r", "elapsed_s": 1.0, "model_flop": 2.0}
    steps = [
        bare | {"step": step, "tokens": 10 * step, "eval_loss_nats": loss}
        for step, loss in ((20, math.log(2)), (0, 9.0), (10, 3 * math.log(2)), (15, None))
    ]
    curves = findings.learning_rows([run], steps)
    assert [(each["step"], each["read_bytes"]) for each in curves] == [(10, 400), (20, 800)]
    assert [each["bits_per_byte"] for each in curves] == pytest.approx([0.75, 0.25])
    assert {each["model"] for each in curves} == {"BPE, 1,024 tokens, context 256"}
    assert findings.vocabulary_name('{"model": {"vocab_size": 257, "context_length": 9}}') == "bytes, context 9"
    told = '{"name": "tok-x", "seed": 1, "data": {"dataset": "tok-x"}, "model": {"vocab_size": 512}, "num_steps": 7}'
    assert findings.overrides(told) == "name=tok-x data.dataset=tok-x model.vocab_size=512 num_steps=7 seed=1"
    assert findings.bits_at(curves, curves[0]["model"], 500) == pytest.approx(0.625)
    assert findings.bits_at(curves, curves[0]["model"], 801) is None
    assert findings.floor_bits_per_byte([run, run]) == pytest.approx(0.25)
    assert findings.floor_bits_per_byte([run, run | {"floor_loss_nats": None}]) is None
    assert findings.floor_bits_per_byte([run, run | {"floor_loss_nats": 1.0}]) is None
    assert findings.floor_bits_per_byte([]) is None


def test_models_are_ranked_by_the_mean_of_their_runs():
    ends = {"a0": ("A", 0.5), "a1": ("A", 0.7), "b0": ("B", 0.4)}
    runs = [{"run_id": name, "eval_bits_per_byte": bits, "parameters": 7} for name, (_, bits) in ends.items()]
    curves = [
        {"run_id": name, "model": model, "model_flop": 10.0 * (place + 1), "read_bytes": 4.0, "bits_per_byte": bits}
        for place, (name, (model, bits)) in enumerate(ends.items())
    ]
    best, other = findings.model_rows(runs, curves)
    assert (best["model"], best["runs"], best["mean"], best["model_flop"]) == ("B", 1, 0.4, 30)
    assert (other["model"], other["runs"], other["least"], other["most"]) == ("A", 2, 0.5, 0.7)
    assert (other["mean"], other["model_flop"]) == pytest.approx((0.6, 15))
