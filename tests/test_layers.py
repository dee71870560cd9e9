"""Architecture: imports point up the list of layers, and the upper tiers run without what they must not need."""

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UPPER = ["remote", "files", "outputs", "config", "presets", "provenance", "records", "results", "curves", "charts"]
UPPER += ["schedules", "accounting", "benchmarks", "tokenizer", "corpus", "traces"]
LAYERS = [*UPPER, "model", "optim", "training", "inference", "experiments", "deploy", "cli"]
BROWSER = ["config", "presets", "curves", "charts", "accounting", "schedules", "tokenizer"]
FILES = sorted((ROOT / "core").rglob("*.py"))


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def layer(module):
    """Which layer a module of core belongs to; the package itself, which is empty, to none."""
    parts = module.split(".")
    if len(parts) == 1:
        return None
    return "cli" if parts[1] == "__main__" else parts[1]


def imports(package, source):
    """Every module that a source text of this package imports, anywhere in it, by absolute name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            # `from core import results` imports the module core.results; `from core.x import name` may, or not.
            yield from (f"{base}.{alias.name}" if base == "core" else base for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("__import__", "importlib.import_module"):
            yield from (ast.literal_eval(argument) for argument in node.args[:1])


def imports_of(name):
    path = MODULES[name]
    return list(imports(name if path.name == "__init__.py" else name.rpartition(".")[0], path.read_text()))


def run(code):
    return subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_up_the_list_of_layers(name):
    own = layer(name)
    found = [imported for imported in imports_of(name) if imported.split(".")[0] == "core"]
    if own is None:
        assert found == []
        return
    assert own in LAYERS, f"{name} is in no layer: name it in LAYERS and in the README"
    downward = [imported for imported in found if LAYERS.index(layer(imported)) > LAYERS.index(own)]
    assert downward == []


@pytest.mark.parametrize("name", MODULES)
def test_core_imports_no_notebook_and_no_test(name):
    found = {imported.split(".")[0] for imported in imports_of(name)}
    assert found & {"notebooks", "tests", "marimo"} == set()


def test_imports_of_every_form_are_read():
    code = """
        from .. import optim
        from ..model.layers import Linear
        from . import sibling
        from core import results
        from core.corpus.tokens import documents
        def late():
            import core.accounting.memory as memory
            importlib.import_module("core.schedules")
    """
    assert list(imports("core.training", textwrap.dedent(code))) == [
        "core.optim",
        "core.model.layers",
        "core.training",
        "core.results",
        "core.corpus.tokens",
        "core.accounting.memory",
        "core.schedules",
    ]


def blocked_import(modules, blocked):
    lines = ["import sys", *(f"sys.modules[{name!r}] = None" for name in blocked)]
    return run("\n".join([*lines, *(f"import {module}" for module in modules), "print('imported')"]))


def test_the_upper_tier_imports_without_torch():
    modules = [name for name in MODULES if layer(name) in UPPER]
    assert {layer(name) for name in modules} >= set(BROWSER) | {"corpus", "results", "records", "files"}
    done = blocked_import(modules, ["torch"])
    assert (done.stdout, done.stderr) == ("imported\n", "")


def test_the_browser_tier_imports_without_torch_polars_and_numpy():
    done = blocked_import([f"core.{name}" for name in BROWSER], ["torch", "polars", "numpy"])
    assert (done.stdout, done.stderr) == ("imported\n", "")


def test_importing_core_imports_nothing_else():
    done = run("import sys; before = set(sys.modules); import core; print(sorted(set(sys.modules) - before))")
    assert (done.stdout, done.stderr) == ("['core']\n", "")


def test_starting_the_command_line_imports_no_torch():
    done = run("import sys, core.cli; print([name for name in ('torch', 'polars', 'wandb') if name in sys.modules])")
    assert (done.stdout, done.stderr) == ("[]\n", "")
