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
    """The bootstrap-t interval (Efron and Tibshirani 1993, chapter 12); the same values give the same one.

    Each resample is measured in its own standard errors. The plain percentiles of resampled means
    are too narrow for few values: with eight they hold the mean 88 times in 100, not 95.
    """
    given = np.asarray(values, dtype=np.float64)
    count, mean = len(given), float(given.mean())
    if count == 1:
        return Interval(mean, -np.inf, np.inf)
    if np.ptp(given) == 0:
        return Interval(mean, mean, mean)
    rng = np.random.default_rng(_SEED)
    drawn = given[rng.integers(0, count, (RESAMPLES, count))]  # (resamples, values)
    shift = drawn.mean(axis=1) - mean
    error = drawn.std(axis=1, ddof=1) / np.sqrt(count)
    # One value drawn every time has no error of its own: as far off as can be.
    off = np.where(error > 0, shift / np.where(error > 0, error, 1), np.copysign(np.inf, shift))
    below, above = np.quantile(off, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], method="nearest")
    own_error = float(given.std(ddof=1) / np.sqrt(count))
    return Interval(mean, mean - float(above) * own_error, mean - float(below) * own_error)
