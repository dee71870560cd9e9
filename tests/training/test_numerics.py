"""Which precision a device is offered."""

import dataclasses

import pytest

from core.presets import preset
from core.training import numerics
from core.training.numerics import bfloat16_is_fast, faster_precision


@pytest.fixture
def config():
    return dataclasses.replace(preset("quickstart"), device="cpu")


@pytest.mark.parametrize(
    ("precision", "fast", "offered"),
    [
        ("float32", True, "bfloat16-autocast"),
        ("float32", False, None),
        ("tf32", True, "bfloat16-autocast"),
        ("bfloat16-autocast", True, None),
        ("float64", True, None),
    ],
)
def test_a_faster_precision_is_offered_where_the_device_has_it(config, precision, fast, offered, monkeypatch):
    monkeypatch.setattr(numerics, "bfloat16_is_fast", lambda device: fast)
    assert faster_precision(dataclasses.replace(config, precision=precision)) == offered


@pytest.mark.parametrize("avx512", [False, True])
@pytest.mark.parametrize("amx", [False, True])
def test_a_cpu_is_asked_for_its_instructions(avx512, amx, monkeypatch):
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: amx)
    assert bfloat16_is_fast("cpu") == (avx512 or amx)
    assert bfloat16_is_fast("cuda:1")
