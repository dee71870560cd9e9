"""Grids to measure a device with."""

from collections.abc import Callable, Mapping
from typing import Any

from core.config.checks import did_you_mean
from core.config.grid import GridConfig, GridPart

ALONG_AN_AXIS: dict[str, tuple[int, ...]] = {
    "batch_size": (1, 2, 4, 8, 16),
    "context_length": (64, 128, 256, 512),
    "d_model": (64, 128, 192, 256, 512),
    "d_head": (16, 32, 64),
    "num_layers": (1, 2, 4, 8),
    "d_ff": (128, 256, 512, 1024),
    "vocab_size": (512, 2048, 8192),
}
BOTH = ("sdpa", "written_out")


def _lines(base: Mapping[str, int], axes: Mapping[str, tuple[int, ...]], **others: Any) -> list[GridPart]:
    """One axis after another with all others held at the base."""
    return [GridPart(axes={**base, **others, axis: values}) for axis, values in axes.items()]


def smoke() -> GridConfig:
    """A point or two of everything, in half a minute: whether measuring works here."""
    tiny = {"batch_size": 2, "context_length": 32, "d_model": 32, "num_layers": 1, "d_ff": 64, "vocab_size": 64}
    few = {"batch_size": 2, "context_length": 32}
    heads = {"num_heads": 2, "d_head": 16}
    return GridConfig(
        name="smoke",
        visits=1,
        more_visits=0,
        parts=(
            GridPart(axes={**tiny, "d_head": 16, "attention": BOTH}),
            GridPart(subject="gemm", axes={**few, "d_model": 64, "d_ff": 128}),
            GridPart(subject="attention", axes={**few, **heads, "attention": ("sdpa", "written_out")}),
            GridPart(subject="softmax", axes={**few, "num_heads": 2}),
            GridPart(subject="rms_norm", axes={**few, "d_model": 64}),
            GridPart(subject="cross_entropy", axes={**few, "vocab_size": 128}),
            GridPart(subject="optimizer", axes={"d_model": 64, "d_ff": 128, "num_layers": 2}),
        ),
    )


def cpu() -> GridConfig:
    """Training steps of 0.2 to 60 GFLOP, along each axis and at random between, and single operations."""
    base = {"batch_size": 4, "context_length": 128, "d_model": 128, "d_head": 32, "num_layers": 2, "d_ff": 512}
    base["vocab_size"] = 2048
    wide = {
        **ALONG_AN_AXIS,
        "num_layers": (1, 2, 3, 4, 6, 8),
        "d_ff": (128, 256, 384, 512, 768, 1024, 1536, 2048),
        "attention": BOTH,
    }
    strata = {(2e8, 1e9): 25, (1e9, 5e9): 35, (5e9, 2e10): 30, (2e10, 6e10): 20}
    random = [
        GridPart(
            axes=wide,
            constraints=(
                "d_ff / d_model between 1.5 and 4",
                f"step_flop >= {least:.0f}",
                f"step_flop < {most:.0f}",
                "peak_bytes <= 4e9",
            ),
            sample=sample,
        )
        for (least, most), sample in strata.items()
    ]
    lines = _lines(base, ALONG_AN_AXIS, attention=BOTH)
    return GridConfig(name="cpu", visits=3, parts=(*lines, *random, *_cpu_operations()))


def _cpu_operations() -> list[GridPart]:
    short = {"batch_size": 4, "context_length": 256}
    heads = {"batch_size": 1, "num_heads": 4}
    return [
        GridPart(subject="gemm", axes={**short, "d_model": (64, 128, 256, 512), "d_ff": (256, 1024)}),
        GridPart(
            subject="attention",
            axes={**heads, "d_head": (16, 32, 64, 128), "context_length": (128, 256, 512, 1024), "attention": BOTH},
            constraints=("d_head = 32 or context_length in (256, 1024)",),
        ),
        GridPart(
            subject="attention",
            axes={
                **{"batch_size": 1, "num_heads": 1, "d_head": (16, 32, 64, 128)},
                **{"context_length": (4096, 16_384), "attention": BOTH},
            },
            constraints=("context_length = 4096 or attention = 'sdpa'",),
        ),
        GridPart(
            subject="attention", axes={**heads, "d_head": 64, "context_length": (256, 1024, 4096), "attention": "flash"}
        ),
        GridPart(subject="softmax", axes={**heads, "context_length": (128, 256, 512, 1024)}),
        GridPart(subject="rms_norm", axes={**short, "d_model": (64, 128, 256, 512)}),
        GridPart(subject="cross_entropy", axes={**short, "vocab_size": (512, 2048, 8192)}),
        GridPart(subject="optimizer", axes={"d_model": (128, 512), "d_ff": 1024, "num_layers": (2, 8)}),
        GridPart(
            subject="optimizer", axes={"d_model": 256, "d_ff": 512, "num_layers": 4, "optimizer": ("muon", "sgd")}
        ),
    ]


