"""How sure a mean is, by drawing the values again and again."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 4000
_SEED = 0


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
    hold the mean 88 times in 100, not 95.
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
    return Interval(mean, mean - float(above) * own_error, mean - float(below) * own_error)
