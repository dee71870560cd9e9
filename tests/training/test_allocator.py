"""Freed memory is kept: a large tensor made again costs no pages anew, neither in the main thread nor in another."""

import ctypes
import json
import subprocess
import sys

import pytest

from core.training import allocator

PAGES = 25_000  # of a tensor of 100 MB, and of each made again while nothing is kept
SCRIPT = """
import json, resource, sys, threading
import torch
from core.training.allocator import keep_freed_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.empty(25_600_000).fill_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

kept = keep_freed_memory("cpu") if sys.argv[1] == "keep" else None
found = []
def work():
    for _ in range(5):
        pages()
    found.append(pages())
work()
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(json.dumps([kept, *found]))
"""


def pages(word):
    command = [sys.executable, "-c", SCRIPT, word]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="glibc alone maps anew"
)
def test_a_tensor_made_again_takes_the_memory_of_the_last():
    _, *given_back = pages("give back")
    if min(given_back) < PAGES:
        pytest.skip("this system does not count pages, or keeps them by itself")
    kept, *after = pages("keep")
    assert kept is True
    assert max(after) < PAGES // 10


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
def test_on_other_devices_nothing_is_changed(device, monkeypatch):
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)  # not even asked
    assert allocator.keep_freed_memory(device) is False


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_nothing_is_changed(platform, monkeypatch):
    monkeypatch.setattr(sys, "platform", platform)
    assert allocator.keep_freed_memory("cpu") is False


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert allocator.keep_freed_memory("cpu") is False
