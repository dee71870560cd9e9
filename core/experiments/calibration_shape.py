"""What the sum of features misses for shapes near those that were measured: a Gaussian process on the residuals."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, Matern, WhiteKernel

from core.accounting import Account

AXES = ("batch_size", "context_length", "d_model", "num_heads", "num_layers", "d_ff", "vocab_size", "fused_attention")
"""All in logarithms but the last, which is 0 or 1."""
NUM_HYPERPARAMETERS = len(AXES) + 2
"""A length scale for each axis, and two variances."""
LEAST_ROWS = 25
"""With fewer, eight length scales and two deviations would be fitted to noise."""
CLIP = 0.15
"""Log residuals beyond this are something else than the shape."""
PRIOR_DEVIATION = 0.5
"""Of the logarithm of each hyperparameter, around where the search starts."""


def shape_of(costs: Account) -> tuple[float, ...]:
    """Where a workload lies along `AXES`."""
    model = costs.model
    sizes = (
        costs.batch_size,
        costs.seq,
        model.d_model,
        model.num_heads,
        model.num_layers,
        model.d_ff,
        model.vocab_size,
    )
    return (*np.log(sizes).tolist(), float(model.attention != "written_out"))


def _kernel() -> Kernel:
    """Where the search for hyperparameters starts, and what it is drawn to."""
    # One length scale an axis: 1 is a factor e in a size; 0.15 is closer than the neighbours of a grid.
    scales = Matern([1.0] * len(AXES), (0.15, 30), nu=1.5)
    return ConstantKernel(0.03**2, (1e-6, 1e-1)) * scales + WhiteKernel(0.02**2, (1e-5, 1e-1))


def _most_probable(
    objective: Callable[[np.ndarray], tuple[float, np.ndarray]], initial: np.ndarray, bounds: np.ndarray
) -> tuple[np.ndarray, float]:
    """An optimizer as scikit-learn calls it: likelihood times a normal prior on the logarithms.

    By likelihood alone some subsets of the same rows end in length scales that predict the rest badly.
    """

    def penalised(logarithms: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = objective(logarithms)
        steps = (logarithms - initial) / PRIOR_DEVIATION
        return value + (steps**2).sum() / 2, gradient + steps / PRIOR_DEVIATION

    found = minimize(penalised, initial, jac=True, bounds=bounds, method="L-BFGS-B")
    return found.x, found.fun


@dataclass(frozen=True, slots=True)
class ShapeCorrection:
    """A factor on the base's prediction, which is 1 far from all measured shapes.

        log(seconds / base) ~ GP(0, v Matern_3/2(x, x') + noise)

    Reference:
        Rasmussen & Williams (2006), Gaussian Processes for Machine Learning, eqs 2.25, 2.26 and 4.17.
    """

    shapes: tuple[tuple[float, ...], ...]
    """Of the measured rows, along `AXES`."""
    log_residuals: tuple[float, ...]
    """Of these rows: log(measured / base), clipped."""
    log_hyperparameters: tuple[float, ...]
    """v, the length scales and the noise, in logarithms."""

    def predict(self, shapes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The logarithm of the factor for each shape, and its deviation (noise included)."""
        process = GaussianProcessRegressor(
            _kernel().clone_with_theta(np.array(self.log_hyperparameters)), alpha=0, optimizer=None
        )
        process.fit(np.array(self.shapes), np.array(self.log_residuals))
        return process.predict(shapes, return_std=True)


def fit_correction(
    shapes: np.ndarray, log_residuals: np.ndarray, log_hyperparameters: Sequence[float] | None = None
) -> ShapeCorrection | None:
    """Fit the correction.

    Args:
        shapes: Rows by `AXES`.
        log_residuals: log(measured / base) of each.
        log_hyperparameters: Taken as they are; if None the most probable ones.

    Returns:
        None for fewer than `LEAST_ROWS` rows without known hyperparameters.
    """
    if log_hyperparameters is None and len(shapes) < LEAST_ROWS:
        return None
    clipped = np.clip(log_residuals, -CLIP, CLIP)
    if log_hyperparameters is None:
        process = GaussianProcessRegressor(_kernel(), alpha=0, optimizer=_most_probable)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # without noise its deviation ends at the bound
            process.fit(shapes, clipped)
        log_hyperparameters = process.kernel_.theta.tolist()
    return ShapeCorrection(tuple(map(tuple, shapes.tolist())), tuple(clipped.tolist()), tuple(log_hyperparameters))