def mps() -> GridConfig:
    """Widths, depths, contexts and batches of laptop-sized models, written-out attention, float32."""
    axes = {
        "batch_size": (8, 16, 32, 48, 64, 80),
        "context_length": (256, 512, 768, 1024),
        "d_model": (256, 384, 512, 640, 768),
        "d_head": (32, 64, 96, 128),
        "num_layers": (8, 10, 12, 14, 16),
        "d_ff": (640, 704, 1024, 1344, 1728, 2048),
        "vocab_size": 10_000,
        "attention": "written_out",
    }
    usual = "d_ff / d_model between 2.4 and 2.8"
    return GridConfig(
        name="mps",
        parts=(
            GridPart(axes=axes, constraints=(usual, "peak_bytes <= 2e10", "step_flop <= 8e12"), sample=100),
            GridPart(
                axes={**axes, "attention": "sdpa"},
                constraints=(usual, "peak_bytes <= 1.6e10", "step_flop <= 8e12"),
                sample=30,
            ),
            GridPart(
                subject="attention",
                axes={
                    **{"batch_size": 1, "num_heads": 8, "d_head": (32, 64, 128)},
                    **{"context_length": (256, 1024, 4096), "attention": BOTH},
                },
            ),
        ),
    )


def cuda() -> GridConfig:
    """Models up to GPT-2 medium in float32 and bfloat16, with and without compiling; attention to 16,384 tokens."""
    ways = {"precision": ("float32", "bfloat16-autocast"), "attention": BOTH}
    axes = {
        "batch_size": (2, 4, 8, 16, 32),
        "context_length": (256, 512, 1024),
        "d_model": (256, 512, 768, 1024),
        "d_head": (32, 64, 128),
        "num_layers": (4, 8, 12, 24),
        "d_ff": (704, 1408, 2048, 2816),
        "vocab_size": (8192, 50_257),
    }
    usual = "d_ff / d_model between 2.6 and 2.8"
    base = {"batch_size": 8, "context_length": 512, "d_model": 512, "d_head": 64, "num_layers": 8, "d_ff": 1408}
    base["vocab_size"] = 8192
    lengths = (256, 512, 1024, 2048, 4096, 8192, 16_384)
    heads = {"batch_size": 4, "num_heads": 8, "d_head": (16, 32, 64, 128), "context_length": lengths}
    both = {"precision": ("float32", "bfloat16")}
    return GridConfig(
        name="cuda",
        parts=(
            *_lines(base, {axis: axes[axis] for axis in ("batch_size", "context_length", "num_layers")}, **ways),
            GridPart(axes={**axes, **ways}, constraints=(usual, "step_flop <= 3e13"), sample=32),
            GridPart(axes={**axes, **ways, "compile": True}, constraints=(usual, "step_flop <= 3e13"), sample=8),
            GridPart(
                subject="attention",
                axes={**heads, **both, "attention": BOTH},
                constraints=("precision = 'bfloat16' or d_head = 64",),
            ),
            GridPart(subject="attention", axes={**heads, "precision": "bfloat16", "attention": "flash"}),
            GridPart(
                subject="attention",
                axes={**heads, "precision": "bfloat16", "attention": "written_out", "compile": True},
                constraints=("context_length <= 4096", "d_head in (64, 128)"),
            ),
            GridPart(
                subject="gemm",
                axes={
                    **{"batch_size": 8, "context_length": 1024, "d_model": (256, 512, 1024, 2048)},
                    **{"d_ff": (1024, 4096), "precision": ("float32", "tf32", "bfloat16")},
                },
            ),
            GridPart(
                subject="softmax", axes={"batch_size": 4, "num_heads": 8, "context_length": (512, 1024, 2048), **both}
            ),
            GridPart(
                subject="rms_norm", axes={"batch_size": 8, "context_length": 1024, "d_model": (512, 1024, 2048), **both}
            ),
            GridPart(
                subject="cross_entropy",
                axes={"batch_size": 8, "context_length": 1024, "vocab_size": (8192, 50_257), **both},
            ),
            GridPart(subject="optimizer", axes={"d_model": 1024, "d_ff": (1024, 4096), "num_layers": (4, 24)}),
        ),
    )


GRIDS: dict[str, Callable[[], GridConfig]] = {"smoke": smoke, "cpu": cpu, "mps": mps, "cuda": cuda}


def grid_preset(name: str) -> GridConfig:
    """The grid of this name.

    Raises:
        ValueError: If there is none; the message names the nearest.
    """
    if name not in GRIDS:
        hint = did_you_mean(name, GRIDS)
        raise ValueError(f"{name!r} is neither a grid nor a file{hint} (grids: {', '.join(GRIDS)})")
    return GRIDS[name]()
