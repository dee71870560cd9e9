"""What the calibration says of benchmark rows that it has not seen, and what each row's time is made of."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from core.accounting import Account, account
from core.accounting.features import FEATURES
from core.accounting.phases import PHASES
from core.benchmarks import regimes
from core.config import ModelConfig, from_dict
from core.experiments.calibration import interval_ends
from core.experiments.calibration_errors import LEAST_ROWS, k_folds, predict_held_out
from core.experiments.calibration_model import Prediction, design, fit_time

UNITS = {name: feature.unit for name, feature in FEATURES.items()}
SETTING = ["machine", "phase", "precision", "compiled"]
"""What has prices of its own."""
_ADDED = {"fitted_s": pl.Float64, "low_s": pl.Float64, "high_s": pl.Float64, "memory_pressure": pl.Boolean}
_ADDED |= {"compute": pl.Float64, "bandwidth": pl.Float64, "launches": pl.Float64, "regime": pl.String}


def predict_measured(rows: pl.DataFrame, default_memory_bytes: int) -> tuple[pl.DataFrame, list[str]]:
    """Predict every row from the other folds of its machine, phase and precision.

    Args:
        rows: As `core.benchmarks.load_benchmarks` has them, measured.
        default_memory_bytes: Of a machine whose rows do not say how much memory it has.

    Returns:
        The rows with `fitted_s`, `low_s` and `high_s` (80 % of such predictions lie so near), `memory_pressure`, the
        shares `compute`, `bandwidth` and `launches` of the fitted sum and `regime`, the largest of them; nulls and
        `unknown` where nothing was fitted. And a line about each group that has no fit, and why.
    """
    parts, unfitted = [rows.clear().with_columns(pl.lit(None, dtype).alias(name) for name, dtype in _ADDED.items())], []
    for setting, group in rows.group_by(SETTING, maintain_order=True):
        try:
            memory_bytes = group["memory_bytes"].min() or default_memory_bytes
            added = pl.DataFrame(_predicted(group.to_dicts(), memory_bytes), schema=_ADDED)
        except ValueError as error:
            machine, phase, precision, compiled = setting
            words = filter(None, [machine, phase, precision, "compiled" if compiled else None])
            unfitted.append(f"{', '.join(words)}: {error}")
            nothing = [pl.lit(None, dtype).alias(name) for name, dtype in _ADDED.items() if name != "regime"]
            parts.append(group.with_columns(*nothing, regime=pl.lit("unknown")))
        else:
            parts.append(group.hstack(added))
    return pl.concat(parts), unfitted


def _predicted(group: Sequence[Mapping[str, Any]], memory_bytes: int) -> list[dict[str, Any]]:
    if any(row["config_json"] is None or row["phase"] not in PHASES for row in group):
        raise ValueError("only steps of whole models are fitted, and their phases")
    if len(group) < LEAST_ROWS:
        raise ValueError(f"{len(group)} rows, and a fit needs {LEAST_ROWS}")
    rows = design([_costs(row) for row in group], group[0]["phase"])
    seconds = np.array([row["median_s"] for row in group])
    model = fit_time(rows, seconds, memory_bytes)
    known = None if model.correction is None else model.correction.log_hyperparameters
    held = predict_held_out(rows, seconds, memory_bytes, k_folds(len(rows)), known)
    low, high = _interval(held, seconds)
    terms = [dict(zip(FEATURES, row, strict=True)) for row in model.terms(rows).tolist()]
    columns = {"fitted_s": held.seconds, "low_s": low, "high_s": high, "memory_pressure": held.flagged}
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [
        dict(zip(columns, row, strict=True)) | limits for row, limits in zip(values, regimes(terms, UNITS), strict=True)
    ]


def _costs(row: Mapping[str, Any]) -> Account:
    workload = {name: row[name] for name in ("batch_size", "precision", "optimizer")}
    try:
        model = from_dict(ModelConfig, json.loads(row["config_json"]))
        return account(model, seq=row["context_length"], **workload)
    except (ValueError, TypeError) as error:
        raise ValueError(f"row {row['point_id']} describes no model ({error})") from None


def _interval(held: Prediction, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of an interval about each prediction, from the errors of all that were held out."""
    ends = interval_ends(held, seconds, np.ones(len(seconds), bool))
    low, high = (held.seconds * np.exp(end * held.deviation) for end in ends)
    return low, high
