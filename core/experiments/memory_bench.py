"""Predicted against measured memory over training steps of every kind: rows of the table `memory`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from core.accounting import account, peak
from core.config import ModelConfig, canonical_json
from core.experiments.memory_measure import measure_peak, measure_saved
from core.provenance import utc_now
from core.records import MemoryRow
from core.training.device import device_name

SHAPES: dict[str, tuple[int, dict[str, int]]] = {
    "activations": (
        4,
        {"vocab_size": 512, "context_length": 128, "d_model": 128, "num_layers": 4, "num_heads": 4, "d_ff": 352},
    ),
    "scores": (
        2,
        {"vocab_size": 128, "context_length": 384, "d_model": 64, "num_layers": 2, "num_heads": 8, "d_ff": 176},
    ),
    "feed-forward": (
        3,
        {"vocab_size": 128, "context_length": 96, "d_model": 96, "num_layers": 3, "num_heads": 4, "d_ff": 1536},
    ),
    "logits": (
        2,
        {"vocab_size": 12_000, "context_length": 96, "d_model": 64, "num_layers": 2, "num_heads": 4, "d_ff": 176},
    ),
    "optimizer": (
        2,
        {"vocab_size": 1024, "context_length": 16, "d_model": 256, "num_layers": 4, "num_heads": 8, "d_ff": 704},
    ),
    "in between": (
        2,
        {"vocab_size": 1024, "context_length": 64, "d_model": 192, "num_layers": 5, "num_heads": 6, "d_ff": 512},
    ),
}
"""Batch size and model by what most of the memory is for."""
VARIANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "8 query heads share 2": ("scores", {"num_kv_heads": 2, "attention": "written_out"}, {}),
    "one key head": ("activations", {"num_kv_heads": 1}, {}),
    "heads wider than the model": ("activations", {"head_dim": 64}, {}),
    "SiLU": ("feed-forward", {"feed_forward": "silu"}, {}),
    "ReLU^2": ("feed-forward", {"feed_forward": "relu2"}, {}),
    "norms behind": ("activations", {"norm_placement": "post"}, {}),
    "no norms": ("activations", {"norm_placement": "none"}, {"precision": "bfloat16-autocast"}),
    "no positions": ("activations", {"positions": "none"}, {}),
    "tied": ("logits", {"tie_embeddings": True}, {}),
    "tied, short": ("logits", {"tie_embeddings": True, "context_length": 8}, {}),
    "float64": ("in between", {}, {"precision": "float64"}),
    "foreach": ("optimizer", {}, {"optimizer": "adamw-foreach"}),
    "fused": ("optimizer", {}, {"optimizer": "adamw-fused"}),
    "Muon": ("optimizer", {}, {"optimizer": "muon"}),
    "SGD": ("optimizer", {}, {"optimizer": "sgd"}),
    "SGD, momentum": ("optimizer", {}, {"optimizer": "sgd-momentum"}),
    "chunked loss": ("logits", {}, {"loss_chunk": 64}),
    "chunked loss, autocast": ("logits", {}, {"loss_chunk": 64, "precision": "bfloat16-autocast"}),
    "later micro-batch": ("in between", {}, {"accumulated": True}),
    "later micro-batch, tied": ("logits", {"tie_embeddings": True}, {"accumulated": True, "loss_chunk": 64}),
    "checkpointing": ("activations", {}, {"checkpointing": True}),
    "checkpointing, written out": ("activations", {"attention": "written_out"}, {"checkpointing": True}),
    "checkpointing, autocast": ("feed-forward", {}, {"checkpointing": True, "precision": "bfloat16-autocast"}),
}
"""A shape and what is changed: fields of the model, and of the workload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryCase:
    """One training step to predict and to measure."""

    name: str
    model: ModelConfig
    batch_size: int
    workload: dict[str, Any] = field(default_factory=dict)
    """Arguments of `account` that are not the usual: of precision, optimizer, checkpointing, chunk, accumulation."""


def memory_cases(quick: bool = False) -> list[MemoryCase]:
    """The grid: each shape with both attentions in both precisions, and the variants; if quick, each shape once."""
    return list(_shapes_alone() if quick else _grid())


def _shapes_alone() -> Iterator[MemoryCase]:
    for name, (batch_size, fields) in SHAPES.items():
        yield MemoryCase(name=name, model=ModelConfig(**fields), batch_size=batch_size)


def _grid() -> Iterator[MemoryCase]:
    for name, (batch_size, fields) in SHAPES.items():
        for attention in ("sdpa", "written_out"):
            for precision in ("float32", "bfloat16-autocast"):
                model = ModelConfig(**fields, attention=attention)
                workload = {"precision": precision}
                yield MemoryCase(name=f"{name}: {attention}", model=model, batch_size=batch_size, workload=workload)
    for name, (shape, changes, workload) in VARIANTS.items():
        batch_size, fields = SHAPES[shape]
        model = ModelConfig(**{**fields, **changes})
        yield MemoryCase(name=f"{shape}: {name}", model=model, batch_size=batch_size, workload=workload)


def memory_row(case: MemoryCase, bench_id: str, device: str = "cpu", git_commit: str | None = None) -> MemoryRow:
    """Predict and measure one case."""
    costs = account(case.model, batch_size=case.batch_size, **case.workload)
    predicted = peak(costs)
    how = {name: value for name, value in case.workload.items() if name != "accumulated"}
    measured = measure_peak(
        case.model, case.batch_size, device=device, micro_batches=2 if costs.accumulated else 1, **how
    )
    without_optimizer = {name: value for name, value in how.items() if name != "optimizer"}
    return MemoryRow(
        bench_id=bench_id,
        device=device,
        device_name=device_name(device),
        case=case.name,
        config_json=canonical_json(case.model),
        batch_size=costs.batch_size,
        seq=costs.seq,
        precision=costs.precision,
        optimizer=costs.optimizer,
        checkpointing=costs.checkpointing,
        predicted_bytes=predicted.total,
        predicted_moment=str(predicted),
        measured_bytes=measured.peak_bytes,
        parameter_bytes=measured.parameter_bytes,
        optimizer_bytes=measured.optimizer_bytes,
        saved_predicted_bytes=costs.saved_bytes,
        saved_measured_bytes=measure_saved(case.model, case.batch_size, device=device, **without_optimizer),
        torch_version=str(torch.__version__),
        git_commit=git_commit,
        utc=utc_now(),
    )
