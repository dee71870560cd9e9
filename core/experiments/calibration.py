"""A device's calibration: fitted to measured rows, kept in a file, asked for predictions with intervals."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import TypeAdapter, ValidationError

from core.accounting.features import FEATURES, MEMORY_TERMS
from core.benchmarks.usual_speed import noise_floor
from core.experiments.calibration_errors import (
    LEAST_ROWS,
    NUM_FOLDS,
    Errors,
    k_folds,
    left_out_folds,
    predict_held_out,
    relative_errors,
    summary,
)
from core.experiments.calibration_model import Prediction, TimeModel, design, fit_time
from core.experiments.calibration_rows import RowFile, Workload
from core.experiments.calibration_shape import AXES, NUM_HYPERPARAMETERS
from core.files import read_json, write_json
from core.provenance import utc_now

VERSION = 2
TAIL = 0.1
"""Beyond each end of an interval: it holds 80 %."""
LEAST_FLAGGED = 10
"""With fewer flagged rows their interval is that of all."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What was fitted to the rows of one setting."""

    num_rows: int
    model: TimeModel
    interval: tuple[float, float]
    """Quantiles of log(measured / predicted) / deviation over rows held out and not flagged."""
    interval_flagged: tuple[float, float]
    """The same over flagged rows."""
    errors: tuple[Errors, ...]
    """In cross-validation."""
    noise_floor: float | None
    """The mean |error| that a perfect prediction would show, by how much repeats of rows differ; None without repeats.
    """
    shares: dict[str, float]
    """Of each feature, the median over rows of its part in the sum of features."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """All fits to one file of rows."""

    version: int
    device_name: str | None
    memory_bytes: int
    num_rows: int
    units: dict[str, str]
    """Of the prices."""
    fits: dict[str, Fit]
    """By setting: phase, precision, whether compiled."""
    git_commit: str | None
    utc: str


@dataclass(frozen=True, slots=True)
class PredictedTime:
    """Of one workload."""

    predicted_s: float
    low_s: float
    high_s: float
    """The measurement lies between these two for 80 % of rows."""
    memory_pressure: bool
    """Whether it comes so near to the device's memory that it may be much slower."""


def calibrate(rows: RowFile, *, memory_bytes: int | None = None, git_commit: str | None = None) -> Calibration:
    """Fit every setting that has rows enough.

    Args:
        rows: Measured, of one device.
        memory_bytes: Of the device; what the rows say if None.
        git_commit: To record.

    Raises:
        ValueError: If nobody says how much memory the device has, or no setting has rows enough.
    """
    memory_bytes = memory_bytes or rows.memory_bytes
    if not memory_bytes:
        raise ValueError("the rows have no column memory_bytes, so say how much the device has (--memory-gib)")
    groups = by_setting(rows.workloads)
    enough = {setting: group for setting, group in groups.items() if len(group) >= LEAST_ROWS}
    if not enough:
        most = max(len(group) for group in groups.values())
        raise ValueError(f"{most} rows of a setting at most ({'; '.join(groups)}): a fit needs {LEAST_ROWS} or more")
    return Calibration(
        version=VERSION,
        device_name=rows.device_name,
        memory_bytes=memory_bytes,
        num_rows=sum(len(group) for group in enough.values()),
        units={name: f"s/{feature.unit}" for name, feature in FEATURES.items()},
        fits={setting: _fit(group, memory_bytes) for setting, group in enough.items()},
        git_commit=git_commit,
        utc=utc_now(),
    )


def by_setting(workloads: Sequence[Workload]) -> dict[str, list[Workload]]:
    """The workloads of each setting, in the order of their first."""
    groups: dict[str, list[Workload]] = {}
    for workload in workloads:
        groups.setdefault(workload.setting, []).append(workload)
    return groups


