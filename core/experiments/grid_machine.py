"""The machine that a grid is measured on, what it should need for a point, and how long measuring takes."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from core.accounting.hardware import Device
from core.experiments.device_measure import (
    default_device_id,
    last_level_cache_bytes,
    read_measured_devices,
    total_memory_bytes,
)
from core.experiments.grid_model import run_config
from core.experiments.grid_points import GridPoint, Prediction, predict
from core.training.device import device_name
from core.training.numerics import check_numerics

NOMINAL_FLOP_PER_S = 1e11
"""Of a device that has not been measured, for shares of the time left alone."""
CALLS_PER_ROUND = 2
"""Of a phase that takes long: one sizes the block, one is the block."""
TIMES_THE_BOUND = 2.5
"""A phase takes about so much longer than its bound: the median of large steps on two cores."""
SHORTEST_ROUND_S = 0.13
"""Of a phase in one round, about: the Timer wants a block so long that its own overhead does not count."""
REFERENCE_S = 0.03
"""Of the reference product, beside each phase of each round; about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where a grid is measured, and what is known of it."""

    device: str
    device_name: str
    memory_bytes: int
    cache_bytes: int | None
    peaks: Device | None
    """None where it has not been measured."""

    @classmethod
    def at_hand(cls, device: str, results_dir: str | Path) -> "Machine":
        """The machine this runs on; its peaks are those of `results/devices/`."""
        return cls(
            device=device,
            device_name=device_name(device),
            memory_bytes=total_memory_bytes(device),
            cache_bytes=last_level_cache_bytes(device),
            peaks=read_measured_devices(results_dir).get(default_device_id(device)),
        )

    def predict(self, point: GridPoint) -> Prediction:
        """What a point asks for, and the least time here."""
        return predict(point, self.peaks, self.cache_bytes)


def effort_s(prediction: Prediction, num_rounds: int) -> float:
    """About how long one visit to a point takes: each phase a certain time at least, or a certain number of calls."""
    return num_rounds * sum(
        max(SHORTEST_ROUND_S, CALLS_PER_ROUND * TIMES_THE_BOUND * seconds) + REFERENCE_S
        for seconds in (prediction.seconds or {p: f / NOMINAL_FLOP_PER_S for p, f in prediction.flop.items()}).values()
    )


def check_points(points: Iterable[GridPoint], device: str) -> None:
    """Raise ValueError for a point that asks what the device has not: a precision, a compiler."""
    for way in {(point.precision, point.compiled): point for point in points}.values():
        check_numerics(run_config(way, device))
