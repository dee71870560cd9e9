"""Snapshots: a run's state copied to the CPU between two steps, so that it can be written while training goes on."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from core.config import RunConfig
from core.optim.average import WeightAverage
from core.optim.shards import full
from core.training import distributed


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a checkpoint holds; every tensor is whole, on the CPU, and nobody else's."""

    step: int
    """Optimizer steps done."""
    weights: dict[str, Tensor]
    """By the parameters' names, tied ones once."""
    optimizer: dict[str, Tensor]
    """The optimizers' tensors as `parameter.key`."""
    numbers: dict[str, Any]
    """Their plain numbers, named alike."""
    average: dict[str, Tensor] | None
    """The moving average of the weights by their names, where the run keeps one."""
    average_step: int | None
    """Updates that the average has seen."""
    config: RunConfig
    extra: dict[str, Any]
    """What the run wants to find again, as JSON."""


@torch.no_grad()
def take_snapshot(
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    average: WeightAverage | None,
    *,
    step: int,
    config: RunConfig,
    extra: dict[str, Any],
) -> Snapshot | None:
    """Copy a run's state; of several processes all must call it together, since sharded tensors are gathered.

    Args:
        model: Its parameters are copied.
        optimizers: Each parameter has state in exactly one of them, or in none yet.
        average: Of the weights, if the run keeps one.
        step: Optimizer steps done.
        config: Must be equal when the run is resumed.
        extra: What the run wants to find again, as JSON.

    Returns:
        The snapshot; None in every process but the main one, which is the only one that keeps the copies.
    """
    distributed.divide_again(model)
    parameters = dict(model.named_parameters())
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for name, parameter in parameters.items():
        for optimizer in optimizers:
            # Not optimizer.state[parameter]: that would make an empty state where there is none.
            for key, value in optimizer.state.get(parameter, {}).items():
                (tensors if isinstance(value, Tensor) else numbers)[f"{name}.{key}"] = value
    weights, state = _copies(parameters), _copies(tensors)
    averages = _copies(average.weights) if average is not None else None
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()  # the copies were only asked for
    if not distributed.is_main():
        return None
    return Snapshot(
        step=step,
        weights=weights,
        optimizer=state,
        numbers=numbers,
        average=averages,
        average_step=average.step if average is not None else None,
        config=config,
        extra=extra,
    )


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    copies = {}
    for name, tensor in tensors.items():
        whole = full(tensor.detach())
        if distributed.is_main():
            # Page-locked memory (which torch keeps for the next snapshot) takes copies from CUDA at the full rate.
            copies[name] = torch.empty(whole.shape, dtype=whole.dtype, pin_memory=whole.is_cuda)
            copies[name].copy_(whole, non_blocking=whole.is_cuda)
    return copies


class BackgroundWriter:
    """A thread that writes one thing at a time while training goes on.

    What comes while it still writes waits, and does not replace what is in the queue: each checkpoint is one that the
    configuration asks for (due, best or last), and no more than one snapshot is in memory. So a disk slower than
    checkpoints are due sets the pace of training, and nothing is lost in silence.

    Leaving the `with` block waits for the write in progress. Its error is raised there, unless another one is on its
    way already.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with contextlib.suppress(Exception) if kind is not None else contextlib.nullcontext():
                self.wait()
        finally:
            self._thread.shutdown()

    def submit(self, write: Callable[[], None]) -> None:
        """Have something written, after what is being written; raises the error of the latter, if it had one."""
        self.wait()
        self._writing = self._thread.submit(write)

    def check(self) -> None:
        """Raise the error of a write that has failed; does not wait."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Wait until nothing is being written; raises its error."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()
