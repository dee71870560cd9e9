"""What tests of the command line share: running it in this process, texts and a tokenizer trained on them."""

import functools
import gzip
import sys

import pytest
from outcomes import TEXT

from core.cli.app import main


@pytest.fixture
def workbook(monkeypatch, capsys):
    """Run the command line in this process; returns exit code, standard output, standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["workbook", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return run


@pytest.fixture
def run(workbook, monkeypatch, tmp_path):
    """Run `workbook tokenizer` in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return functools.partial(workbook, "tokenizer")


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "a.txt").write_bytes(TEXT.encode())
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(TEXT[::-1].encode()))
    return ["a.txt", "b.txt.gz"]


@pytest.fixture
def trained(run, texts):
    """The texts, and beside them the folder `tok`."""
    assert run("train", *texts, "--vocab-size", 290, "--out", "tok", "--engine", "reference")[0] == 0
    return texts
