"""`notebooks/tokenizer_experiments.py` driven with rows of our own: what it says is what they say."""

import json
import math
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from test_notebooks import layers, load

from core.experiments.tokenizer_study import open_corpus, study_rows
from core.records import RunRow, StepRow, TokenizerSpeedRow
from core.results import write_rows

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "tokenizer_experiments.py"
TEXTS = {"sea": "she sells sea shells, {} of {}; ", "law": "the law tells sellers to tell buyers {} and {}. "}
BITS = {"tok-bytes": (257, (0.5, 0.6)), "tok-512": (512, (0.2, 0.3)), "other": (300, (0.1,))}
WALLS = {"ours": (2.0, 1.0, 4.0), "tiktoken": (20.0, 12.0, 36.0)}
COMMON = {"git_commit": "c0ffee", "utc": "2026-01-02T03:04:05+00:00", "device_name": "A machine"}


@pytest.fixture(scope="module")
def notebook():
    return load(NOTEBOOK)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    corpora = []
    for name, text in TEXTS.items():
        (folder / f"{name}.txt").write_text("".join(text.format(n, n * n) for n in range(100 + 300 * (name == "law"))))
        corpora.append(open_corpus(name, folder / f"{name}.txt", folder, 512))
    rows = study_rows(corpora, (256, 512), study_id="mine", git_commit="c0ffee")
    for table, measured in zip(("compression", "frequency", "growth"), rows, strict=True):
        write_rows(folder / "results", f"tokenizer_{table}", "mine", measured)
    return folder / "results", rows


def shown(notebook, results_dir):
    outputs, definitions = notebook.app.run(defs={"results_dir": results_dir})
    html = " ".join(unescape(getattr(output, "text", "")) for output in outputs)
    html = html.replace("\\u003c", "<").replace("\\u003e", ">")  # a callout's text is JSON
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split()), definitions


def run_and_steps(name, vocab_size, seed, bits):
    config = {"model": {"vocab_size": vocab_size, "context_length": 64}, "optimizer": {"lr": 0.01}}
    loss = bits * math.log(2) * 1000 / 500  # of 1000 bytes in 500 tokens
    about = {"run_id": f"{name}-{seed}", "model_flop": 3e12, "tokens": 4000, "elapsed_s": 9.0}
    run = RunRow(
        **about | COMMON,
        **{"name": name, "config_id": "c", "config_json": json.dumps(config), "dataset_id": "d", "tokenizer_id": "t"},
        **{"seed": seed, "status": "finished", "steps": 40, "parameters": vocab_size * 10, "eval_tokens": 500},
        **{"eval_bytes": 1000, "eval_loss_nats": loss, "eval_step": 40, "best_eval_loss_nats": loss},
        **{"eval_bits_per_byte": bits, "floor_loss_nats": 0.1, "device": "cpu", "num_threads": 1, "torch_version": "2"},
    )
    empty = dict.fromkeys(("train_loss_nats", "lr", "grad_norm", "tokens_per_s"))
    steps = [
        StepRow(step=step, eval_loss_nats=loss * 40 / step, segment=0, **empty | about | {"tokens": 100 * step})
        for step in (10, 40)
    ]
    return run, steps


def speed_row(engine, repeat, wall_s):
    return TokenizerSpeedRow(
        **COMMON,
        **{"bench_id": "b", "work": "encode_cold", "engine": engine, "package_version": None, "corpus": "text"},
        **{"corpus_bytes": 10**8, "corpus_sha256": "0", "vocab_size": 1000, "num_threads": 2, "repeat": repeat},
        **{"wall_s": wall_s, "process_s": None, "cpu_s": 1.0, "unwritten_s": None, "peak_rss_bytes": None},
        **{"text_bytes": 10**8, "tokens": 1, "calls": 1, "agrees": True, "python_version": "3", "numba_version": None},
    )


