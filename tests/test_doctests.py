"""The examples in docstrings give what they say."""

import doctest
import importlib
import pkgutil

import core


def test_examples():
    names = [module.name for module in pkgutil.walk_packages(core.__path__, "core.") if module.name != "core.__main__"]
    results = [doctest.testmod(importlib.import_module(name)) for name in names]
    assert sum(result.failed for result in results) == 0
    assert sum(result.attempted for result in results) >= 2
