"""Every notebook: strict check, nothing lost, runs, runs on nothing, runs as a script, draws columns that exist."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])

SHOWN = ("mo.", "alt.", "charts.")


def load(path: Path):
    spec = importlib.util.spec_from_file_location(f"notebook_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def is_cell(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and any("app.cell" in ast.unparse(d) for d in node.decorator_list)


@each
def test_strict_check(path):
    done = subprocess.run(
        [sys.executable, "-m", "marimo", "check", "--strict", str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@each
def test_every_cell_has_a_name_and_no_output_is_lost(path):
    """Of a cell only the last expression is shown; what stands before it vanishes without a word."""
    cells = [node for node in ast.parse(path.read_text()).body if is_cell(node)]
    assert cells
    assert all(cell.name != "_" for cell in cells)
    lost = [
        (statement.lineno, ast.unparse(statement)[:60])
        for cell in cells
        for statement in [s for s in cell.body if not isinstance(s, ast.Return)][:-1]
        if isinstance(statement, ast.Expr)
        and ast.unparse(statement).startswith(SHOWN)
        and not ast.unparse(statement).startswith("mo.stop(")
    ]
    assert lost == []


@each
def test_runs_with_the_committed_results(path):
    _, definitions = load(path).app.run()
    drawn = {name: value for name, value in definitions.items() if name.endswith("_chart")}
    assert drawn, "a notebook shows at least one figure of the committed results"
    for chart in drawn.values():
        for layer in layers(chart.to_dict()):
            assert layer["rows"], layer["encoding"]
            assert fields(layer["encoding"]) <= set(layer["rows"][0])


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if "def inputs_results(" in path.read_text()])
def test_opens_without_results_and_says_what_to_run(path, tmp_path):
    module = load(path)
    outputs, definitions = module.app.run(defs={"results_dir": tmp_path, "data_dir": tmp_path})
    assert not [name for name in definitions if name.endswith("_chart")]
    assert any("workbook " in getattr(output, "text", "") for output in outputs)


@each
def test_runs_as_a_script(path):
    done = subprocess.run([sys.executable, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def layers(chart: dict) -> list[dict]:
    found = []
    for layer in chart.get("layer", [chart]):
        data = layer.get("data", chart.get("data"))
        rows = data.get("values") or chart.get("datasets", {}).get(data.get("name"), [])
        found.append({"encoding": layer["encoding"], "rows": rows})
    return found


def fields(encoding: dict) -> set[str]:
    channels = [channel for value in encoding.values() for channel in (value if isinstance(value, list) else [value])]
    return {channel["field"] for channel in channels if "field" in channel}