def _fit(group: Sequence[Workload], memory_bytes: int) -> Fit:
    rows = design([workload.costs for workload in group], group[0].phase)
    seconds = np.array([workload.seconds for workload in group])
    model = fit_time(rows, seconds, memory_bytes)
    known = None if model.correction is None else model.correction.log_hyperparameters
    folds = k_folds(len(rows))
    held = predict_held_out(rows, seconds, memory_bytes, folds, known)
    errors = list(summary(f"{min(NUM_FOLDS, len(rows))} folds", relative_errors(held.seconds, seconds), held.flagged))
    for name, value_folds in left_out_folds(rows):
        other = predict_held_out(rows, seconds, memory_bytes, value_folds, known)
        errors += summary(name, relative_errors(other.seconds, seconds), other.flagged)
    terms = model.terms(rows)
    shares = np.median(terms / terms.sum(axis=1, keepdims=True), axis=0)
    return Fit(
        num_rows=len(rows),
        model=model,
        interval=interval_ends(held, seconds, ~held.flagged),
        interval_flagged=interval_ends(held, seconds, held.flagged),
        errors=tuple(errors),
        noise_floor=noise_floor([workload.repeat_error for workload in group]),
        shares=dict(zip(FEATURES, shares.tolist(), strict=True)),
    )


def interval_ends(held: Prediction, seconds: np.ndarray, chosen: np.ndarray) -> tuple[float, float]:
    """Quantiles of log(measured / predicted) / deviation over the chosen rows, or over all where they are too few."""
    if chosen.sum() < LEAST_FLAGGED:
        chosen = np.ones_like(chosen)
    low, high = np.quantile((np.log(seconds / held.seconds) / held.deviation)[chosen], [TAIL, 1 - TAIL])
    return min(float(low), 0.0), max(float(high), 0.0)


def predict(calibration: Calibration, workloads: Sequence[Workload]) -> list[PredictedTime]:
    """What each workload will take on the device of the calibration.

    Raises:
        ValueError: For a phase, precision or compilation that the calibration has no rows of.
    """
    found: dict[int, PredictedTime] = {}
    for setting, group in by_setting(workloads).items():
        if setting not in calibration.fits:
            raise ValueError(
                f"row {group[0].row}: the fit has no rows of {setting}; it has {'; '.join(calibration.fits)}"
            )
        places = [id(workload) for workload in group]
        found |= zip(places, _predict(calibration.fits[setting], group), strict=True)
    return [found[id(workload)] for workload in workloads]


def _predict(fit: Fit, group: Sequence[Workload]) -> Iterator[PredictedTime]:
    found = fit.model.predict(design([workload.costs for workload in group], group[0].phase))
    for seconds, deviation, flagged in zip(found.seconds, found.deviation, found.flagged, strict=True):
        low, high = fit.interval_flagged if flagged else fit.interval
        ends = seconds * np.exp(np.array([low, high]) * deviation)
        yield PredictedTime(float(seconds), *ends.tolist(), bool(flagged))


def save(calibration: Calibration, path: str | os.PathLike[str]) -> None:
    """Write a calibration as JSON, atomically."""
    write_json(path, dataclasses.asdict(calibration))


def load(path: str | os.PathLike[str]) -> Calibration:
    """Read what `save` wrote; it predicts the same.

    Raises:
        ValueError: If the file is missing, or not a calibration of this version.
    """
    values = read_json(path)
    version = values.get("version") if isinstance(values, dict) else None
    if version != VERSION or "fits" not in values:
        raise ValueError(f"{path}: no calibration of version {VERSION} (`workbook bench fit` writes one)")
    try:
        calibration = TypeAdapter(Calibration).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path}: not a whole calibration ({where}: {first['msg']})") from None
    if not calibration.fits:
        raise ValueError(f"{path}: a calibration without fits")
    if not all(_is_of_this_version(fit.model) for fit in calibration.fits.values()):
        raise ValueError(f"{path}: its features are not those of this version: fit it again")
    return calibration


def _is_of_this_version(model: TimeModel) -> bool:
    """Whether its prices, axes and memory terms are those that rows are described by here."""
    weights, correction = model.pressure.weights, model.correction
    axes = set() if correction is None else {len(shape) for shape in correction.shapes}
    return (
        set(model.prices) == set(FEATURES)
        and (weights is None or set(weights) == set(MEMORY_TERMS))
        and axes <= {len(AXES)}
        and (correction is None or len(correction.log_hyperparameters) == NUM_HYPERPARAMETERS)
    )
