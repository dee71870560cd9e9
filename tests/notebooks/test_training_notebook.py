"""`notebooks/training.py` driven with results of our own: the numbers it shows are the rows' numbers."""

from pathlib import Path

import pytest
from test_notebooks import load

from core.training.folder import run_folder
from core.training.run import train

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "training.py"


@pytest.fixture
def two_runs(tiny_config, dataset, tmp_path, replace):
    runs = {}
    for seed in (0, 1):
        config = replace(tiny_config, seed=seed)
        runs[seed] = train(config, dataset, run_folder(tmp_path / "data", f"tiny-{seed}"), tmp_path / "results")
    return runs


def test_shows_the_selected_run(two_runs, tmp_path):
    outputs, definitions = load(NOTEBOOK).app.run(
        defs={"results_dir": tmp_path / "results", "data_dir": tmp_path / "data"}
    )
    (shown,) = definitions["chosen_runs"]  # the first of the table unless the URL says otherwise
    run = two_runs[shown["seed"]]
    assert shown["eval_loss_nats"] == run.eval_loss_nats
    text = " ".join(getattr(output, "text", "") for output in outputs)
    assert f"{run.eval_loss_nats - run.floor_loss_nats:.4f} above the floor" in text
    assert f"{run.eval_bits_per_byte:.4f} bits per byte" in text
    assert [row["step"] for row in definitions["steps"]] == list(range(13))
