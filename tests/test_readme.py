"""The README says what the code does: its commands and options exist, its layers are those of the layer test."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from core.accounting import parameters
from core.cli.configuration import load_config
from core.presets import PRESETS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```bash\n(.*?)^```", README, re.M | re.S)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.startswith("workbook ")]


def test_the_two_commands_install_and_run():
    first, tests = (block.strip() for block in BLOCKS if "pip install" in block)
    assert first == "python3 -m venv .venv && . .venv/bin/activate && pip install -e . && workbook quickstart"
    assert tests == "python3 -m venv .venv && . .venv/bin/activate && pip install -e '.[test]' && pytest"


@pytest.mark.parametrize("command", COMMANDS)
def test_command_has_its_options(command):
    words = shlex.split(command)
    path = [word for word in words[1:3] if re.fullmatch(r"[a-z]+(-[a-z]+)*", word)]
    path = path[: 2 if words[1] in ("data", "tokenizer", "device", "bench") else 1]
    done = subprocess.run(
        [sys.executable, "-m", "core", *path, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    options = {word.split("=")[0] for word in words if word.startswith("--")}
    assert {option for option in options if not re.search(rf"{option}\b", done.stdout)} == set()


def test_configurations_shown_can_be_loaded(tmp_path):
    (shown,) = re.findall(r"^```yaml\n(.*?)^```", README, re.M | re.S)
    (tmp_path / "wider.yaml").write_text(shown)
    assert load_config(str(tmp_path / "wider.yaml")).model.d_model == 768
    for command in COMMANDS:
        words = shlex.split(command)
        if words[1] in ("train", "account") and words[2] in PRESETS:
            fields = [word for word in words[3:] if "=" in word and not word.startswith("--")]
            assert load_config(words[2], fields).name


def test_the_size_of_the_quickstart_model():
    assert f"{parameters(PRESETS['quickstart']().model) / 1e6:.1f} million parameters" in README


def test_every_folder_of_core_is_in_the_layout():
    table = README[README.index("How the code is laid out") :]
    for path in sorted((ROOT / "core").iterdir()):
        if path.is_dir() and (path / "__init__.py").exists():
            assert f"`{path.name}/`" in table, path.name