def test_the_study_is_told(notebook, study):
    results_dir, (compression, frequency, growth) = study
    text, definitions = shown(notebook, results_dir)
    size = definitions["size"]
    of = {
        (row.trained_on, row.encoded, row.part): row.text_bytes / row.tokens
        for row in compression
        if row.vocab_size <= size
    }
    chosen = definitions["text"]
    assert chosen == "law"
    best = max(("sea", "law"), key=lambda name: of[name, chosen, "held-out"])
    assert f"the vocabulary of {best} is best: {of[best, chosen, 'held-out']:.2f} bytes" in text
    assert f"packs {of['law', 'law', 'training']:.2f} bytes of that text into a token" in text
    assert f"Of text it has not seen: {of['law', 'law', 'held-out']:.2f}." in text
    pairs = ("sea", "law"), ("law", "sea")
    losses = [1 - of[one, other, "held-out"] / of[other, other, "held-out"] for one, other in pairs]
    assert f"costs {sum(losses) / 2:.0%} of the bytes per token in the mean of 2 pairs" in text
    assert f"{max(losses):.0%}" in text
    assert "The corpora differ in size" in text
    drawn = layers(definitions["heaps_chart"].to_dict())[0]["rows"]
    assert sorted((row["read_bytes"], row["distinct_pre_tokens"]) for row in drawn) == sorted(
        (row.read_bytes, row.distinct_pre_tokens) for row in growth
    )
    words = [row for row in frequency if row.kind == "rank" and row.vocab_size is not None and row.corpus == "sea"]
    drawn = [row for row in layers(definitions["zipf_chart"].to_dict())[1]["rows"] if row["corpus"] == "sea"]
    biggest = max(row.vocab_size for row in words)
    counts = [row.count for row in words if row.vocab_size == biggest]
    assert [row["relative"] for row in drawn] == [count / counts[0] for count in counts]
    assert "No run whose name begins with" in text
    assert "No measurement of speed yet" in text
    assert "bits_chart" not in definitions


def test_the_runs_are_told(notebook, tmp_path):
    for name, (vocab_size, seeds) in BITS.items():
        for seed, bits in enumerate(seeds):
            run, steps = run_and_steps(name, vocab_size, seed, bits)
            write_rows(tmp_path, "runs", run.run_id, [run])
            write_rows(tmp_path, "steps", run.run_id, steps)
    text, definitions = shown(notebook, tmp_path)
    assert [(row["model"], row["mean"]) for row in definitions["models"]] == [
        ("BPE, 512 tokens, context 64", pytest.approx(0.25)),
        ("bytes, context 64", pytest.approx(0.55)),
    ]
    floor = 0.1 * 500 / 1000 / math.log(2)
    assert f"0.2500 bits per byte, {0.25 - floor:.4f} above the floor of {floor:.4f}" in text
    assert "ends at 0.5500, 2.2 times as many. The seeds do not overlap" in text
    assert "4 runs of one architecture" in text
    assert "No measurement of compression yet" in text
    assert "vocabulary_chart" not in definitions


def test_the_speed_is_told(notebook, tmp_path):
    rows = [speed_row(engine, repeat, wall) for engine, walls in WALLS.items() for repeat, wall in enumerate(walls)]
    write_rows(tmp_path, "tokenizer_speed", "b", rows)
    text, definitions = shown(notebook, tmp_path)
    ours, other = definitions["engines"]
    assert (ours["median_rate"], ours["lowest_rate"], ours["highest_rate"]) == (5e7, 2.5e7, 1e8)
    assert (other["times"], other["lowest_times"], other["highest_times"]) == (10, 9, 12)
    assert "the Pile (825 GB) takes 4.6 hours on one such machine; 1 would do it" in text  # 825e9 / 5e7 = 16,500 s
    assert other["pile_s"] == pytest.approx(825e9 / 5e6)
    assert notebook.findings.machines_for_a_day(other["pile_s"]) == 2


def test_the_texts_are_those_of_the_study_with_the_most(notebook, study, tmp_path):
    _, (compression, _, _) = study
    alone = [replace(row, study_id="a", trained_on="tales", encoded="tales") for row in compression]
    for name, rows in (("mine", compression), ("a", alone)):
        write_rows(tmp_path, "tokenizer_compression", name, rows)
    _, definitions = shown(notebook, tmp_path)
    assert definitions["options"].value["study"] == "mine"
    assert list(definitions["of_study"].elements["text"].options) == ["law", "sea"]
    assert definitions["text"] == "law"


def test_only_works_that_were_measured_are_offered(notebook, tmp_path):
    rows = [replace(speed_row("ours", repeat, 0.2), work="short_50", calls=1000) for repeat in range(2)]
    write_rows(tmp_path, "tokenizer_speed", "b", rows)
    text, definitions = shown(notebook, tmp_path)
    assert list(definitions["options"].elements["work"].options) == ["strings of 50 characters"]
    assert definitions["bench"].value == "text, 1,000 tokens (b)"
    assert [row["median_us"] for row in definitions["engines"]] == [pytest.approx(200)]
    assert "µs per call ours 200.0" in text
    assert not [told for told in ("same result", "time / ours", "the Pile (825 GB)") if told in text]


def test_an_unreadable_file_is_named(notebook, study, tmp_path):
    (tmp_path / "tokenizer_speed").mkdir()
    (tmp_path / "tokenizer_speed" / "torn.parquet").write_bytes(b"PAR1")
    text, _ = shown(notebook, tmp_path)
    assert "torn.parquet: cannot be read" in text
