"""Predictions of time fitted on measured rows: prices of features, a correction for shapes, pressure on memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.accounting import Account, peak
from core.accounting.features import FEATURES, MEMORY_TERMS, features, memory_terms
from core.experiments.calibration_base import fit_prices
from core.experiments.calibration_pressure import Pressure, fit_pressure
from core.experiments.calibration_shape import ShapeCorrection, fit_correction, shape_of

CALM_SHARE = 0.35
"""Of the device's memory: rows whose predicted peak is below it are calm beyond doubt."""
CALM_ROWS = 0.6
"""The least share of rows, those of the smallest peak, to start from."""
EXPLAINED = 0.05
"""Log residual up to which a row of a higher peak is taken for calm after all."""


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """Workloads as arrays, one row each."""

    amounts: np.ndarray
    """By `FEATURES`."""
    shapes: np.ndarray
    """By the axes of the correction."""
    memory: np.ndarray
    """By `MEMORY_TERMS`, bytes."""
    peak_bytes: np.ndarray

    def __len__(self) -> int:
        return len(self.amounts)

    def __getitem__(self, chosen: np.ndarray) -> "Design":
        return Design(self.amounts[chosen], self.shapes[chosen], self.memory[chosen], self.peak_bytes[chosen])


def design(workloads: Sequence[Account], phase: str = "step") -> Design:
    """The arrays that a fit of this phase needs."""
    amounts = [list(features(costs, phase).values()) for costs in workloads]
    memory = [list(memory_terms(costs).values()) for costs in workloads]
    return Design(
        np.array(amounts, float).reshape(-1, len(FEATURES)),
        np.array([shape_of(costs) for costs in workloads]),
        np.array(memory, float).reshape(-1, len(MEMORY_TERMS)),
        np.array([peak(costs).total for costs in workloads], float),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Of some workloads, one element each."""

    seconds: np.ndarray
    deviation: np.ndarray
    """Of log(seconds), as far as the correction knows; 1 where there is none."""
    score: np.ndarray
    """Of memory pressure."""
    flagged: np.ndarray
    """Whether under memory pressure."""


@dataclass(frozen=True, slots=True)
class TimeModel:
    """What predicts the time of one phase.

    seconds = (sum_j price_j amount_j) exp(correction(shape)) slowdown(memory)
    """

    prices: dict[str, float]
    """Seconds for one unit of each of `FEATURES`."""
    correction: ShapeCorrection | None
    pressure: Pressure

    def terms(self, rows: Design) -> np.ndarray:
        """Seconds by row and feature."""
        return rows.amounts * np.array([self.prices[name] for name in FEATURES])

    def predict(self, rows: Design) -> Prediction:
        """Time and pressure of each row."""
        log_factor, deviation = np.zeros(len(rows)), np.ones(len(rows))
        if self.correction is not None and len(rows):
            log_factor, deviation = self.correction.predict(rows.shapes)
        score = self.pressure.score(rows.memory, rows.peak_bytes)
        seconds = self.terms(rows).sum(axis=1) * np.exp(log_factor) * self.pressure.slowdown(score)
        return Prediction(seconds, deviation, score, score > self.pressure.threshold)


def fit_time(
    rows: Design, seconds: np.ndarray, memory_bytes: int, log_hyperparameters: Sequence[float] | None = None
) -> TimeModel:
    """Fit all three parts.

    Rows under memory pressure stay out of the first two, except those whose time the prices explain.

    Args:
        rows: What was measured.
        seconds: The measured times.
        memory_bytes: Of the device.
        log_hyperparameters: Of the correction, if they are known already.
    """
    small = min(len(rows), max(1, int(np.ceil(CALM_ROWS * len(rows)))))
    limit = max(CALM_SHARE * memory_bytes, np.sort(rows.peak_bytes)[small - 1])
    calm = certain = rows.peak_bytes <= limit
    for _ in range(3):
        prices = fit_prices(rows.amounts[calm], seconds[calm])
        log_residuals = np.log(seconds / np.maximum(rows.amounts @ prices, np.finfo(float).tiny))
        calm = certain | (log_residuals < EXPLAINED)
    correction = fit_correction(rows.shapes[calm], log_residuals[calm], log_hyperparameters)
    expected = np.zeros(len(rows)) if correction is None else correction.predict(rows.shapes)[0]
    pressure = fit_pressure(rows.memory, np.exp(log_residuals - expected), memory_bytes)
    return TimeModel(dict(zip(FEATURES, prices.tolist(), strict=True)), correction, pressure)
