"""Time the phases of a training step with torch's Timer: each by itself, none by subtraction."""

import contextlib
import gc
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.benchmark import Timer, timer

from core.config import DataConfig, ModelConfig, RunConfig
from core.experiments.grid_points import GridPoint
from core.experiments.memory_measure import OPTIMIZERS, WEIGHT_DTYPES, measure_peak
from core.model.transformer import Transformer
from core.optim.clipping import clip_grad_norm
from core.training.numerics import autocast, numerics, weight_dtype

MIN_RUN_S = 0.1
"""Of one measurement, in blocks."""
MIN_BLOCKS = 5
"""Fewer have no interquartile range."""
MAX_ATTEMPTS = 4
MAX_SPREAD = {"cpu": 0.1}
"""IQR / median above which a phase is measured again: of a shared CPU, and of other devices."""
MAX_SPREAD_ELSEWHERE = 0.05
ADDS_UP_WITHIN = 0.05
PEAK_STEP_S = 0.5
"""On a CPU the peak of memory is measured in three more steps, unless they take longer than this each."""


class Block(Protocol):
    """What `Timer.blocked_autorange` returns."""

    times: list[float]
    """Seconds per run, of each block."""
    number_per_run: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long one phase takes."""

    median_s: float
    iqr_s: float | None
    """Over blocks; None for fewer than five."""
    num_blocks: int
    runs_per_block: int
    attempts: int
    noisy: bool | None
    """Whether the spread stayed too large; None where it is not known."""
    warm_up_s: float
    """The first call, in no block."""

    @property
    def spread(self) -> float:
        """IQR / median; 0 where it is not known."""
        return (self.iqr_s or 0.0) / self.median_s


def time_call(
    call: Callable[[], Any], kind: str, *, make_timer: Callable[..., Timer] = Timer, clock: Callable[[], float] = timer
) -> Timing:
    """Time a call: the first alone, one unrecorded, then in blocks, again while these differ too much.

    Only the Timer synchronises accelerators, around each block, and its clock around the first call.

    Args:
        call: What is timed; it leaves everything as it was.
        kind: `cpu`, `cuda`, `mps`: decides what spread is too large.
        make_timer: Makes the Timer.
        clock: Synchronises, then tells the time.

    Returns:
        The best of all attempts, that of the smallest IQR / median.
    """
    began = clock()
    call()
    warm_up_s = clock() - began
    call()
    clocked = make_timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
    limit = MAX_SPREAD.get(kind, MAX_SPREAD_ELSEWHERE)
    found: list[Timing] = []
    while not found or (found[-1].spread > limit and len(found) < MAX_ATTEMPTS):
        found.append(_timing(_blocks(clocked), len(found) + 1, limit, warm_up_s))
    best = min(found, key=lambda timing: timing.spread)
    return Timing(**{name: getattr(best, name) for name in Timing.__slots__} | {"attempts": len(found)})


def _blocks(clocked: Timer) -> Block:
    """A measurement of at least five blocks; a block lasts longer than the Timer's own overhead, which it decides."""
    measured = clocked.blocked_autorange(min_run_time=MIN_RUN_S)
    for factor in (1.2, 2.4):  # the size of a block is found anew each time, and may be another one
        if len(measured.times) >= MIN_BLOCKS:
            break
        block_s = statistics.median(measured.times) * measured.number_per_run
        measured = clocked.blocked_autorange(min_run_time=factor * MIN_BLOCKS * block_s)
    return measured


def _timing(measured: Block, attempts: int, limit: float, warm_up_s: float) -> Timing:
    times = list(measured.times)
    median_s, iqr_s = statistics.median(times), None
    if len(times) >= MIN_BLOCKS:
        lower, _, upper = statistics.quantiles(times, n=4, method="inclusive")
        iqr_s = upper - lower
    return Timing(
        median_s=median_s,
        iqr_s=iqr_s,
        num_blocks=len(times),
        runs_per_block=measured.number_per_run,
        attempts=attempts,
        noisy=None if iqr_s is None else iqr_s / median_s > limit,
        warm_up_s=warm_up_s,
    )


def run_config(point: GridPoint, device: str) -> RunConfig:
    """The run whose step a point is; of a single operation one that only computes in the same way."""
    nothing = {"vocab_size": 1, "context_length": 1, "d_model": 2, "num_layers": 1, "num_heads": 1, "d_ff": 1}
    return RunConfig(
        name="grid",
        model=point.model or ModelConfig(**nothing),
        data=DataConfig(dataset="none"),
        batch_size=point.batch_size or 1,
        num_steps=1,
        device=device,
        precision="float32" if point.precision == "bfloat16" else point.precision,
        compile=point.compiled,
    )


