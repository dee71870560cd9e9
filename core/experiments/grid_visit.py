"""One visit to a point of a benchmark grid: its phases timed in rounds, and what became of those that failed."""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from core.experiments.grid_micro import Operation, Update
from core.experiments.grid_model import TrainingPhases, computing
from core.experiments.grid_points import GridPoint
from core.experiments.grid_rounds import Phases, Rounds, time_rounds
from core.experiments.memory_measure import WEIGHT_DTYPES, measure_peak

PEAK_STEP_S = 0.5
"""On a CPU the peak of memory is measured in three more steps, unless they take longer than this each."""


@dataclass(slots=True)
class Visit:
    """What came of it."""

    rounds: dict[str, Rounds] = field(default_factory=dict)
    """By phase, those that were measured."""
    peak_bytes: int | None = None
    """The most that lived at once in a step; None where the device cannot tell or it was not asked for."""
    status: str = "ok"
    """Of the phases that were not: `out_of_memory` or `error`."""
    message: str | None = None


def visit_point(
    point: GridPoint,
    device: str,
    phases: Sequence[str],
    reference: Callable[[], float],
    *,
    num_rounds: int,
    number: int = 1,
    time_all: Callable[..., None] = time_rounds,
) -> Visit:
    """Build what a point is, and time its phases.

    Args:
        point: What is measured.
        device: That is there.
        phases: Which of its phases, in their order.
        reference: The product timed beside them.
        num_rounds: Through all of the phases.
        number: Of the visit; only the first measures memory.
        time_all: Times them.

    Returns:
        What was measured; what failed for want of memory or otherwise is told, not raised.
    """
    found = Visit()
    try:
        with computing(point, device):
            on_cuda = torch.device(device).type == "cuda"
            before = torch.cuda.memory_allocated(device) if on_cuda else 0
            subject = _subject(point, device)
            time_all(subject, phases, reference, num_rounds=num_rounds, visit=number, found=found.rounds)
            if number == 1 and point.subject == "model" and "step" in found.rounds:
                found.peak_bytes = _peak(point, device, subject, found.rounds["step"], before)
            del subject
    except (RuntimeError, MemoryError) as error:
        found.status = "out_of_memory" if is_out_of_memory(error) else "error"
        found.message = next(iter(str(error).splitlines()), "") or type(error).__name__
    if found.status != "ok" or torch.device(device).type != "cpu":
        free_memory(device)  # only here the error, whose traceback holds on to the tensors, is gone
    return found


def _subject(point: GridPoint, device: str) -> Phases:
    if point.subject == "model":
        return TrainingPhases(point, device)
    return Update(point, device) if point.subject == "optimizer" else Operation(point, device)


def _peak(point: GridPoint, device: str, subject: Phases, step: Rounds, before: int) -> int | None:
    """Of one more step on CUDA; on a CPU by torch's profiler, of another model like this."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        subject.call("step")()
        return torch.cuda.max_memory_allocated(device) - before
    if torch.device(device).type != "cpu":
        return None
    if point.compiled or point.precision not in WEIGHT_DTYPES or step.median_s > PEAK_STEP_S:
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
