import ast
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import typer

import core.cli.app
from core.accounting.hardware import device_from_dict
from core.cli import publish
from core.experiments.device_measure import measure_device, read_measured_devices
from core.results import write_rows

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
BLOCK = "".join(f"sys.modules[{name!r}] = None\n" for name in publish.NOT_IN_BROWSERS)
needs_uv = pytest.mark.skipif(shutil.which("uv", path=publish._search_path()) is None, reason="uv is not installed")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of what publishing reads, with a measured device."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "core", root / "core", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "notebooks", root / "notebooks", ignore=shutil.ignore_patterns("__*__", "devices.json"))
    shutil.copy(ROOT / "pyproject.toml", root)
    rows = measure_device("cpu", "box", gemm_sizes=(13,), copy_bytes=4 * 1009, rounds=1, min_run_time_s=1e-3)
    write_rows(root / "results", "devices", "box", rows)
    return root


@pytest.fixture
def workbook(monkeypatch, capsys, project, tmp_path):
    """Run `workbook publish ...` on the copy, in a folder of its own; returns exit code and both outputs."""
    root = typer.Typer()
    root.command("publish")(publish.publish)
    root.command("other")(lambda: None)
    monkeypatch.setattr(core.cli.app, "app", root)
    monkeypatch.setattr(publish, "ROOT", project)
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["workbook", "publish", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            core.cli.app.main()
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return run


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def failure(done: tuple[int, str, str]) -> str:
    """The one line of standard error that a user's mistake ends in."""
    code, out, err = done
    assert (code, out, err.count("\n")) == (2, "", 1)
    return err


@needs_uv
def test_the_page_holds_all_that_it_runs(workbook, project, tmp_path):
    code, out, err = workbook("architecture")
    if "Failed to fetch" in err:
        pytest.skip("no package index can be reached, from which marimo has uv fetch a tool")
    assert (code, err) == (0, "")
    page = files(tmp_path / "site")
    (wheel,) = [name for name in page if name.endswith(".whl")]
    with zipfile.ZipFile(tmp_path / "site" / wheel) as archive:
        inside = archive.namelist()
        (metadata,) = [name for name in inside if name.endswith("/METADATA")]
        assert "\nRequires-Dist: altair\n" in archive.read(metadata).decode()
        archive.extractall(tmp_path / "wheel")
    assert set(inside) >= {f"core/{name}/__init__.py" for name in ("accounting", "charts", "config", "presets")}
    assert "core/training/run.py" not in inside
    assert Path(wheel).name.replace("+", "%2B") in page["index.html"].decode()

    # Nothing but the wheel: what runs here has all of core that the page has, and no more.
    cells = ast.walk(ast.parse((project / "notebooks" / "architecture.py").read_bytes()))
    imports = [node for node in cells if isinstance(node, ast.Import | ast.ImportFrom)]
    imports = [line for node in imports if "pyodide" not in (line := ast.unparse(node))]
    assert "from core import accounting, charts" in imports
    code = f"import sys\nsys.path.insert(0, {str(tmp_path / 'wheel')!r})\n{BLOCK}" + "\n".join(imports)
    code += "\nimport core.presets; print(accounting.parameters(core.presets.preset('gpt2').model), core.__file__)"
    done = subprocess.run([sys.executable, "-I", "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.stderr, done.stdout) == ("", f"124439808 {tmp_path / 'wheel' / 'core' / '__init__.py'}\n")

    exported = json.loads(page["public/devices.json"])
    assert {entry["id"]: device_from_dict(entry) for entry in exported} == read_measured_devices(project / "results")
    assert page["public/devices.json"] == (project / "notebooks" / "public" / "devices.json").read_bytes()

    size = sum(len(content) for name, content in page.items() if name != publish.MANIFEST)
    assert f"site: {len(page) - 1:,} files, {size / 1e6:.1f} MB" in out
    assert "\n  python -m http.server -d site\n" in out
    assert page[publish.MANIFEST].decode().splitlines() == sorted(page.keys() - {publish.MANIFEST}, key=Path)

    # Again: the earlier page is replaced, whatever became of its files, by the same bytes; nothing stays beside it.
    (tmp_path / "site" / "index.html").write_text("changed")
    (tmp_path / "site" / "logo.png").unlink()
    assert workbook("notebooks/architecture.py")[0] == 0
    assert files(tmp_path / "site") == page
    assert {path.name for path in tmp_path.iterdir()} == {"site", "wheel"}

    # marimo leaves out what a package imports if the notebook names only a module in it, and says nothing.
    publish._check_wheel(tmp_path / "site", {"core.presets.runs": "core/presets/runs.py"})
    with pytest.raises(ValueError, match=r"marimo left core\.training\.run out of the page, which would not run"):
        publish._check_wheel(tmp_path / "site", {"core.training.run": "core/training/run.py"})


@needs_uv
def test_a_failure_is_told_and_leaves_the_earlier_page(workbook, monkeypatch, tmp_path):
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_TOOL_DIR", str(tmp_path / "tools"))
    earlier = {"deep/site/index.html": b"earlier", "deep/site/published.txt": b"index.html\n"}
    (tmp_path / "deep" / "site").mkdir(parents=True)
    for name, content in earlier.items():
        (tmp_path / name).write_bytes(content)
    line = failure(workbook("architecture", "--out", tmp_path / "deep" / "site"))
    assert re.match(r"workbook: marimo export html-wasm failed: \S*Error: Failed to analyze local imports", line)
    assert "the network was disabled" in line
    assert "Traceback" not in line
    left = files(tmp_path)
    assert {name: left[name] for name in left if name.startswith("deep/")} == earlier


def test_without_uv(workbook, monkeypatch, tmp_path):
    monkeypatch.setattr(publish, "_search_path", lambda: str(tmp_path))
    assert "uv is not installed" in (line := failure(workbook("architecture")))
    assert "pip install -e '.[publish]'" in line


def test_what_cannot_be_published(workbook, monkeypatch, tmp_path):
    cases = {
        "notebook is 'architcture': there is none of this name; did you mean architecture? (can be": ["architcture"],
        "notebook is 'zzz': there is none of this name (can be published: architecture": ["zzz"],
        "notebook training cannot run in a browser: it needs polars": ["training"],
        "--pyodide-index-url without --offline": ["architecture", "--pyodide-index-url", "mirror"],
        "--pypi-index-url without --offline": ["architecture", "--pypi-index-url", "mirror"],
    }
    for message, words in cases.items():
        assert message in failure(workbook(*words))
    monkeypatch.setattr(publish, "ROOT", tmp_path)
    assert f"no notebooks beside {tmp_path / 'core'}: publish from a checkout" in failure(workbook("architecture"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_things_is_refused(workbook, tmp_path, monkeypatch):
    site = tmp_path / "site"
    (site / "assets").mkdir(parents=True)
    (site / "assets" / "mine.txt").write_text("kept")
    assert "out is site: it holds assets/mine.txt, which is no file of a page" in failure(workbook("architecture"))
    (site / publish.MANIFEST).write_text("index.html\n")
    assert "out is site: it holds assets/mine.txt" in failure(workbook("architecture"))
    file = site / "assets" / "mine.txt"
    assert "mine.txt: a file; name a folder" in failure(workbook("architecture", "--out", file))
    monkeypatch.chdir(site)
    assert "choose one that you are not in" in failure(workbook("architecture", "--out", "."))
    assert "choose one that you are not in" in failure(workbook("architecture", "--out", tmp_path))
    assert set(files(tmp_path)) == {"site/published.txt", "site/assets/mine.txt"}
    assert file.read_text() == "kept"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_reading_the_imports_agrees_with_importing(path):
    """Import what a notebook imports, where torch, polars and NumPy cannot be: what fails is what was read."""
    nodes = [node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Import | ast.ImportFrom)]
    code = f"import sys\n{BLOCK}missing = set()\n" + "".join(
        f"try: {ast.unparse(node)}\nexcept ModuleNotFoundError as error: missing.add(error.name)\n" for node in nodes
    )
    code += "print(sorted(missing), sorted(name for name in sys.modules if name.split('.')[0] == 'core'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    missing, loaded = map(ast.literal_eval, re.fullmatch(r"(\[.*\]) (\[.*\])\n", done.stdout).groups())
    found = publish.needs(path, ROOT)
    reasons = {reason.split()[0] for reason in found.not_in_browsers()}
    assert {name for name in missing if name in publish.NOT_IN_BROWSERS} <= reasons
    assert bool(reasons) == bool({*missing} & {*publish.NOT_IN_BROWSERS})
    if not reasons:
        assert sorted(found.modules) == loaded


def test_imports_that_count(tmp_path):
    """All of a notebook, and of core what runs when it is loaded: lazy imports and those for types do not."""
    texts = {
        "notebooks/book.py": "def cell():\n    from core.a import thing\n    import marimo, json\n",
        "core/__init__.py": "",
        "core/a/__init__.py": "import core.b\ndef late():\n    import torch\n",
        "core/a/unused.py": "import numpy\n",
        "core/b.py": """
            from typing import TYPE_CHECKING
            if TYPE_CHECKING:
                import numpy
            else:
                import altair
            try:
                from polars import DataFrame
            except ImportError:
                pass
            class Late:
                import yaml.nodes
                def late(self):
                    import core.a.unused
        """.replace("\n            ", "\n"),
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = publish.needs(tmp_path / "notebooks" / "book.py", tmp_path)
    expected = {"core": "core/__init__.py", "core.a": "core/a/__init__.py", "core.b": "core/b.py"}
    assert found.modules == {module: tmp_path / name for module, name in expected.items()}
    assert found.packages == {"altair": "core.b", "polars": "core.b", "yaml": "core.b"}
    assert found.own_packages == {"marimo"}
    assert found.not_in_browsers() == ["polars (core.b)"]


def test_importing_the_command_imports_nothing_heavy():
    code = "import sys, core.cli.publish\n"
    code += "print([name for name in ('torch', 'polars', 'numpy', 'marimo', 'altair') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
