"""Logistic regression."""

import numpy as np
from numpy.typing import NDArray

_ITERATIONS = 30  # of Newton's method: more than it has been seen to need
_SPREAD = 1e-9  # added to that of each sign, lest one that never changes be divided by zero

Values = NDArray[np.float64]


def logistic_regression(signs: Values, outcome: Values, ridge: float) -> tuple[Values, float]:
    """The weight of each sign and the bias, by which the log-odds of the outcome are linear in the signs.

    `signs` are (N, K), `outcome` (N,) of 0 and 1, both of which there have to be. `ridge` is the penalty on
    the square of a weight, of signs in units of their spread; the bias has none. Newton's method.
    """
    middle, spread = signs.mean(axis=0), signs.std(axis=0) + _SPREAD
    rows = np.c_[np.ones(len(signs)), (signs - middle) / spread]
    penalty = np.diag([0.0] + [ridge] * signs.shape[1])
    weights = np.zeros(rows.shape[1])
    for _ in range(_ITERATIONS):
        chance = 1 / (1 + np.exp(-rows @ weights))
        curvature = (rows.T * (chance * (1 - chance))) @ rows + penalty
        step = np.linalg.solve(curvature, rows.T @ (chance - outcome) + penalty @ weights)
        weights -= step
        if np.abs(step).max() < 1e-9:
            break
    slopes = weights[1:] / spread
    return slopes, float(weights[0] - slopes @ middle)
