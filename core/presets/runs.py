"""Runs of this workbook: functions that return complete configurations."""

import dataclasses
from collections.abc import Callable

from core.config import DataConfig, ModelConfig, OptimizerConfig, RunConfig, ScheduleConfig


def quickstart() -> RunConfig:
    """0.7 million parameters on the built-in stories: under two minutes on two CPU cores."""
    model = ModelConfig(vocab_size=1024, context_length=256, d_model=128, num_layers=2, num_heads=4, d_ff=352)
    return RunConfig(
        name="quickstart",
        model=model,
        data=DataConfig(dataset="stories", eval_tokens=32_768),
        optimizer=OptimizerConfig(lr=1e-2),
        schedule=ScheduleConfig(kind="cosine", warmup_steps=50, final_lr=3e-4),
        batch_size=4,
        num_steps=2200,
        eval_every=200,
        checkpoint_every=400,
    )


def tinystories() -> RunConfig:
    """The base model of CS336's first assignment, on TinyStories: 327,680,000 tokens."""
    model = _model(10_000, 256, d_model=512, d_ff=1344, num_layers=4, num_heads=16)
    return standard_run("tinystories", "tinystories", model, batch_size=128, num_steps=10_000)


def owt(size: str) -> RunConfig:
    """The architecture at four sizes on OpenWebText: `tiny`, `small`, `medium`, `large`."""
    d_model, d_ff, num_layers, num_heads = {
        "tiny": (512, 1344, 4, 16),
        "small": (768, 3072, 12, 12),
        "medium": (1024, 4096, 24, 16),
        "large": (1280, 5120, 36, 20),
    }[size]
    model = _model(32_000, 256, d_model=d_model, d_ff=d_ff, num_layers=num_layers, num_heads=num_heads)
    return standard_run(f"owt-{size}", "owt", model, batch_size=64, num_steps=20_000)


def cs336_gpt2(size: str) -> RunConfig:
    """This architecture in the shapes of GPT-2, feed-forward un-gated: the textbook's accounting exercises."""
    d_model, num_layers, num_heads = {
        "small": (768, 12, 12),
        "medium": (1024, 24, 16),
        "large": (1280, 36, 20),
        "xl": (1600, 48, 25),
    }[size]
    model = dataclasses.replace(
        _model(50_257, 1024, d_model=d_model, d_ff=4 * d_model, num_layers=num_layers, num_heads=num_heads),
        feed_forward="silu",
    )
    return standard_run(f"cs336-gpt2-{size}", "owt", model, batch_size=16, num_steps=20_000)


def leaderboard() -> RunConfig:
    """A wide, tied model for a time-limited OpenWebText run."""
    model = dataclasses.replace(
        _model(32_000, 512, d_model=1280, d_ff=3456, num_layers=12, num_heads=16), tie_embeddings=True
    )
    return standard_run("leaderboard", "owt", model, batch_size=64, num_steps=20_000)


def _model(
    vocab_size: int, context_length: int, *, d_model: int, d_ff: int, num_layers: int, num_heads: int
) -> ModelConfig:
    return ModelConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        d_model=d_model,
        num_layers=num_layers,
        num_heads=num_heads,
        d_ff=d_ff,
    )


def standard_run(name: str, dataset: str, model: ModelConfig, *, batch_size: int, num_steps: int) -> RunConfig:
    """What the larger runs share: cosine to a tenth of the peak after 5 % of warm-up."""
    return RunConfig(
        name=name,
        model=model,
        data=DataConfig(dataset=dataset),
        optimizer=OptimizerConfig(lr=1e-3),
        schedule=ScheduleConfig(kind="cosine", warmup_steps=num_steps // 20, final_lr=1e-4),
        batch_size=batch_size,
        num_steps=num_steps,
        eval_every=500,
        checkpoint_every=1000,
    )


RUNS: dict[str, Callable[[], RunConfig]] = {
    "quickstart": quickstart,
    "tinystories": tinystories,
    **{f"owt-{size}": lambda size=size: owt(size) for size in ("tiny", "small", "medium", "large")},
    **{f"cs336-gpt2-{size}": lambda size=size: cs336_gpt2(size) for size in ("small", "medium", "large", "xl")},
    "leaderboard": leaderboard,
}
