"""How far a fit is off on rows that it never saw."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from core.experiments.calibration_model import Design, Prediction, fit_time
from core.experiments.calibration_shape import AXES

NUM_FOLDS = 10
LEFT_OUT = {"width": "d_model", "depth": "num_layers", "context": "context_length"}
"""Axes whose values are left out one after the other."""
LEAST_ROWS = 8
"""A fit to fewer says nothing."""

Fold = tuple[np.ndarray, np.ndarray]
"""Which rows are fitted to, and which are predicted."""


@dataclass(frozen=True, slots=True)
class Errors:
    """Of |predicted / measured - 1|."""

    held_out: str
    """What was predicted without having been fitted to: `10 folds`, `each width` ..."""
    rows: str
    """`all`, or `unflagged`: not under memory pressure by the fit's own flag."""
    num_rows: int
    median: float
    mean: float
    p90: float


def relative_errors(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """|predicted / measured - 1|."""
    return np.abs(predicted / measured - 1)


def summary(held_out: str, errors: np.ndarray, flagged: np.ndarray) -> Iterator[Errors]:
    """The errors of all rows, and of those not flagged if there are any."""
    for rows, chosen in (("all", errors), ("unflagged", errors[~flagged])):
        if len(chosen):
            median, p90 = np.quantile(chosen, [0.5, 0.9])
            yield Errors(held_out, rows, len(chosen), float(median), float(chosen.mean()), float(p90))


def k_folds(num_rows: int, num_folds: int = NUM_FOLDS, seed: int = 0) -> list[Fold]:
    """Shuffled rows in folds as even as can be."""
    order = np.random.default_rng(seed).permutation(num_rows)
    parts = [np.sort(order[start::num_folds]) for start in range(min(num_folds, num_rows))]
    return [(np.setdiff1d(order, part), part) for part in parts]


def value_folds(values: np.ndarray) -> list[Fold]:
    """A fold for each value; none if there is but one, or if too few rows are left for a fit."""
    folds = [(np.flatnonzero(values != value), np.flatnonzero(values == value)) for value in np.unique(values)]
    return folds if all(len(fitted) >= LEAST_ROWS for fitted, _ in folds) else []


def predict_held_out(
    rows: Design,
    seconds: np.ndarray,
    memory_bytes: int,
    folds: Iterable[Fold],
    log_hyperparameters: Sequence[float] | None = None,
) -> Prediction:
    """Predict each row from a fit to the other folds.

    Args:
        rows: Of all folds together, each row in one.
        seconds: Measured.
        memory_bytes: Of the device.
        folds: See `Fold`.
        log_hyperparameters: Of the correction for shapes, found once on all rows: its ten numbers see the rows that are
            held out, the prices and residuals do not. If None each fold finds its own.
    """
    held = Prediction(*(np.zeros(len(rows), kind) for kind in (float, float, float, bool)))
    for fitted, left in folds:
        model = fit_time(rows[fitted], seconds[fitted], memory_bytes, log_hyperparameters)
        found = model.predict(rows[left])
        held.seconds[left], held.deviation[left] = found.seconds, found.deviation
        held.score[left], held.flagged[left] = found.score, found.flagged
    return held


def left_out_folds(rows: Design) -> Iterator[tuple[str, list[Fold]]]:
    """Each axis of `LEFT_OUT` on which these rows have several values, with a fold for each value."""
    for name, column in LEFT_OUT.items():
        if folds := value_folds(rows.shapes[:, AXES.index(column)]):
            yield f"each {name}", folds