class TrainingPhases:
    """A model, one batch and an optimizer, and the phases of a training step as `core.training.loop` makes it.

    The learning rate is 0, which changes no kernel: the weights stand still, so that every run does the same.

    Args:
        point: Of the subject `model`.
        device: That is there.
    """

    def __init__(self, point: GridPoint, device: str) -> None:
        self.config = run_config(point, device)
        self.model = Transformer(self.config.model).to(device=device, dtype=weight_dtype(self.config.precision))
        self._forward = torch.compile(self.model, dynamic=False) if point.compiled else self.model
        self.optimizers = OPTIMIZERS[point.optimizer or "adamw"](self.model)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = 0.0
        shape = (2, point.batch_size, point.context_length)
        ids = torch.randint(point.vocab_size, shape, generator=torch.Generator().manual_seed(0))
        self.inputs, self.targets = (half.to(device, copy=True) for half in ids)
        self._parameters = list(self.model.parameters())

    def forward(self) -> Tensor:
        """To the logits, without gradients."""
        with torch.no_grad(), autocast(self.config):
            return self._forward(self.inputs)

    def forward_loss(self) -> Tensor:
        """To the loss; what the backward needs is kept, and the head's gradients are formed along with it."""
        with autocast(self.config):
            return self._forward(self.inputs, self.targets)[0]

    def backward(self, loss: Tensor) -> None:
        """All gradients of a loss whose graph stays."""
        self._forget_gradients()
        torch.autograd.backward(loss, retain_graph=True)

    def update(self) -> None:
        """Clip the gradients that there are, and update."""
        clip_grad_norm(self._parameters, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()

    def step(self) -> None:
        """All of it."""
        self._forget_gradients()
        self.forward_loss().backward()
        self.update()

    def call(self, phase: str) -> Callable[[], Any]:
        """What to time for a phase, with all that must be there before."""
        if phase == "backward":
            loss = self.forward_loss()
            return lambda: self.backward(loss)
        if phase == "optimizer":
            self._forget_gradients()
            self.forward_loss().backward()
            return self.update
        return {"forward": self.forward, "forward_loss": self.forward_loss, "step": self.step}[phase]

    def _forget_gradients(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None


@contextlib.contextmanager
def computing(point: GridPoint, device: str) -> Iterator[None]:
    """In it torch computes as a point wants.

    A compiled backward may normally reuse its inputs' memory, and then runs only once per forward: that is switched
    off, or no compiled backward could be timed by itself. Every point compiles anew, for its own sizes.
    """
    on_cuda = torch.device(device).type == "cuda"
    with contextlib.ExitStack() as stack:
        stack.enter_context(numerics(run_config(point, device)))
        if on_cuda:
            stack.enter_context(torch.cuda.device(device))
        if point.compiled:
            from torch._functorch import config as functorch_config

            torch._dynamo.reset()
            stack.callback(torch._dynamo.reset)  # it would keep the model
            stack.enter_context(functorch_config.patch(donated_buffer=False))
        yield


def measure_model(
    point: GridPoint, device: str, on_phase: Callable[[str, Timing, int | None], None], time_one: Callable = time_call
) -> None:
    """Time the phases of a model, in their order.

    Args:
        point: Of the subject `model`.
        device: That is there.
        on_phase: Given each phase, its timing and, of the step, the peak of memory in bytes (None where the device
            cannot tell), as soon as they are known: what fails comes after.
        time_one: Times a call.

    Raises:
        RuntimeError: What torch raises, for want of memory, say.
    """
    kind = torch.device(device).type
    with computing(point, device):
        before = torch.cuda.memory_allocated(device) if kind == "cuda" else 0
        phases = TrainingPhases(point, device)
        for phase in point.phases:
            call = phases.call(phase)
            timing = time_one(call, kind)
            peak_bytes = None
            if phase == "step" and kind == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
                call()
                peak_bytes = torch.cuda.max_memory_allocated(device) - before
            elif phase == "step" and kind == "cpu":
                peak_bytes = _cpu_peak(point, timing)
            on_phase(phase, timing, peak_bytes)
            del call  # and with it a graph that stayed


def _cpu_peak(point: GridPoint, timing: Timing) -> int | None:
    """By torch's profiler, of another model like this; None where that takes long or it cannot be asked for."""
    if point.compiled or point.precision not in WEIGHT_DTYPES or timing.median_s > PEAK_STEP_S:
        return None
    optimizer = point.optimizer or "adamw"
    return measure_peak(point.model, point.batch_size, precision=point.precision, optimizer=optimizer).peak_bytes


def free_memory(device: str) -> None:
    """Give back what a point that failed has left behind."""
    gc.collect()
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.empty_cache()
    elif kind == "mps":
        torch.mps.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was not enough memory; torch raises several kinds."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return any(words in text for words in ("out of memory", "can't allocate memory", "not enough memory"))
