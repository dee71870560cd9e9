import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.tokenizer.fast import compiled

PACKAGE = Path(compiled.__file__).parent
ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(tmp_path):
    """A copy of the package's files, and what loads its `compiled.py` anew with a cache beside it."""
    folder = Path(shutil.copytree(PACKAGE, tmp_path / "fast", ignore=shutil.ignore_patterns("__pycache__")))

    def load():
        spec = importlib.util.spec_from_file_location("compiled_copy", folder / "compiled.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.platformdirs = type("Folders", (), {"user_cache_dir": staticmethod(lambda name: str(tmp_path / name))})
        return module

    return folder, load


def test_the_cache_of_compiled_code_has_another_name_whenever_a_file_changes(copy):
    folder, load = copy
    names = [load().cache_folder().name]
    assert names == [compiled.cache_folder().name]
    files = sorted(folder.glob("*.py"))
    assert {"boundaries.py", "words.py", "learning.py", "compiled.py"} <= {file.name for file in files}
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content + b"# changed\n")
        names.append(load().cache_folder().name)
        file.write_bytes(content)
    (folder / "new.py").write_text("x = 1\n")
    names.append(load().cache_folder().name)
    assert len(set(names)) == len(files) + 2
    (folder / "new.py").unlink()
    assert load().cache_folder().name == names[0]


def test_code_that_checks_bounds_is_kept_apart(copy, monkeypatch):
    _, load = copy
    monkeypatch.setattr(compiled.config, "BOUNDSCHECK", 1)
    assert load().cache_folder().name != compiled.cache_folder().name


def test_compiling_is_announced_once_and_not_again(copy, capsys):
    _, load = copy
    module = load()
    assert not module.is_compiled("encoding")
    with module.announced("encoding"):
        assert re.fullmatch(r"compiling .*encoding.*\n", capsys.readouterr().err)
        assert not module.is_compiled("encoding")
    assert module.is_compiled("encoding")
    assert not module.is_compiled("training")
    for again in (module, load()):
        with again.announced("encoding"):
            pass
    assert capsys.readouterr() == ("", "")


def test_work_that_fails_is_announced_again(copy, capsys):
    _, load = copy
    module = load()
    with pytest.raises(KeyboardInterrupt), module.announced("encoding"):
        raise KeyboardInterrupt
    assert not module.is_compiled("encoding")
    with module.announced("encoding"):
        pass
    assert capsys.readouterr().err.count("compiling") == 2


def run(code, folder, **environment):
    """What a program of its own prints; its cache lies in the folder."""
    caches = {"XDG_CACHE_HOME": str(folder / "cache"), "HOME": str(folder), "LOCALAPPDATA": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | caches | {"PYTHONPATH": str(folder)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_compiled_code_is_kept_and_never_stale(tmp_path):
    shutil.copy(PACKAGE / "compiled.py", tmp_path)
    inner = "from compiled import kernel\n\n@kernel\ndef inner(x):\n    return x + {}\n"
    (tmp_path / "outer.py").write_text(
        "from compiled import kernel\nfrom inner import inner\n\n@kernel\ndef outer(x):\n    return 10 * inner(x)\n"
    )
    code = "from outer import outer; print(outer(1), sum(outer.stats.cache_hits.values()))"
    outcomes = []
    for added in (1, 1, 55):  # of another length: Python itself takes a file of one second and size for the same
        (tmp_path / "inner.py").write_text(inner.format(added))
        done = run(code, tmp_path)
        assert done.returncode == 0, done.stderr
        outcomes.append(done.stdout.split())
    assert outcomes == [["20", "0"], ["20", "1"], ["560", "0"]]


WRONG_INDEX = """
import numpy as np
from compiled import kernel, load64

@kernel
def read(array, index):
    return array[np.uint64(index)]

@kernel
def read_eight(array, index):
    return load64(array, np.uint64(index))

print(read(np.arange(8, dtype=np.uint8), 7), hex(read_eight(np.arange(8, dtype=np.uint8), 0)))
for function, index in ((read, 8), (read_eight, 1)):
    try:
        function(np.zeros(8, np.uint8), index)
    except IndexError:
        print("refused")
"""


def test_bounds_checks_see_a_wrong_index(tmp_path):
    shutil.copy(PACKAGE / "compiled.py", tmp_path)
    (tmp_path / "wrong.py").write_text(WRONG_INDEX)
    done = run("import wrong", tmp_path, NUMBA_BOUNDSCHECK="1")
    assert done.stdout.split("\n") == ["7 0x706050403020100", "refused", "refused", ""], done.stderr


@pytest.mark.slow
def test_no_test_of_the_fast_engine_makes_it_leave_its_arrays():
    files = sorted(Path(__file__).parent.glob("test_fast_*.py"))
    files.remove(Path(__file__))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *map(str, files)],
        cwd=ROOT,
        env=os.environ | {"NUMBA_BOUNDSCHECK": "1", "FAST_TEST_SHARE": "0.02"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 200
