"""Memory pressure: which rows come near the device's limit, and how much slower they are."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from core.accounting.features import MEMORY_TERMS

SLOW = 1.3
"""Measured over base: beyond this a row is slow for a reason of its own, and memory is the one looked for."""
NEAR = 0.5
"""Of the prior's limit: a slow row below it was not slow for want of memory."""
FLAGGED_SHARE = 0.25
"""Of all rows, at most those of the highest scores are flagged."""
PEAK_SHARE = 0.9
"""Of the device's memory: a predicted peak above this is flagged where no row was slow."""
PRIOR_LIMIT = 0.6
"""Share of the device's memory that a step's terms may fill; the rest is the system's, and what lives for a moment."""
PRIOR_STRENGTH = 30.0
"""How many nats it costs to double or drop a weight."""
SHARPNESS = 20.0
"""Of the logistic curve: log odds of being slow for a score of 2, against those for 1."""
MOST = 1.3
"""The largest slowdown that is predicted. What swaps takes 1 to 27 times as long, by no rule that its shape tells: a
larger cap fits the worst rows and is further off on the others."""


@dataclass(frozen=True, slots=True)
class Pressure:
    """A score that is 1 where rows begin to be slow, and a slowdown that rises with it.

        score = sum_k w_k bytes_k / device memory,  slowdown = min(MOST, 1 + slope max(0, score - start))

    Without weights, none of the calibration rows having been slow, the score is the predicted peak over the memory and
    nothing slows down.
    """

    memory_bytes: int
    """Of the device."""
    weights: dict[str, float] | None
    """Of `MEMORY_TERMS`."""
    threshold: float
    """Rows of a higher score are flagged."""
    start: float
    slope: float

    def score(self, terms: np.ndarray, peak_bytes: np.ndarray) -> np.ndarray:
        """One number a row: of its memory terms, or of its predicted peak."""
        if self.weights is None:
            return peak_bytes / self.memory_bytes
        return terms @ np.array([self.weights[name] for name in MEMORY_TERMS]) / self.memory_bytes

    def slowdown(self, score: np.ndarray) -> np.ndarray:
        """The factor on a row's time."""
        return np.minimum(MOST, 1 + self.slope * np.maximum(0, score - self.start))


def fit_pressure(terms: np.ndarray, ratio: np.ndarray, memory_bytes: int) -> Pressure:
    """Fit score and slowdown to rows.

    The weights come from a logistic regression of "slow" on the score, held near the accounting's own (all equal).

    Args:
        terms: Rows by `MEMORY_TERMS`, bytes.
        ratio: Of each row, measured over what is expected without pressure.
        memory_bytes: Of the device.
    """
    shares = terms / memory_bytes
    slow = (ratio > SLOW) & (shares.sum(axis=1) > NEAR * PRIOR_LIMIT)
    if not slow.any():
        return Pressure(memory_bytes, None, PEAK_SHARE, PEAK_SHARE, 0.0)
    weights = _weights(shares, slow)
    score = shares @ weights
    # One standard error less, so that it holds on rows that are not here, too.
    flagged = FLAGGED_SHARE - np.sqrt(FLAGGED_SHARE * (1 - FLAGGED_SHARE) / len(score))
    threshold = float(np.quantile(score, 1 - max(flagged, 0.0)))
    start, slope = _slowdown(score, ratio)
    return Pressure(memory_bytes, dict(zip(MEMORY_TERMS, weights.tolist(), strict=True)), threshold, start, slope)


def _weights(shares: np.ndarray, slow: np.ndarray) -> np.ndarray:
    """Logistic regression of slow on 1 = limit; weights and limit are penalised by how far they are from the prior."""
    sign = np.where(slow, 1, -1)

    def loss(relative: np.ndarray) -> float:
        margin = shares @ relative[:-1] / PRIOR_LIMIT - relative[-1]
        return np.logaddexp(0, -sign * margin * SHARPNESS).sum() + PRIOR_STRENGTH * ((relative - 1) ** 2).sum()

    num = shares.shape[1] + 1
    found = minimize(loss, np.ones(num), bounds=[(0.01, None)] * num).x
    return found[:-1] / (found[-1] * PRIOR_LIMIT)


def _slowdown(score: np.ndarray, ratio: np.ndarray) -> tuple[float, float]:
    """Start and slope of the least absolute relative error over the high rows; two numbers, so all are tried."""
    high = score > 0.7
    best = (np.inf, 1.0, 0.0)
    for start in np.arange(0.7, 1.15, 0.05):
        for slope in (0.0, *np.geomspace(0.3, 30, 25)):
            factor = np.minimum(MOST, 1 + slope * np.maximum(0, score[high] - start))
            best = min(best, (float(np.abs(factor / ratio[high] - 1).sum()), float(start), float(slope)))
    return best[1:]
