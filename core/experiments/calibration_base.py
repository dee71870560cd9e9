"""A step's time as a sum of features, each with a price that is not negative."""

import numpy as np
from scipy.optimize import nnls

ROUNDS = 20
"""Of reweighting; the prices no longer move then."""
LEAST_ERROR = 0.005
"""Relative errors below this all weigh the same: smaller ones are the clock's."""


def fit_prices(amounts: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """The prices c >= 0 with the least sum of absolute relative errors.

        minimise  sum_i |sum_j c_j a_ij / t_i - 1|

    It is found by least squares with weights 1 / |error|, again and again: one row that is far off then pulls no
    harder than one a little off.

    Args:
        amounts: One row each, one column a feature; none negative.
        seconds: What each row took.

    Returns:
        Seconds for one unit of each feature; 0 for features that no row has.

    Reference:
        Lawson & Hanson (1974), Solving Least Squares Problems, chapter 23 (NNLS); reweighting: Schlossmacher (1973),
        An iterative technique for absolute deviations curve fitting, JASA 68.
    """
    relative = amounts / seconds[:, None]
    scale = relative.max(axis=0)
    present = scale > 0
    scaled = relative[:, present] / scale[present]
    weights = np.ones(len(seconds))
    for _ in range(ROUNDS):
        found, _ = nnls(scaled * weights[:, None], weights, maxiter=100 * scaled.shape[1])
        errors = np.abs(scaled @ found - 1)
        weights = 1 / np.sqrt(np.maximum(errors, LEAST_ERROR))
    prices = np.zeros(amounts.shape[1])
    prices[present] = found / scale[present]
    return prices
