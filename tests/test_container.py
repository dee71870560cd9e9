"""The Dockerfile says what this repository holds; its steps, done by hand, install what trains."""

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tiny_run import TINY_FIELDS

from core.cli.options import DEFAULT_DATA, DEFAULT_RESULTS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
KNOWN = set(
    "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL RUN SHELL STOPSIGNAL USER VOLUME WORKDIR".split()  # noqa: SIM905
)


def instructions() -> list[tuple[str, str]]:
    """Every instruction's word and what follows it, continued lines joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", "").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in joined if line.strip()]


def of(word: str) -> list[str]:
    return [text for name, text in instructions() if name == word]


def copies() -> list[tuple[str, str]]:
    return [tuple(shlex.split(text)) for text in of("COPY")]


def is_sent(path: str) -> bool:
    """Whether a path of the repository reaches the builder; the last line of .dockerignore that fits decides."""
    sent = True
    for pattern in (ROOT / ".dockerignore").read_text().split():
        again, pattern = pattern.startswith("!"), pattern.removeprefix("!").removeprefix("**/")
        if any(fnmatch.fnmatch(part, pattern) for part in Path(path).parts):
            sent = again
    return sent


def test_every_instruction_is_known_and_the_first_names_the_base():
    words = [name for name, _ in instructions()]
    assert words[0] == "FROM"
    assert set(words) <= KNOWN
    major, minor = (int(part) for part in re.fullmatch(r"python:(\d+)\.(\d+)-slim", of("FROM")[0]).groups())
    assert PROJECT["requires-python"] == f">={major}.{minor}"


def test_what_is_copied_is_here_and_reaches_the_builder():
    for source, _ in copies():
        assert (ROOT / source).exists()
        assert is_sent(source)
    for path in (".git", "data", "results", ".venv", "core/cli/__pycache__", "tests"):
        assert not is_sent(path)


def test_it_names_no_host():
    text = (ROOT / "Dockerfile").read_text()
    assert "://" not in text
    assert re.findall(r"[\w-]+\.(?:com|dev|io|net|org)\b", text) == []
    assert {"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"} == set(of("ARG"))  # no default: who builds says where from


def test_it_ends_as_the_command_of_a_user_who_is_not_root():
    (command,) = json.loads(of("ENTRYPOINT")[0])
    assert command in PROJECT["scripts"]
    assert of("USER")[-1:] == ["workbook"]
    (workdir,) = of("WORKDIR")
    assert json.loads(of("VOLUME")[0]) == [f"{workdir}/{folder}" for folder in (DEFAULT_DATA, DEFAULT_RESULTS)]


def test_new_code_installs_no_dependency_again():
    steps = [text for name, text in instructions() if name == "COPY" or (name == "RUN" and "pip install" in text)]
    manifest, dependencies, readme, code, package = steps
    assert manifest == "pyproject.toml /build/"  # all that the layer below the code depends on
    assert "--no-deps" not in dependencies
    assert (readme, code) == ("README.md /build/", "core /build/core")
    assert package == "pip install --no-cache-dir --no-deps /build"


def test_dependencies_are_those_of_the_project(tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "pip").write_text('#!/bin/sh\necho "$@" > arguments\n')
    (tmp_path / "pip").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    step = next(text for text in of("RUN") if "pip" in text).replace("/build", str(tmp_path))
    subprocess.run(["/bin/sh", "-c", step], check=True, env=environment)
    asked = (tmp_path / "requirements.txt").read_text().splitlines()
    assert asked == PROJECT["dependencies"] + PROJECT["optional-dependencies"]["s3"]
    assert (tmp_path / "arguments").read_text().split()[-2:] == ["-r", "requirements.txt"]


@pytest.mark.slow
def test_what_is_copied_is_enough_to_install_and_train(own_data, tmp_path):
    build, site, work = tmp_path / "build", tmp_path / "site", tmp_path / "work"
    for source, target in copies():
        place = build / Path(target).relative_to("/build") / ("" if target.endswith("core") else source)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, place)
    step = of("RUN")[-1].replace("/build", str(build)).replace("pip ", f"{shlex.quote(sys.executable)} -m pip ", 1)
    subprocess.run(["/bin/sh", "-c", f"{step} --target {shlex.quote(str(site))}"], check=True, capture_output=True)
    work.mkdir()
    environment = os.environ | {"PYTHONPATH": str(site)}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=work, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    assert Path(run("-c", "import core; print(core.__file__)").strip()).is_relative_to(site)
    command = str(site / "bin" / "workbook")
    assert "train" in run(command, "--help")
    said = run(command, "train", "quickstart", "num_steps=7", "--data", str(own_data), "--samples", "1", *TINY_FIELDS)
    assert "finished after 7 steps" in said
    assert len(list((work / "results" / "runs").glob("quickstart-*.parquet"))) == 1
