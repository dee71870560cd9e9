"""Trackers: what W&B's own file holds, that nothing becomes of training when W&B breaks, and what Trackio is told."""

import json
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
from tiny_run import TINY_FIELDS

from core.config import to_dict
from core.training.folder import run_folder
from core.training.run import train
from core.training.sinks import QueuedSink, TrackioSink, WandbSink

ROOT = Path(__file__).parents[2]


def wait_for(wanted: list[bytes], read) -> None:
    """W&B writes in a process of its own, which may lag behind."""
    deadline = time.monotonic() + 60
    while missing := [name for name in wanted if name not in read()]:
        assert time.monotonic() < deadline, missing
        time.sleep(0.2)


def keyless_environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "NETRC"))}
    return kept | {"HOME": str(home), "OMP_NUM_THREADS": "1"}


def workbook_train(data: Path, home: Path, *options: str, **variables: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "core", "train", "quickstart", "--data", str(data), "--results"]
    command += [str(home / "results"), "--run-id", "r", "--samples", "0", "num_steps=12", *TINY_FIELDS, *options]
    environment = keyless_environment(home) | variables
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL, timeout=300
    )


@pytest.mark.filterwarnings("ignore")  # wandb's own
def test_offline_run_holds_rows_and_configuration(tiny_config, dataset, tmp_path):
    folder, warned = run_folder(tmp_path, "r"), []

    def make():
        return WandbSink(
            tiny_config, "r", "offline", "project", str(folder.path), tags=["warm", "narrow"], group="a-group"
        )

    train(
        tiny_config,
        dataset,
        folder,
        tmp_path / "results",
        sinks=lambda trainer: [QueuedSink("W&B", make, warned.append)],
    )
    (file,) = folder.path.glob("wandb/offline-run-*/run-r.wandb")
    wanted = [b"train_loss_nats", b"eval_loss_nats", b"grad_norm", b"floor_loss_nats", b"weight_decay"]
    wanted += [b"warm", b"narrow", b"a-group", repr(folder.rows()[-1].eval_loss_nats).encode()]
    wait_for(wanted, file.read_bytes)
    assert warned == []


def test_online_without_a_key_is_one_line(own_data, tmp_path):
    done = workbook_train(own_data, tmp_path, "--wandb", "online")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "workbook: Weights & Biases cannot start: no API key (wandb login, or the variable WANDB_API_KEY); "
        "--wandb offline needs no account"
    )


WRONG = """
import sys
from core.presets import PRESETS
from core.training.sinks import QueuedSink, WandbSink

make = lambda: WandbSink(PRESETS["quickstart"](), "r", "online", "project", sys.argv[1])
try:
    QueuedSink("W&B", make, print, open_timeout_s=200)
except ValueError as error:
    print(error)
"""


def run_script(script: str, home: Path, *arguments: object, **variables: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", script, str(home), *(str(argument) for argument in arguments)]
    environment = keyless_environment(home) | variables
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=300)


def test_a_key_of_a_wrong_form_is_told_at_the_start(tmp_path):
    said = run_script(WRONG, tmp_path, WANDB_API_KEY="short").stdout
    assert said.startswith("Weights & Biases cannot start: WANDB_API_KEY invalid")
    assert said.endswith("has 5.; --wandb offline needs no account\n")


@pytest.mark.slow
def test_a_server_that_cannot_be_reached_stops_nothing(own_data, tmp_path):
    nobody = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "a" * 40}
    done = workbook_train(own_data, tmp_path, "--wandb", "online", **nobody)
    assert done.returncode == 0, done.stderr
    assert "finished after 12 steps" in done.stdout
    assert "warning: Weights & Biases has not started after 15 s" in done.stdout


