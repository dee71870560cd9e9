"""Training in a process of its own, started and stopped from a notebook, that outlives the page.

What is running is read from `DATA/runs/<run_id>/launch.json` and the process table, so a reloaded page finds it again.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

from core.files import read_json, write_json
from core.training.folder import RunFolder, run_folder


def launch(
    source: str,
    overrides: Sequence[str],
    data_dir: str | os.PathLike[str],
    results_dir: str | os.PathLike[str],
) -> RunFolder:
    """Start `workbook train` in a process of its own.

    Args:
        source: A preset's name or a file.
        overrides: Words such as `optimizer.lr=3e-4`.
        data_dir: As `--data`.
        results_dir: As `--results`.

    Returns:
        The run's folder, called by `name=` if that is among the overrides; what the command prints goes to its
        `train.log`, the command itself to `launch.json`.
    """
    names = [word.removeprefix("name=") for word in overrides if word.startswith("name=")]
    run_id = f"{names[-1] if names else Path(source).stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    folder = run_folder(data_dir, run_id)
    folder.path.mkdir(parents=True)
    places = [
        "--run-id",
        run_id,
        "--data",
        str(Path(data_dir).resolve()),
        "--results",
        str(Path(results_dir).resolve()),
    ]
    words = ["train", source, *overrides, *places]
    command = [sys.executable, "-m", "core", *words]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    # Through a shell, so that the process is nobody's child: it outlives the notebook and leaves no zombie behind.
    started = subprocess.run(
        ["/bin/sh", "-c", '"$@" > "$0" 2>&1 & echo $!', str(log_path(folder)), *command],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        start_new_session=True,
    )
    pid = int(started.stdout)
    started_at = psutil.Process(pid).create_time()
    launched = {"pid": pid, "create_time": started_at, "command": ["workbook", *words]}
    write_json(folder.path / "launch.json", launched)
    return folder


def log_path(folder: RunFolder) -> Path:
    """What the run's command has printed."""
    return folder.path / "train.log"


def is_running(folder: RunFolder) -> bool:
    """Whether the process that was launched for a run is alive."""
    return _process(folder) is not None


def running(data_dir: str | os.PathLike[str]) -> list[RunFolder]:
    """The launched runs that are alive."""
    folders = [RunFolder(path.parent) for path in sorted((Path(data_dir) / "runs").glob("*/launch.json"))]
    return [folder for folder in folders if is_running(folder)]


def stop(folder: RunFolder) -> None:
    """Ask a run to save and stop, as Ctrl-C would, however often; nothing happens if it has ended."""
    process = _process(folder)
    if process is not None:
        with contextlib.suppress(psutil.NoSuchProcess):  # it may end just now
            process.terminate()


def _process(folder: RunFolder) -> psutil.Process | None:
    try:
        launched = read_json(folder.path / "launch.json")
        process = psutil.Process(launched["pid"])
        # The number may have been given to another process since.
        same = abs(process.create_time() - launched["create_time"]) < 0.01
        alive = same and process.status() != psutil.STATUS_ZOMBIE
    except (ValueError, psutil.NoSuchProcess):
        return None
    return process if alive else None
