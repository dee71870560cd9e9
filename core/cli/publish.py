"""`workbook publish`: a notebook as a static page, whose Python runs in the reader's browser (Pyodide)."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parents[2]
NOT_IN_BROWSERS = ("torch", "polars", "numpy")
"""The browser tier does without these: Pyodide has no torch, an older polars, and NumPy as megabytes to wait for."""
MANIFEST = "published.txt"
"""Names every file of a page. A folder that holds anything else is not replaced."""


def publish(
    notebook: Annotated[str, typer.Argument(help="Name of a notebook of the browser tier, such as architecture.")],
    out: Annotated[Path, typer.Option(help="Folder for the page; an earlier page is replaced.")] = Path("site"),
    offline: Annotated[
        bool,
        typer.Option("--offline", help="Put Python and its packages beside the page, which then asks no other host."),
    ] = False,
    pyodide_index_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="With --offline: a mirror of the Pyodide distribution.", show_default=False),
    ] = None,
    pypi_index_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="With --offline: a package index for what Pyodide lacks.", show_default=False),
    ] = None,
) -> None:
    """Make a notebook a static page for any web server: it runs in the reader's browser."""
    from core.cli.console import say

    path = _notebook(ROOT, notebook)
    out = _check_out(out)
    options = {"--pyodide-index-url": pyodide_index_url, "--pypi-index-url": pypi_index_url}
    options = {name: url for name, url in options.items() if url is not None}
    if options and not offline:
        raise ValueError(f"{' and '.join(options)} without --offline: without it the page itself asks the public hosts")
    if shutil.which("uv", path=_search_path()) is None:
        raise ValueError("uv is not installed, and marimo packs core with it: pip install -e '.[publish]'")
    if (ROOT / "results" / "devices").is_dir():
        from core.experiments.device_measure import export_devices

        export_devices(ROOT / "results", path.parent / "public" / "devices.json")

    words = [*(["--offline"] if offline else []), *(word for option in options.items() for word in option)]
    temporary = out.with_name(f".{out.name}.{secrets.token_hex(4)}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _export(path, temporary, words)
        files = sorted(file for file in temporary.rglob("*") if file.is_file())
        size = sum(file.stat().st_size for file in files)
        names = [file.relative_to(temporary).as_posix() for file in files]
        (temporary / MANIFEST).write_text("".join(f"{name}\n" for name in names))
        _swap(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    runtime = "" if offline else "; the reader's browser fetches Python itself from a public host"
    say(f"{_shown(out)}: {len(files):,} files, {size / 1e6:.1f} MB{runtime}")
    say("To read it here (it does not open from the disk, only over HTTP):")
    say(f"  python -m http.server -d {shlex.quote(_shown(out))}")
    say("and open the address that this prints. Any web server can serve the folder, also under a sub-path.")


@dataclass(slots=True)
class Needs:
    """What is imported when a notebook's cells run."""

    modules: dict[str, Path] = field(default_factory=dict)
    """Of core, by name, with their files."""
    packages: dict[str, str] = field(default_factory=dict)
    """Third-party modules that core imports, and by which of its modules first."""
    own_packages: set[str] = field(default_factory=set)
    """Third-party modules that the notebook itself imports."""

    def not_in_browsers(self) -> list[str]:
        """Why the notebook cannot be published; nothing if it can."""
        return [
            name if name in self.own_packages else f"{name} ({self.packages[name]})"
            for name in NOT_IN_BROWSERS
            if name in self.own_packages or name in self.packages
        ]


def needs(notebook: Path, root: Path) -> Needs:
    """Follow a notebook's imports through core without running any.

    Args:
        notebook: Its cells are functions, so that all its imports count, wherever they stand.
        root: Of the project. Of the modules of core only what is imported as they load counts.
    """
    found = Needs()
    pending = []

    def follow(names: Iterator[str], importer: str | None) -> None:
        for name in names:
            parts = name.split(".")
            if parts[0] != "core" and parts[0] not in sys.stdlib_module_names:
                if importer is None:
                    found.own_packages.add(parts[0])
                else:
                    found.packages.setdefault(parts[0], importer)
            for end in range(1, len(parts) + 1) if parts[0] == "core" else ():  # its packages are loaded before it
                module = ".".join(parts[:end])
                path = root.joinpath(*parts[:end])
                path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
                if path.is_file() and module not in found.modules:
                    found.modules[module] = path
                    pending.append(module)

    follow(_imports(ast.parse(notebook.read_bytes()), everywhere=True), None)
    while pending:
        module = pending.pop()
        follow(_imports(ast.parse(found.modules[module].read_bytes()), everywhere=False), module)
    return found


def _imports(node: ast.AST, everywhere: bool) -> Iterator[str]:
    """Every name that may be an imported module's, absolute imports only (this project has no others)."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            yield from _imports(ast.Module(child.orelse, []), everywhere)
        elif everywhere or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _imports(child, everywhere)


def _notebook(root: Path, name: str) -> Path:
    """The file of a notebook that can be published.

    Raises:
        ValueError: If there is none of this name, or it needs more than a browser has.
    """
    folder = root / "notebooks"
    if not (folder.is_dir() and (root / "pyproject.toml").is_file()):
        raise ValueError(
            f"no notebooks beside {root / 'core'}: publish from a checkout of the repository (pip install -e .), "
            "the installed package does not hold them"
        )
    from core.config.checks import did_you_mean

    name = name.removeprefix("notebooks/").removesuffix(".py")
    found = {path.stem: path for path in sorted(folder.glob("*.py"))}
    reasons = {stem: needs(path, root).not_in_browsers() for stem, path in found.items()}
    possible = f"can be published: {', '.join(stem for stem in found if not reasons[stem]) or 'none'}"
    if name not in found:
        raise ValueError(f"notebook is {name!r}: there is none of this name{did_you_mean(name, found)} ({possible})")
    if reasons[name]:
        raise ValueError(
            f"notebook {name} cannot run in a browser: it needs {', '.join(reasons[name])} ({possible}; "
            f"to read it: marimo run notebooks/{name}.py)"
        )
    return found[name]


def _check_out(out: Path) -> Path:
    """The folder to write, as it is called in the end.

    Raises:
        ValueError: If it holds something that is not a page of ours, or somebody works in it.
    """
    out = out.resolve()
    if Path.cwd().is_relative_to(out):
        raise ValueError(f"out is {_shown(out)}: the folder is replaced as a whole, so choose one that you are not in")
    if out.exists() and not out.is_dir():
        raise ValueError(f"out is {_shown(out)}: a file; name a folder")
    if out.is_dir() and any(out.iterdir()):
        manifest = out / MANIFEST
        ours = {MANIFEST, *manifest.read_text().splitlines()} if manifest.is_file() else set()
        present = (path for path in sorted(out.rglob("*")) if not path.is_dir() or path.is_symlink())
        foreign = next((name for path in present if (name := path.relative_to(out).as_posix()) not in ours), None)
        if foreign:
            raise ValueError(f"out is {_shown(out)}: it holds {foreign}, which is no file of a page published before")
    return out


def _export(notebook: Path, out: Path, options: list[str]) -> None:
    """Let marimo export a notebook, and check that what it imports of core came along.

    It works on a copy: marimo reads every Python file of the project, whatever else lies in a checkout, and the wheel
    that it makes of core knows what else to install only from a comment in core's files.
    """
    root = notebook.parents[1]
    needed = needs(notebook, root)
    with tempfile.TemporaryDirectory(prefix="workbook-publish-") as folder:
        copy = Path(folder).resolve()
        shutil.copytree(root / "core", copy / "core", ignore=shutil.ignore_patterns("__pycache__"))
        (copy / "notebooks").mkdir()
        shutil.copy(root / "pyproject.toml", copy)
        shutil.copy(notebook, copy / "notebooks")
        if (notebook.parent / "public").is_dir():
            shutil.copytree(notebook.parent / "public", copy / "notebooks" / "public")
        _declare(copy / "core" / "__init__.py", sorted(needed.packages))
        command = [sys.executable, "-m", "marimo", "-q", "export", "html-wasm", f"notebooks/{notebook.name}"]
        done = subprocess.run(
            [*command, "--output", str(out), "--mode", "run", "--no-sandbox", *options],
            cwd=copy,
            # uv fetches one tool for marimo, and trusts the certificates that the system trusts, as pip does.
            env={"UV_SYSTEM_CERTS": "true", "UV_NATIVE_TLS": "true", **os.environ, "PATH": _search_path()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise ValueError(f"marimo export html-wasm failed: {_reason(done.stderr + done.stdout)}")
    _check_wheel(out, {module: path.relative_to(root).as_posix() for module, path in needed.modules.items()})


def _search_path() -> str:
    """Where programs are looked for: beside this Python too, whose environment need not be the active one."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def _reason(output: str) -> str:
    """What marimo says went wrong, from the line that names an error, without tracebacks and the box around advice."""
    output = re.sub(r"^Traceback .*:\n(\s.*\n)+", "", output, flags=re.M)
    lines = [line for text in output.splitlines() if (line := text.strip()) and line[0] not in "╔║╚"]
    first = next((i for i, line in enumerate(lines) if re.match(r"[\w.]*Error: ", line)), max(0, len(lines) - 6))
    return " ".join(lines[first : first + 6]) or "it says nothing"


def _declare(path: Path, modules: list[str]) -> None:
    """Name the packages that core imports where marimo looks for them; the browser installs no others unasked."""
    distributions = importlib.metadata.packages_distributions()
    names = [distributions.get(module, [module])[0] for module in modules]
    header = ["# /// script", f"# dependencies = [{', '.join(f'{name!r}' for name in names)}]", "# ///"]
    path.write_text("\n".join([*header, path.read_text()]))


def _check_wheel(out: Path, needed: dict[str, str]) -> None:
    """Raise ValueError unless the page holds every module of core that its notebook loads: marimo would not say."""
    inside: set[str] = set()
    for wheel in (out / "public" / "wheels").glob("core-*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            inside.update(archive.namelist())
    missing = [module for module, path in needed.items() if path not in inside]
    if missing:
        raise ValueError(
            f"marimo left {', '.join(missing)} out of the page, which would not run: marimo follows the notebook's own "
            "imports, so let it import the package (from core.presets import PUBLISHED, not import published)"
        )


def _swap(new: Path, out: Path) -> None:
    """Put a folder in the place of another; what stood there goes only once the new one stands."""
    old = out.with_name(f".{out.name}.{secrets.token_hex(4)}.old")
    if out.exists():
        out.rename(old)
    try:
        new.rename(out)
    except BaseException:
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _shown(path: Path) -> str:
    """A path as short as it can be said here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
