"""Runs that a notebook starts: found again by anyone, stopped without loss however often Stop is pressed."""

import time

import polars as pl
from tiny_run import TINY_FIELDS

from core.files import read_json, write_json
from core.training import launch
from core.training.folder import RunFolder

TINY = [*TINY_FIELDS, "eval_every=10", "checkpoint_every=100000"]


def test_launch_find_and_stop_twice(own_data, tmp_path):
    folder = launch.launch("quickstart", [*TINY, "num_steps=1000000", "name=called"], own_data, tmp_path / "results")
    deadline = time.monotonic() + 60
    while len(folder.rows()) < 20:
        assert time.monotonic() < deadline, launch.log_path(folder).read_text()
        time.sleep(0.05)
    assert launch.running(own_data) == [RunFolder(folder.path)]
    assert folder.path.name.startswith("called-")
    assert read_json(folder.path / "launch.json")["command"][:3] == ["workbook", "train", "quickstart"]
    launch.stop(folder)
    launch.stop(folder)
    while launch.is_running(folder):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert launch.running(own_data) == []
    row = pl.read_parquet(tmp_path / "results" / "runs" / f"{folder.path.name}.parquet").row(0, named=True)
    assert (row["status"], row["steps"]) == ("stopped", folder.checkpoint_steps()[-1])
    launch.stop(folder)  # nothing happens


def test_a_number_given_to_another_process_is_not_ours(tmp_path):
    import os

    folder = RunFolder(tmp_path / "runs" / "r")
    write_json(folder.path / "launch.json", {"pid": os.getpid(), "create_time": 1.0})
    assert not launch.is_running(folder)
    assert not launch.is_running(RunFolder(tmp_path / "runs" / "never"))
