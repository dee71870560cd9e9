"""The clocks of the training benchmark: a turn of one contestant, and the device's rate of matrix products."""

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.benchmark import Timer

from core.accounting import PRECISIONS
from core.config import RunConfig
from core.experiments.device_measure import GEMM_SIZES
from core.experiments.train_contestants import Contestant
from core.training.batches import Batch
from core.training.numerics import numerics

PROBE_S, ROUND_S = 0.05, 0.3
"""How long a matrix product is timed: once per size to find the fastest, and in every round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Some steps of a contestant without a pause between them."""

    step_s: float
    """Mean; the device was idle before the first and after the last."""
    optimizer_s: float | None
    """What of it the optimizer took; null where a device's queue cannot be timed inside."""
    losses: list[float]
    peak_bytes: int | None
    """The most that its steps held, what other contestants keep left out; null where the device does not tell."""


class StepTimer:
    """Takes turns of a contestant on a device; times its optimizers through their hooks.

    On CUDA that is done by events in the device's own queue: to wait for it would slow what is measured.
    """

    def __init__(self, contestant: Contestant, device: str) -> None:
        self.contestant = contestant
        self._device = device
        self._kind = torch.device(device).type
        self._marks: list[float | torch.cuda.Event] = []
        if self._kind != "mps":
            for optimizer in contestant.optimizers:
                optimizer.register_step_pre_hook(lambda *_: self._mark())
                optimizer.register_step_post_hook(lambda *_: self._mark())

    def turn(self, batches: Iterable[Batch], first_step: int) -> Turn:
        """Train on these batches."""
        self._marks.clear()
        on_cuda = self._kind == "cuda"
        synchronise(self._device)
        if on_cuda:
            others = torch.cuda.memory_allocated(self._device) - self._held_bytes()
            torch.cuda.reset_peak_memory_stats(self._device)
        began = time.perf_counter()
        losses: list[Tensor] = [
            self.contestant.update(*batch, first_step + place) for place, batch in enumerate(batches)
        ]
        synchronise(self._device)
        seconds = time.perf_counter() - began
        return Turn(
            step_s=seconds / len(losses),
            optimizer_s=self._optimizer_s() / len(losses) if self._marks else None,
            losses=[float(loss) for loss in losses],
            peak_bytes=torch.cuda.max_memory_allocated(self._device) - others if on_cuda else None,
        )

    def _mark(self) -> None:
        if self._kind == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self._device))
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())

    def _optimizer_s(self) -> float:
        pairs = zip(self._marks[::2], self._marks[1::2], strict=True)
        if self._kind == "cuda":
            return sum(before.elapsed_time(after) for before, after in pairs) / 1000
        return sum(after - before for before, after in pairs)

    def _held_bytes(self) -> int:
        """What the contestant keeps between steps."""
        parameters = list(self.contestant.model.parameters())
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        states = [state for optimizer in self.contestant.optimizers for state in optimizer.state.values()]
        kept = [value for state in states for value in state.values() if isinstance(value, Tensor) and value.is_cuda]
        return sum(tensor.nbytes for tensor in (*parameters, *gradients, *kept))


class GemmTimer:
    """The rate of square matrix products, of the size at which the device is fastest.

    Args:
        configs: In whose precisions; all of one device.
        sizes: Edges of the matrices that are tried; by the kind of device if None.
    """

    def __init__(self, configs: Iterable[RunConfig], sizes: Sequence[int] | None = None) -> None:
        self._products: dict[str, _Product] = {}
        for config in configs:
            dtype = product_dtype(config.precision)
            if dtype not in self._products:
                edges = sizes or GEMM_SIZES[torch.device(config.device).type]
                self._products[dtype] = max((_Product(config, size) for size in edges), key=lambda p: p.rate(PROBE_S))

    def rates(self) -> dict[str, float]:
        """FLOP/s by dtype, now."""
        return {dtype: product.rate(ROUND_S) for dtype, product in self._products.items()}


class _Product:
    def __init__(self, config: RunConfig, size: int) -> None:
        self._config, self._size = config, size
        dtype = product_dtype(config.precision)
        stored = torch.float32 if dtype == "tf32" else getattr(torch, dtype)
        generator = torch.Generator(config.device).manual_seed(0)
        # Random, as real data are: a GPU multiplies zeros faster, since they take less power.
        a, b = (torch.randn(size, size, device=config.device, generator=generator).to(stored) for _ in range(2))
        names = {"a": a, "b": b, "out": torch.empty_like(a)}
        self._timer = Timer("torch.mm(a, b, out=out)", globals=names, num_threads=torch.get_num_threads())

    def rate(self, run_time_s: float) -> float:
        with numerics(self._config):
            seconds = statistics.median(self._timer.blocked_autorange(min_run_time=run_time_s).times)
        return 2 * self._size**3 / seconds


def product_dtype(precision: str) -> str:
    """In what a precision multiplies matrices."""
    return PRECISIONS[precision].product_dtype


def synchronise(device: str) -> None:
    """Wait until the device has done all that it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    elif torch.device(device).type == "mps":
        torch.mps.synchronize()
