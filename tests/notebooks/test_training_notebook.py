"""`notebooks/training.py` driven with results of our own: the numbers it shows are the rows' numbers."""

import json
import os
import re
import statistics
from pathlib import Path

import polars as pl
import pytest
from test_notebooks import layers, load

from core import results
from core.accounting import Moment, account, peak
from core.config.difference import recorded_config
from core.files import write_json
from core.records import DeviceRow
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


@pytest.mark.parametrize("newest", [0, 1])
def test_shows_the_newest_run(two_runs, tmp_path, newest):
    path = results.table_path(tmp_path / "results", "runs", f"tiny-{newest}")
    pl.read_parquet(path).with_columns(pl.lit("2999-01-01T00:00:00+00:00").alias("utc")).write_parquet(path)
    outputs, definitions = load(NOTEBOOK).app.run(
        defs={"results_dir": tmp_path / "results", "data_dir": tmp_path / "data"}
    )
    (shown,) = definitions["chosen_runs"]  # unless the URL says otherwise
    run = two_runs[newest]
    assert shown["run_id"] == run.run_id
    assert shown["eval_loss_nats"] == run.eval_loss_nats
    text = " ".join(getattr(output, "text", "") for output in outputs)
    assert f"{run.eval_loss_nats - run.floor_loss_nats:.4f} above the floor" in text
    assert f"{run.eval_bits_per_byte:.4f} bits per byte" in text
    assert [row["step"] for row in definitions["steps"]] == list(range(13))


def page(tmp_path, **definitions):
    places = {"results_dir": tmp_path / "results", "data_dir": tmp_path / "data"}
    outputs, defined = load(NOTEBOOK).app.run(defs={**places, **definitions})
    return " ".join(getattr(output, "text", "") for output in outputs), defined


class Selected:
    """What a table has as its value when these runs are selected."""

    def __init__(self, *run_ids):
        self.value = pl.DataFrame({"run": run_ids})


class Options:
    """The controls, all moved from where they stand at first."""

    def __init__(self):
        self.value = {"x": "tokens", "loss": "evaluation", "unit": "bits per byte", "smooth": 5}
        self.value |= {"log": False, "logx": True}


def test_compares_the_selected_runs(two_runs, tmp_path):
    ids = [run.run_id for run in two_runs.values()]
    _, defined = page(tmp_path, table=Selected(*ids), options=Options())
    assert {row["run_id"] for row in defined["chosen_runs"]} == set(ids)
    (seed,) = [row for row in defined["differing_fields"] if row["field"] == "seed"]
    assert seed == {"field": "seed", "recorded": True, "values": {"tiny-0": 0, "tiny-1": 1}}
    drawn = layers(defined["loss_chart"].to_dict())
    evaluations = next(layer for layer in drawn if layer["encoding"]["y"]["field"] == "eval_loss")
    assert evaluations["encoding"]["x"]["field"] == "tokens"
    last = {row["run_id"]: row["eval_loss"] for row in evaluations["rows"]}
    assert last == pytest.approx({run.run_id: run.eval_bits_per_byte for run in two_runs.values()}, rel=1e-12)


def test_throughput_and_memory_of_the_selected_run(two_runs, tmp_path):
    run = two_runs[0]
    text, defined = page(tmp_path, table=Selected(run.run_id), options=Options())
    timed = [row["tokens_per_s"] for row in defined["steps"] if row["tokens_per_s"] is not None]
    (speed,) = [row["speed"] for row in defined["throughputs"]]
    assert len(timed) == 12
    assert speed.tokens_per_s == statistics.median(timed)
    assert "workbook device measure" in text  # nothing has been measured in this folder of results
    (memory,) = defined["memories"]
    costs = account(recorded_config(run.config_json).model, batch_size=5, precision="float64")
    assert sum(memory[part] for part in Moment.KINDS) == peak(costs).total


def test_utilisation_against_the_measured_device(two_runs, tmp_path):
    run = two_runs[0]
    rate = 2.5e9
    absent = dict.fromkeys(("accumulate_dtype", "size", "median_s", "iqr_s", "best_s", "blocks", "git_commit"))
    same = {name: getattr(run, name) for name in ("device", "device_name", "num_threads", "torch_version", "utc")}
    row = DeviceRow(device_id="d", quantity="gemm", dtype="float64", value=rate, unit="FLOP/s", **absent, **same)
    results.write_rows(tmp_path / "results", "devices", "d", [row])
    _, defined = page(tmp_path, table=Selected(run.run_id), options=Options())
    (told,) = defined["throughputs"]
    median = statistics.median(row["tokens_per_s"] for row in defined["steps"] if row["tokens_per_s"] is not None)
    assert told["mfu_noncausal"] == pytest.approx(median * run.model_flop / run.tokens / rate, rel=1e-12)


