"""Runs that are killed, for good, by SIGKILL to a process of their own: from outside at random moments, and inside the
writing of checkpoints, rows and results. Resumed until they end, they are the run that nobody disturbed, bit for bit.

The processes are forked from one that has imported everything, so that a hundred of them take seconds.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_run import TINY_FIELDS

from core import results
from core.training.checkpoint import read_checkpoint
from core.training.folder import RunFolder, run_folder

ROOT = Path(__file__).parents[2]

COMMON = """
import json, os, random, signal, sys, time
from pathlib import Path
from core.cli.configuration import load_config
from core.corpus.dataset import dataset_folder, open_dataset
from core.training import checkpoint, run
from core.training.checkpoint import read_checkpoint
from core.training.folder import run_folder

data, fields = Path(sys.argv[1]), json.loads(sys.argv[2])

def train(run_id):
    config = load_config("quickstart", fields)
    dataset = open_dataset(dataset_folder(data, "stories"))
    return run.train(config, dataset, run_folder(data, run_id), data / "results")

def child(work):
    number = os.fork()
    if number == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    return number

def killed(number):
    status = os.waitpid(number, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the run failed"
    return os.WIFSIGNALED(status)

def check(folder):
    '''What carries a checkpoint's name is whole, and the latest one is never lost.'''
    steps = folder.checkpoint_steps()
    for step in steps:
        assert read_checkpoint(folder.checkpoint(step))["step"] == step
    return steps[-1] if steps else -1
"""

FROM_OUTSIDE = (
    COMMON
    + """
assert not killed(child(lambda: train("whole")))
draw, folder, latest = random.Random(int(sys.argv[3])), run_folder(data, "broken"), -1

def wait_for_rows(wanted, number, old_file):
    size = None
    while wanted:
        status = folder.records.stat() if folder.records.exists() else None
        if status is not None and status.st_ino != old_file:  # cut back to the checkpoint it goes on from
            wanted -= size is not None and status.st_size > size
            size = status.st_size
        assert os.waitpid(number, os.WNOHANG) == (0, 0), "it ended by itself"
        time.sleep(0.0005)

for _ in range(20):
    old_file = folder.records.stat().st_ino if folder.records.exists() else None
    number = child(lambda: train("broken"))
    wait_for_rows(draw.randrange(1, 12), number, old_file)
    time.sleep(draw.uniform(0, 0.01))
    os.kill(number, signal.SIGKILL)
    assert killed(number)
    assert (now := check(folder)) >= latest
    latest = now
assert not killed(child(lambda: train("broken")))
"""
)

INSIDE = (
    COMMON
    + """
from threading import get_ident

inside, calls = None, 0

def counted(name, function, at):
    def call(*arguments, **options):
        global calls
        calls += inside == get_ident()
        if inside == get_ident() and calls == at:
            where = arguments[1] if name in ("save_file", "write_row") else arguments[0]
            with (data / "kills").open("a") as kills:
                kills.write(f"{run_id} {name} {where}\\n")
            if name == "save_file":
                function(*arguments, **options)
                os.truncate(where, where.stat().st_size // 2)
            if name == "write_row":
                arguments[0].write(b'{"run_id": "broken", "st')
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call

def watched(function):
    def call(*arguments, **options):
        global inside
        inside = get_ident()
        try:
            return function(*arguments, **options)
        finally:
            inside = None
    return call

def train_dying(at):
    for name in ("fsync", "rename", "replace", "unlink", "rmdir", "mkdir"):
        setattr(os, name, counted(name, getattr(os, name), at))
    checkpoint.save_file = counted("save_file", checkpoint.save_file, at)
    run.write_row = counted("write_row", run.write_row, at)
    module, name = {
        "start": (run, "train"),
        "write": (checkpoint, "write_checkpoint"),
        "prune": (checkpoint, "prune"),
        "results": (run.results, "write_rows"),
    }[run_id]
    setattr(module, name, watched(getattr(module, name)))
    train(run_id)

assert not killed(child(lambda: train("whole")))
for run_id in ("start", "write", "prune", "results"):
    folder, latest, at = run_folder(data, run_id), -1, 1
    while killed(child(lambda: train_dying(at))):
        assert (now := check(folder)) >= latest
        latest = now
        at += 1
"""
)


def run_script(script: str, data: Path, fields: list[str], *arguments: str) -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    command = [sys.executable, "-c", script, str(data), json.dumps([*TINY_FIELDS, *fields]), *arguments]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def curve(folder: RunFolder) -> list[tuple]:
    """Every measured number to its last bit."""
    return [
        (row.step, *(value if value is None else value.hex() for value in measured))
        for row in folder.rows()
        for measured in [(row.train_loss_nats, row.eval_loss_nats, row.lr, row.grad_norm)]
    ]


def check_same(data: Path, run_id: str, num_steps: int) -> None:
    whole, broken = run_folder(data, "whole"), run_folder(data, run_id)
    assert curve(broken) == curve(whole)
    assert [row.step for row in broken.rows()] == list(range(num_steps + 1))
    stored = results.read_rows(data / "results", "steps", run_id)
    assert [row["step"] for row in stored] == list(range(num_steps + 1))
    assert results.read_run(data / "results", run_id)["status"] == "finished"
    assert broken.checkpoint_steps() == whole.checkpoint_steps()
    for step in broken.checkpoint_steps():
        digests = [read_checkpoint(folder.checkpoint(step))["sha256"] for folder in (whole, broken)]
        assert digests[0] == digests[1]
    assert len(list(broken.checkpoints.iterdir())) == len(broken.checkpoint_steps())


@pytest.mark.slow
def test_killed_at_20_random_moments(own_data):
    """A checkpoint every third step, so that many are hit while one is being written."""
    fields = ["num_steps=400", "eval_every=7", "checkpoint_every=3", "ema_decay=0.9"]
    run_script(FROM_OUTSIDE, own_data, fields, "20260")
    segments = {row.segment for row in run_folder(own_data, "broken").rows()}
    assert len(segments) > 5
    check_same(own_data, "broken", 400)


@pytest.mark.slow
def test_killed_at_every_change_to_the_disk(own_data):
    """The n-th process of a run dies at the n-th change that its main thread makes, or that are made for checkpoints
    only, their pruning, the results: half-written tensors, a torn row, before a rename, between the two result tables.
    """
    fields = ["num_steps=11", "eval_every=5", "checkpoint_every=2", "keep_checkpoints=1", "optimizer.kind=muon"]
    run_script(INSIDE, own_data, [*fields, "ema_decay=0.9"])
    kills = [line.split(" ", 2) for line in (own_data / "kills").read_text().splitlines()]
    for run_id, least in {
        "start": {"fsync", "mkdir", "replace", "write_row"},
        "write": {"fsync", "mkdir", "rename", "replace", "save_file"},
        "prune": {"rename", "rmdir", "unlink"},
        "results": {"fsync", "replace"},
    }.items():
        check_same(own_data, run_id, 11)
        assert {name for each, name, _ in kills if each == run_id} >= least
    between = [where for run_id, name, where in kills if (run_id, name) == ("results", "replace")]
    assert [Path(where).parent.name for where in between] == ["steps", "runs"]
