"""Measure what `core.accounting` predicts of memory: the peak of a training step, and what a forward keeps."""

import functools
import gc
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from core.accounting.policies import choose
from core.config import ModelConfig, OptimizerConfig
from core.config.checks import require
from core.model.linear_cross_entropy import linear_cross_entropy
from core.model.transformer import Transformer
from core.optim.adamw import AdamW
from core.optim.clipping import clip_grad_norm
from core.optim.groups import build_optimizers

WARM_UP_STEPS = 2
"""The first makes the optimizer's state, and einx and torch fill their caches."""
WEIGHT_DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16-autocast": torch.float32}
"""The precisions of `core.accounting` that are measured."""
OPTIMIZERS: dict[str, Callable[[Transformer], list[torch.optim.Optimizer]]] = {
    "adamw": lambda model: [AdamW(model.parameters())],
    "adamw-foreach": lambda model: [torch.optim.AdamW(model.parameters(), foreach=True)],
    "adamw-fused": lambda model: [torch.optim.AdamW(model.parameters(), fused=True)],
    "muon": lambda model: build_optimizers(model, OptimizerConfig(kind="muon")),
    "sgd-momentum": lambda model: [torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)],
    "sgd": lambda model: [torch.optim.SGD(model.parameters(), lr=1e-3)],
}
"""By their names in `core.accounting`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakMeasurement:
    """The most that lived at once in one training step, and what of it lives all the time."""

    peak_bytes: int
    """Everything: parameters, optimizer state, inputs and targets, and what the step allocated besides."""
    parameter_bytes: int
    buffer_bytes: int
    """Of the table of rotary angles."""
    optimizer_bytes: int
    input_bytes: int
    """Of inputs and targets."""


def check_measurable(device: str) -> None:
    """Raise ValueError for a device of which torch does not record the peak."""
    kind = torch.device(device).type
    require(kind in ("cpu", "cuda"), f"device is {device!r}: torch records the peak of memory on cpu and cuda alone")


def measure_peak(
    model_config: ModelConfig,
    batch_size: int,
    seq: int | None = None,
    precision: str = "float32",
    optimizer: str = "adamw",
    checkpointing: bool = False,
    device: str = "cpu",
    loss_chunk: int | None = None,
    micro_batches: int = 1,
) -> PeakMeasurement:
    """Measure the peak of one training step after a warm-up: forward, backward, clipping, update.

    On a CPU torch's profiler records every allocation. On CUDA the caching allocator keeps the maximum; it rounds
    blocks up to 512 bytes, and the workspaces of libraries are in it.

    Args:
        model_config: What is trained.
        batch_size: Sequences.
        seq: Tokens of each; the full context if None.
        precision: One of `WEIGHT_DTYPES`.
        optimizer: One of `OPTIMIZERS`.
        checkpointing: Keep only each block's input and compute the block again in the backward.
        device: `cpu`, or one of CUDA's.
        loss_chunk: Tokens whose logits exist at once; all if None.
        micro_batches: How many of these batches a step adds the gradients of.

    Raises:
        ValueError: For what does not exist or `core.model` does not build, or a device without a record.
    """
    check_measurable(device)
    on_cuda = torch.device(device).type == "cuda"
    make_optimizer = choose("optimizer", optimizer, OPTIMIZERS)
    before = torch.cuda.memory_allocated(device) if on_cuda else 0
    training = _Training(model_config, batch_size, seq, precision, checkpointing, device, loss_chunk)
    chosen = make_optimizer(training.model)
    for _ in range(WARM_UP_STEPS):
        training.step(chosen, micro_batches)
    training.model.zero_grad(set_to_none=True)
    parts = {
        "buffer_bytes": sum(buffer.nbytes for buffer in training.model.buffers()),
        "parameter_bytes": sum(parameter.nbytes for parameter in training.model.parameters()),
        "optimizer_bytes": sum(
            value.nbytes
            for each in chosen
            for state in each.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        ),
        "input_bytes": training.inputs.nbytes + training.targets.nbytes,
    }
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(device)
        training.step(chosen, micro_batches)
        peak_bytes = torch.cuda.max_memory_allocated(device) - before
    else:
        peak_bytes = sum(parts.values()) + allocated_peak_bytes(lambda: training.step(chosen, micro_batches))
    return PeakMeasurement(peak_bytes=peak_bytes, **parts)


def measure_saved(
    model_config: ModelConfig,
    batch_size: int,
    seq: int | None = None,
    precision: str = "float32",
    checkpointing: bool = False,
    device: str = "cpu",
    loss_chunk: int | None = None,
) -> int:
    """Bytes that one forward with its loss keeps for the backward, parameters left out; arguments as above."""
    training = _Training(model_config, batch_size, seq, precision, checkpointing, device, loss_chunk, hooks_see=True)
    return kept_bytes(training.loss, training.model.parameters())


def kept_bytes(forward: Callable[[], Any], besides: Iterable[Tensor]) -> int:
    """Bytes that autograd keeps from a call, each storage once, those of the tensors `besides` left out."""
    kept = {}
    known = {tensor.untyped_storage().data_ptr() for tensor in besides}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage  # held, so that its address is not given to another
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward()
    return sum(storage.nbytes() for storage in kept.values())


def allocated_peak_bytes(call: Callable[[], Any]) -> int:
    """The most that lived at once of what was allocated on the CPU during a call."""
    # The profiler's library reads this at its first use in a process; at lower levels it prints each start and stop.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    gc.collect()  # or garbage of an earlier recording would be freed in this one, and lower its sums
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as recorded:
        call()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    alive = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak


class _Training:
    """A model and one batch, whose inputs and targets are tensors of their own."""

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        seq: int | None,
        precision: str,
        checkpointing: bool,
        device: str,
        loss_chunk: int | None,
        hooks_see: bool = False,
    ) -> None:
        dtype = choose("precision", precision, WEIGHT_DTYPES)
        seq = config.context_length if seq is None else seq
        for name, size in (("batch_size", batch_size), ("seq", seq)):
            require(type(size) is int and size >= 1, f"{name} is {size!r}: it must be a whole number, at least 1")
        self.autocast = torch.autocast(
            torch.device(device).type, torch.bfloat16, enabled=precision == "bfloat16-autocast"
        )
        self.model = Transformer(config).to(device=device, dtype=dtype)
        self.loss_chunk = loss_chunk
        self.model.activation_checkpointing = checkpointing and not hooks_see
        if checkpointing and hooks_see:
            for block in self.model.blocks:
                block.forward = functools.partial(_checkpointed, block.forward)
        ids = torch.randint(config.vocab_size, (2, batch_size, seq), generator=torch.Generator().manual_seed(0))
        self.inputs, self.targets = (half.to(device, copy=True) for half in ids)

    def loss(self) -> Tensor:
        with self.autocast:
            hidden, weight = self.model.hidden(self.inputs), self.model.lm_head.weight
            return linear_cross_entropy(hidden, weight, self.targets, chunk=self.loss_chunk)[0]

    def step(self, optimizers: list[torch.optim.Optimizer], micro_batches: int = 1) -> None:
        """What `core.training.loop` does in a step."""
        self.model.zero_grad(set_to_none=True)
        for _ in range(micro_batches):
            self.loss().backward()
        clip_grad_norm(self.model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()


def _checkpointed(forward: Callable, x: Tensor, angles: Tensor | None) -> Tensor:
    """A block's forward by the reentrant checkpoint: hooks see the tensors that it keeps, which both kinds keep."""
    return checkpoint(forward, x, angles, use_reentrant=True, preserve_rng_state=False)
