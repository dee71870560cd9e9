"""How exactly a run computes: number formats, compiled kernels, algorithms of one result."""

import contextlib
import os
import shutil
from collections.abc import Iterator

import torch

from core.config import RunConfig


def weight_dtype(precision: str) -> torch.dtype:
    """The type of weights and statistics in a precision of `RunConfig`."""
    return torch.float64 if precision == "float64" else torch.float32


def check_numerics(config: RunConfig) -> None:
    """Raise ValueError for what the run's device has not: a precision, a compiler."""
    kind = torch.device(config.device).type
    if config.precision == "float64" and kind == "mps":
        raise ValueError("precision is float64, which MPS has not: use float32 there, or device=cpu")
    if config.precision == "tf32" and kind != "cuda":
        raise ValueError(f"precision is tf32, which only CUDA has: use float32 on {kind}")
    if config.compile and kind == "cpu" and not any(map(shutil.which, _COMPILERS)):
        raise ValueError("compile is True, but this machine has no C++ compiler (g++ or clang++): leave it off")


_COMPILERS = (os.environ.get("CXX") or "g++", "clang++")


def autocast(config: RunConfig) -> contextlib.AbstractContextManager:
    """In it, matrix products take bfloat16 operands if the run's precision says so."""
    if config.precision != "bfloat16-autocast":
        return contextlib.nullcontext()
    return torch.autocast(torch.device(config.device).type, torch.bfloat16)


@contextlib.contextmanager
def numerics(config: RunConfig) -> Iterator[None]:
    """In it, torch computes as the run wants; afterwards as before.

    Deterministic matrix products need CUBLAS_WORKSPACE_CONFIG before CUDA's first: it is set here if nobody did.
    """
    products, strict = torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()
    torch.set_float32_matmul_precision("high" if config.precision == "tf32" else "highest")
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.use_deterministic_algorithms(strict)


def bfloat16_is_fast(device: str) -> bool:
    """Whether a device has instructions for bfloat16 products: GPUs of this decade, CPUs with AVX512-BF16 or AMX."""
    if torch.device(device).type != "cpu":
        return True
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def is_emulated(config: RunConfig) -> bool:
    """Whether the run's device has no instructions for its precision: many times slower than float32, then."""
    return config.precision == "bfloat16-autocast" and not bfloat16_is_fast(config.device)


def faster_precision(config: RunConfig) -> str | None:
    """A precision in which the run's device multiplies faster than in the run's, weights kept; None if there is none.

    It is offered, not chosen: it changes the losses. `workbook bench train` measures by how much, and what it gains.
    """
    if config.precision in ("float32", "tf32") and bfloat16_is_fast(config.device):
        return "bfloat16-autocast"
    return None