def test_rows_of_before_these_columns_are_read(two_runs, tmp_path):
    """Older files lack columns, and their configurations fields."""
    for table, columns in (("runs", ["peak_bytes", "predicted_peak_bytes", "world_size"]), ("steps", ["stall_s"])):
        path = results.table_path(tmp_path / "results", table, "tiny-0")
        frame = pl.read_parquet(path).drop(columns)
        if table == "runs":
            config = json.loads(frame["config_json"][0])
            config["dtype"] = config.pop("precision")
            del config["ema_decay"], config["optimizer"]["kind"]
            frame = frame.with_columns(pl.lit(json.dumps(config)).alias("config_json"))
        frame.write_parquet(path)
    _, defined = page(tmp_path, table=Selected("tiny-0", "tiny-1"), options=Options())
    assert [row["field"] for row in defined["differing_fields"] if row["recorded"]] == ["seed"]
    partly = {row["field"]: row["values"]["tiny-0"] for row in defined["differing_fields"] if not row["recorded"]}
    assert partly == {"ema_decay": "not recorded", "optimizer.kind": "not recorded"}
    assert {row["speed"].stall_share is None for row in defined["throughputs"] if row["run_id"] == "tiny-0"} == {True}
    assert {row["run_id"]: row["off"] for row in defined["memories"]} == {"tiny-0": None, "tiny-1": None}


def test_a_run_without_texts_says_why(two_runs, tmp_path):
    path = results.table_path(tmp_path / "results", "runs", "tiny-1")
    pl.read_parquet(path).with_columns(pl.lit("stopped").alias("status")).write_parquet(path)
    text, defined = page(tmp_path, table=Selected("tiny-0", "tiny-1"), options=Options())
    assert defined["samples"] == []
    assert "tiny-0 has finished, and no text of it is recorded" in text
    assert "tiny-1 is stopped: a run writes texts when it finishes." in text


def test_a_run_started_here_that_has_ended(two_runs, tmp_path):
    """Its state is that of its row, its command the one that ran, and there is nothing to stop."""
    command = ["workbook", "train", "quickstart", "name=tiny", "--run-id", "tiny-1"]
    launched = {"pid": os.getpid(), "create_time": 1.0, "command": command}  # another process's number by now
    write_json(tmp_path / "data" / "runs" / "tiny-1" / "launch.json", launched)
    text, defined = page(tmp_path)
    assert "tiny-1</strong>: finished" in text
    assert "workbook train quickstart name=tiny --run-id tiny-1" in text
    buttons = "".join(re.findall("<marimo-button[^>]*data-label='([^']*)'", text))
    assert "Start" in buttons
    assert "Stop" not in buttons
    assert [row["step"] for row in defined["live_rows"]] == list(range(13))


class Form:
    def __init__(self, **fields):
        usual = {"preset": "quickstart", "optimizer": "", "precision": "", "micro_batch": "", "overrides": ""}
        self.value = {**usual, **fields}


def test_the_form_becomes_the_words_of_the_command(tmp_path):
    form = Form(precision="precision=tf32", micro_batch="micro_batch_size=2", overrides="seed=7 num_steps=60")
    text, defined = page(tmp_path, live_form=form, start=Pressed(False), stop=Pressed(False))
    assert (defined["plan_error"], defined["plan_words"]) == (
        "",
        ["precision=tf32", "micro_batch_size=2", "seed=7", "num_steps=60"],
    )
    assert "workbook train quickstart precision=tf32 micro_batch_size=2 seed=7 num_steps=60" in text


def test_a_form_that_does_not_fit_is_answered_and_not_started(tmp_path):
    form = Form(micro_batch="micro_batch_size=8")
    text, defined = page(tmp_path, live_form=form, start=Pressed(True), stop=Pressed(False))
    assert defined["plan_error"] == "batch_size 4 is not a multiple of micro_batch_size 8"
    assert "not started: batch_size 4 is not a multiple of micro_batch_size 8" in text
    assert not (tmp_path / "data").exists()


class Pressed:
    def __init__(self, value):
        self.value = value