ROWS = """
from core import results
from core.records import RunRow, StepRow

def example(row_type, **values):
    columns = {"Int64": 3, "Float64": 0.5, "String": "r"}
    return row_type(**{name: columns[str(kind)] for name, kind in results.schema(row_type).items()} | values)
"""
KILLED = """
import os, signal, sys, time
from pathlib import Path
from core.presets import PRESETS
from core.training.sinks import QueuedSink, WandbSink

folder = sys.argv[1]
make = lambda: WandbSink(PRESETS["quickstart"](), "r", "offline", "project", folder)
mirror = QueuedSink("W&B", make, print, open_timeout_s=200)
for step in range(int(sys.argv[2]), int(sys.argv[3])):
    mirror.row(example(StepRow, step=step))
newest = max(Path(folder).glob("wandb/*/run-r.wandb"), key=lambda file: file.stat().st_mtime_ns)
while b"tokens_per_s" not in newest.read_bytes():
    time.sleep(0.1)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_each_killed_offline_session_leaves_a_folder_of_the_same_id(tmp_path):
    for first, past in ((0, 50), (30, 80)):
        done = run_script(ROWS + KILLED, tmp_path, first, past)
        assert (done.returncode, done.stdout) == (-9, "")
    files = list(tmp_path.glob("wandb/offline-run-*/run-r.wandb"))
    assert len(files) == 2
    assert all(b"tokens_per_s" in file.read_bytes() for file in files)


BROKEN = """
import psutil, sys
from core.presets import PRESETS
from core.training.sinks import QueuedSink, WandbSink

make = lambda: WandbSink(PRESETS["quickstart"](), "r", "offline", "project", sys.argv[1])
mirror = QueuedSink("W&B", make, print, open_timeout_s=200)
children = psutil.Process().children(recursive=True)
print([child.name() for child in children][:1])
for child in children:
    child.kill()
psutil.wait_procs(children)
for step in range(50):
    mirror.row(example(StepRow, step=step))
mirror.finish(example(RunRow))
print("finished")
"""


@pytest.mark.slow
def test_the_death_of_its_own_process_is_one_warning(tmp_path):
    done = run_script(ROWS + BROKEN, tmp_path)
    killed, warning, end = done.stdout.splitlines()
    assert killed == "['wandb-core']"
    assert warning.startswith("warning: W&B has failed (")
    assert end == "finished"
    assert done.returncode == 0


def test_trackio_that_is_not_installed_says_how_to(tiny_config, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(ValueError, match=r"trackio is not installed: pip install -e '\.\[trackio\]'"):
        TrackioSink(tiny_config, "r", "project")


def test_trackio_is_told_configuration_rows_and_final_values(tiny_config, dataset, tmp_path, monkeypatch):
    told = []

    class Run:
        def log(self, metrics, step=None):
            told.append((step, metrics))

        def finish(self):
            told.append("finished")

    def init(project, name=None, group=None, config=None, resume="never", embed=True):
        assert (project, name, group, resume, embed) == ("project", "r", "a-group", "allow", False)
        assert json.loads(json.dumps(config)) == json.loads(json.dumps({**to_dict(tiny_config), "tags": ["warm"]}))
        return Run()

    monkeypatch.setitem(sys.modules, "trackio", types.SimpleNamespace(init=init))
    folder = run_folder(tmp_path, "r")

    def make():
        return TrackioSink(tiny_config, "r", "project", tags=["warm"], group="a-group")

    run = train(
        tiny_config,
        dataset,
        folder,
        tmp_path / "results",
        sinks=lambda trainer: [QueuedSink("Trackio", make, print)],
    )
    *steps, final, end = told
    assert [step for step, _ in steps] == list(range(13))
    assert [metrics.get("eval_loss_nats") for _, metrics in steps] == [row.eval_loss_nats for row in folder.rows()]
    assert "train_loss_nats" not in steps[0][1]  # the untrained model has none: missing, not 0
    assert (final[0], final[1]["final/eval_loss_nats"], final[1]["final/steps"]) == (12, run.eval_loss_nats, 12)
    assert end == "finished"
