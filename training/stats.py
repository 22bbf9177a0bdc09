"""How sure a mean is, by drawing the values again and again.

Logistic regression."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 4000
_SEED = 0
_FEWEST = 5  # values, of which the range says how far their mean may be off


@dataclass(frozen=True)
class Interval:
    """A mean, and between what it may be; without end where the values are too few to tell."""

    mean: float
    low: float
    high: float


def interval_of_mean(values: Sequence[float]) -> Interval:
    """The interval of a plain mean; the same values give the same one."""
    return interval_of_weighted_mean([(1.0, values)])


def interval_of_weighted_mean(groups: Sequence[tuple[float, Sequence[float]]]) -> Interval:
    """Of the groups' means, each times its weight; values are drawn again within their group alone.

    The bootstrap-t interval (Efron and Tibshirani 1993, chapter 12): each resample is measured in its own
    standard errors. The plain percentiles of resampled means are too narrow for few values: with eight they
    hold the mean 88 times in 100, not 95. Where nearly all values are equal, many resamples have no
    error, and no end: there the end is that of the values themselves.
    """
    given = [(weight, np.asarray(values, dtype=np.float64)) for weight, values in groups]
    mean = sum(weight * float(values.mean()) for weight, values in given)
    if any(len(values) == 1 for _, values in given):
        return Interval(mean, -np.inf, np.inf)
    if all(np.ptp(values) == 0 for _, values in given):
        return Interval(mean, mean, mean)
    rng = np.random.default_rng(_SEED)
    shift, variance = np.zeros(RESAMPLES), np.zeros(RESAMPLES)
    for weight, values in given:
        count = len(values)
        drawn = values[rng.integers(0, count, (RESAMPLES, count))]  # (resamples, values)
        shift += weight * (drawn.mean(axis=1) - values.mean())
        variance += weight**2 * drawn.var(axis=1, ddof=1) / count
    error = np.sqrt(variance)
    # One value drawn every time has no error of its own: as far off as can be.
    off = np.where(error > 0, shift / np.where(error > 0, error, 1), np.copysign(np.inf, shift))
    below, above = np.quantile(off, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], method="nearest")
    own_error = float(np.sqrt(sum(w**2 * values.var(ddof=1) / len(values) for w, values in given)))
    low, high = mean - float(above) * own_error, mean - float(below) * own_error
    if all(len(values) >= _FEWEST for _, values in given):
        low = low if np.isfinite(low) else sum(weight * float(values.min()) for weight, values in given)
        high = high if np.isfinite(high) else sum(weight * float(values.max()) for weight, values in given)
    return Interval(mean, low, high)


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


# Measuring


def auc(scores: Sequence[float] | Values, outcome: Sequence[bool]) -> float:
    """The chance that a failure scores above a success, ties counting half; NaN without either."""
    values, is_failure = np.asarray(scores, dtype=np.float64), np.asarray(outcome, dtype=bool)
    above, below = values[is_failure], np.sort(values[~is_failure])
    if not len(above) or not len(below):
        return float("nan")
    ranks = np.searchsorted(below, above, "left") + np.searchsorted(below, above, "right")
    return float(ranks.mean() / 2 / len(below))


def roc(scores: Sequence[float], outcome: Sequence[bool]) -> tuple[Values, Values]:
    """Shares of successes and of failures that score at or above each threshold, from the highest."""
    values, is_failure = np.asarray(scores), np.asarray(outcome, dtype=bool)
    thresholds = np.concatenate([[np.inf], np.unique(values)[::-1]])
    reached = values[:, None] >= thresholds
    return reached[~is_failure].mean(axis=0), reached[is_failure].mean(axis=0)


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Rank correlation, ties at their mean rank; NaN where one of the two does not vary."""
    ranks = [_ranks(np.asarray(values, dtype=np.float64)) for values in (x, y)]
    if min(np.ptp(r) for r in ranks) == 0:
        return float("nan")
    a, b = (r - r.mean() for r in ranks)
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    less, equal = (compare(values[None], values[:, None]).sum(axis=1) for compare in (np.less, np.equal))
    return np.asarray(less + equal / 2, dtype=np.float64)
