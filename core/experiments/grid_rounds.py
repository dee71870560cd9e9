"""Time calls in rounds with torch's Timer, each beside a reference product that tells how fast the machine is just now.

A machine that others share is not equally fast from one second to the next, and what it does to one product it does to
the next: two cores of such a machine repeated training steps with a standard deviation of 12 %, their quotients with
the product beside them with 5 to 7 %. So both are kept, and what is noisy is measured again later, not at once.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.benchmark import Timer, timer

MIN_ROUND_S = 0.02
"""Of one phase in one round, in blocks."""
MIN_ROUNDS = 5
"""Fewer have no interquartile range."""
MAX_SPREAD = {"cpu": 0.1}
"""IQR / median above which a phase is measured again: of a shared CPU, and of other devices."""
MAX_SPREAD_ELSEWHERE = 0.05
REFERENCE_SIZE = {"cpu": 1024}
"""Edge of the reference product's matrices: about 16 ms of two cores; of other devices 4096."""
REFERENCE_SIZE_ELSEWHERE = 4096


class Phases(Protocol):
    """What has phases to time: a model, an operation."""

    def call(self, phase: str) -> Callable[[], Any]:
        """What to time for a phase, as often as one likes, with all that must be there before."""
        ...


class ReferenceProduct:
    """A square float32 matrix product, always the same: the clock that beats as fast as the machine is.

    What a point's precision makes of float32 products (TF32) it makes of this one: times are compared by precision.

    Args:
        device: Where it is computed.
        size: Edge of the matrices; by the kind of device if None.
        clock: Synchronises, then tells the time.
    """

    def __init__(self, device: str, size: int | None = None, clock: Callable[[], float] = timer) -> None:
        size = size or REFERENCE_SIZE.get(torch.device(device).type, REFERENCE_SIZE_ELSEWHERE)
        generator = torch.Generator().manual_seed(0)
        self._left, self._right = (torch.randn(size, size, generator=generator).to(device) for _ in range(2))
        self._out = torch.empty_like(self._left)
        self._clock = clock

    def __call__(self) -> float:
        """The seconds that it takes now: two of them one after the other, by the half."""
        began = self._clock()
        self._product()
        self._product()
        return (self._clock() - began) / 2

    def _product(self) -> Tensor:
        return torch.mm(self._left, self._right, out=self._out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """All the times of one phase: the visits to its point one after the other, some rounds in each."""

    seconds: tuple[float, ...] = ()
    """Of each round: the median over its blocks, of a single call."""
    reference_s: tuple[float, ...] = ()
    """Of the reference product beside each round, the mean of before and after."""
    visits: tuple[int, ...] = ()
    """Which visit each round was in, the first is 1."""
    num_blocks: int = 0
    runs_per_block: int = 1
    """The most."""
    warm_up_s: float = 0.0
    """The first call of the first visit, in no round."""

    def then(self, later: "Rounds") -> "Rounds":
        """These, and after them those of a later visit."""
        return Rounds(
            seconds=self.seconds + later.seconds,
            reference_s=self.reference_s + later.reference_s,
            visits=self.visits + later.visits,
            num_blocks=self.num_blocks + later.num_blocks,
            runs_per_block=max(self.runs_per_block, later.runs_per_block),
            warm_up_s=self.warm_up_s or later.warm_up_s,
        )

    @property
    def median_s(self) -> float:
        """Over rounds, as the clock has it."""
        return statistics.median(self.seconds)

    @property
    def iqr_s(self) -> float | None:
        """Over rounds; None for fewer than five."""
        return _iqr(self.seconds)

    @property
    def relative(self) -> tuple[float, ...]:
        """Each round's time over that of the reference product beside it."""
        return tuple(own / other for own, other in zip(self.seconds, self.reference_s, strict=True))

    @property
    def relative_median(self) -> float:
        """Over rounds."""
        return statistics.median(self.relative)

    @property
    def relative_iqr(self) -> float | None:
        """Over rounds; None for fewer than five."""
        return _iqr(self.relative)

    @property
    def attempts(self) -> int:
        """How many visits there were."""
        return len(set(self.visits))

    def noisy(self, kind: str) -> bool | None:
        """Whether the relative times spread too much for a kind of device; None where that is not known."""
        iqr, limit = self.relative_iqr, MAX_SPREAD.get(kind, MAX_SPREAD_ELSEWHERE)
        return None if iqr is None else iqr / self.relative_median > limit


def _iqr(values: Sequence[float]) -> float | None:
    if len(values) < MIN_ROUNDS:
        return None
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return upper - lower


def rounds_needed(visits: int) -> int:
    """Rounds in each visit: three, and five in all visits together at least."""
    return max(3, -(-MIN_ROUNDS // visits))


def time_rounds(
    subject: Phases,
    phases: Sequence[str],
    reference: Callable[[], float],
    *,
    num_rounds: int,
    visit: int,
    found: dict[str, Rounds],
    make_timer: Callable[..., Timer] = Timer,
    clock: Callable[[], float] = timer,
) -> None:
    """Time phases in turn, and all of them again in each round.

    Only the Timer synchronises accelerators, around each block, and its clock around the first call and the reference.

    Args:
        subject: What has the phases.
        phases: Which of them, in what order.
        reference: Timed before and after each.
        num_rounds: Through all of them.
        visit: Its number, for the rounds.
        found: Filled with what was measured, also when a phase fails: what can still be measured then is kept.
        make_timer: Makes the Timer.
        clock: Synchronises, then tells the time.

    Raises:
        RuntimeError: What a phase raises, after the phases before it were measured.
    """
    warm_up: dict[str, float] = {}
    failure: Exception | None = None
    for phase in phases:
        call = None
        try:
            call = subject.call(phase)
            began = clock()
            call()
            warm_up[phase] = clock() - began
        except (RuntimeError, MemoryError) as error:
            failure = error.with_traceback(None)  # which holds on to the tensors
            break
        finally:
            del call
    reference()
    for _ in range(num_rounds):
        before = reference()
        for phase in warm_up:
            call = subject.call(phase)
            clocked = make_timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
            measured = clocked.blocked_autorange(min_run_time=MIN_ROUND_S)
            del call, clocked  # and with them a graph that stayed
            after = reference()
            one = Rounds(
                seconds=(statistics.median(measured.times),),
                reference_s=((before + after) / 2,),
                visits=(visit,),
                num_blocks=len(measured.times),
                runs_per_block=measured.number_per_run,
                warm_up_s=warm_up[phase],
            )
            found[phase] = found.get(phase, Rounds()).then(one)
            before = after
    if failure is not None:
        raise failure
