"""One process per run folder, by a lock of the operating system: real processes, really killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.training.folder import run_folder
from core.training.lock import run_lock
from core.training.run import train

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from pathlib import Path
from core.training.folder import RunFolder
from core.training.lock import run_lock
with run_lock(RunFolder(Path(sys.argv[1]))):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run_folder(tmp_path, "r").path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_in_the_folder_is_refused_by_name(tiny_config, dataset, tmp_path, holder):
    folder = run_folder(tmp_path, "r")
    with pytest.raises(ValueError, match=rf"{folder.path}: process {holder.pid} on .* trains in this folder"):
        train(tiny_config, dataset, folder, tmp_path / "results")
    assert not folder.records.exists()
    holder.communicate("")
    assert not folder.lock_holder.exists()
    assert train(tiny_config, dataset, folder, tmp_path / "results").status == "finished"


def test_a_killed_run_leaves_no_lock(tiny_config, dataset, tmp_path, holder):
    folder = run_folder(tmp_path, "r")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert folder.lock.exists()
    assert folder.lock_holder.exists()
    assert train(tiny_config, dataset, folder, tmp_path / "results").status == "finished"


def test_a_lock_is_its_process_s_and_other_folders_are_free(tmp_path):
    folder, other = run_folder(tmp_path, "r"), run_folder(tmp_path, "other")
    with run_lock(folder):
        with pytest.raises(ValueError, match=rf"process {os.getpid()} on"), run_lock(folder):
            pass
        assert folder.lock_holder.exists()  # the refused one took nothing away
        with run_lock(other):
            pass
    with run_lock(folder):
        pass


def test_a_run_in_a_folder_that_cannot_be_made_is_refused_before_training(tiny_config, dataset, tmp_path):
    (tmp_path / "runs").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="runs"):
        train(tiny_config, dataset, run_folder(tmp_path, "r"), tmp_path / "results")


def test_clearing_a_folder_leaves_its_lock(tiny_config, dataset, tmp_path):
    folder = run_folder(tmp_path, "r")
    train(tiny_config, dataset, folder, tmp_path / "results")
    with run_lock(folder):
        folder.clear()
        assert sorted(path.name for path in folder.path.iterdir()) == ["lock", "lock.json"]
        with pytest.raises(ValueError, match="trains in this folder"), run_lock(folder):
            pass
