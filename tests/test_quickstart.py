"""The newcomer's command, whole, and what the model it trains must show. Slow: it really trains."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from core.corpus.dataset import dataset_folder, open_dataset
from core.corpus.stories import floor_nats
from core.corpus.tokens import documents
from core.inference.load import load_run
from core.training.evaluation import token_losses

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def quickstart(folder: Path) -> str:
    command = [sys.executable, "-m", "core", "quickstart", "--data", "data", "--results", "results", "--device", "cpu"]
    threads = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=threads | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0
    assert [line for line in done.stderr.splitlines() if not re.match(r" +step +\d+ +evaluation loss ", line)] == []
    return done.stdout


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory):
    """A folder in which `workbook quickstart` has run once; yields it and what was printed."""
    folder = tmp_path_factory.mktemp("newcomer")
    return folder, quickstart(folder)


@pytest.fixture(scope="module")
def unseen(newcomer):
    """Per story of the validation part that the run was not evaluated on: tokens, floor, and the model."""
    folder, _ = newcomer
    (row,) = pl.read_parquet(folder / "results" / "runs" / "*.parquet").to_dicts()
    dataset = open_dataset(dataset_folder(folder / "data", "stories"))
    rest = np.asarray(dataset.valid.tokens[row["eval_tokens"] :][:60_000])
    end = dataset.valid.info.end_of_text_id
    rest = rest[: np.flatnonzero(rest == end)[-1] + 1]
    texts = [dataset.tokenizer.decode(document.tolist()) for document in documents(rest, end)]
    model = load_run(folder / "data", row["run_id"]).model
    return row, dataset, rest, end, np.array(floor_nats(texts)), model


def per_story(losses: np.ndarray, tokens: np.ndarray, end: int) -> np.ndarray:
    """Total loss of each story, its end marker included."""
    ends = np.flatnonzero(tokens == end) + 1
    return np.add.reduceat(losses, np.concatenate([[0], ends[:-1]]))


def standard_errors(difference: np.ndarray) -> float:
    """Mean of paired differences, in standard errors."""
    return float(difference.mean() / (difference.std(ddof=1) / np.sqrt(len(difference))))


def test_ends_with_stories_a_loss_beside_its_floor_and_the_next_command(newcomer):
    folder, out = newcomer
    assert out.rstrip().endswith("marimo run notebooks")
    loss = float(re.search(r"^evaluation loss +([\d.]+)", out, re.M)[1])
    floor = float(re.search(r"corpus floor +([\d.]+)", out)[1])
    assert floor < loss < floor + 0.2
    stories = pl.read_parquet(folder / "results" / "samples" / "*.parquet")["text"].to_list()
    assert len(stories) == 3
    for story in stories:
        assert story in out
        assert len(story.strip().split("\n")) >= 3  # an opening, what happened, a moral


def test_second_run_skips_what_stands(newcomer):
    folder, first = newcomer
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    out = quickstart(folder)
    assert out.count("already") == 2
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before
    assert out[out.index("3. three stories") :] == first[first.index("3. three stories") :]


def test_no_model_beats_the_floor_but_by_luck(unseen):
    _, _, tokens, end, floor, model = unseen
    difference = per_story(token_losses(model, tokens, end), tokens, end) - floor
    assert len(difference) > 300
    assert standard_errors(difference) >= -3


def test_context_matters_to_the_model(unseen):
    """Sixteen tokens of memory are measurably worse than the whole story."""
    _, _, tokens, end, _, model = unseen
    whole = per_story(token_losses(model, tokens, end), tokens, end)
    short = per_story(token_losses(model, tokens, end, context_length=16, batch_size=128), tokens, end)
    assert standard_errors(short - whole) > 10


def test_five_gram_is_worse_than_the_model(unseen):
    _, dataset, tokens, end, _, model = unseen
    whole = per_story(token_losses(model, tokens, end), tokens, end)
    five_gram = per_story(five_gram_losses(np.asarray(dataset.train.tokens), tokens, end, 1024), tokens, end)
    assert standard_errors(five_gram - whole) > 10


def five_gram_losses(train: np.ndarray, tokens: np.ndarray, end: int, vocab_size: int) -> np.ndarray:
    """Losses of an interpolated 5-gram model (Witten & Bell 1991) in nats, counted on the training tokens.

    p_n(w | c) = (count(c w) + kinds(c) p_{n-1}(w | c')) / (count(c) + kinds(c)),   p_0 = 1 / vocab_size
    """
    train = np.concatenate([np.full(4, end), train]).astype(np.int64)
    held = np.concatenate([np.full(4, end), tokens]).astype(np.int64)
    probability = np.full(len(tokens), 1 / vocab_size)
    for order in range(1, 6):
        seen, asked = (
            sum(part[4 - back : len(part) - back] * vocab_size**back for back in range(order)) for part in (train, held)
        )
        grams, counts = np.unique(seen, return_counts=True)
        contexts, first, kinds = np.unique(grams // vocab_size, return_index=True, return_counts=True)
        context_counts = np.add.reduceat(counts, first)
        gram_count = lookup(grams, counts, asked)
        context_count, context_kinds = (lookup(contexts, v, asked // vocab_size) for v in (context_counts, kinds))
        known = context_count > 0
        interpolated = (gram_count + context_kinds * probability) / np.maximum(context_count + context_kinds, 1)
        probability = np.where(known, interpolated, probability)
    return -np.log(probability)


def lookup(keys: np.ndarray, values: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The value of each asked key, 0 where it is not there."""
    place = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[place] == asked, values[place], 0)
