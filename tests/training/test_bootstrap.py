"""An interval holds the true mean as often as it says."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from training.bootstrap import CONFIDENCE, Interval, interval_of_mean, interval_of_weighted_mean

Draw = Callable[[np.random.Generator], list[float]]


@pytest.mark.parametrize(
    ("draw", "mean"),
    [
        (lambda rng: rng.normal(0.3, 2.0, 8), 0.3),
        (lambda rng: rng.exponential(1.0, 40), 1.0),
        (lambda rng: rng.standard_t(4, 40) - 5, -5.0),
    ],
    ids=["eight", "skewed", "with outliers"],
)
def test_it_holds_the_mean_as_often_as_it_says(draw: Draw, mean: float) -> None:
    rng = np.random.default_rng(1)
    trials = 400
    intervals = [interval_of_mean(draw(rng)) for _ in range(trials)]
    share = sum(i.low <= mean <= i.high for i in intervals) / trials
    assert abs(share - CONFIDENCE) < 0.03
    assert all(i.low <= i.mean <= i.high for i in intervals)


def test_it_agrees_with_student_where_that_is_right() -> None:
    """Of many normal values: 1.98 standard errors to both sides."""
    values = np.random.default_rng(2).normal(0, 1, 100)
    interval = interval_of_mean(values.tolist())
    error = values.std(ddof=1) / 10
    assert interval.low == pytest.approx(values.mean() - 1.98 * error, abs=0.15 * error)
    assert interval.high == pytest.approx(values.mean() + 1.98 * error, abs=0.15 * error)


def test_it_is_the_same_each_time_and_moves_with_the_values() -> None:
    values = np.random.default_rng(3).normal(0, 1, 20)
    one, again = interval_of_mean(values.tolist()), interval_of_mean(values.tolist())
    assert one == again
    moved = interval_of_mean((10 * values + 5).tolist())
    assert moved.low == pytest.approx(10 * one.low + 5)
    turned = interval_of_mean((-values).tolist())
    assert turned.high - turned.mean == pytest.approx(one.mean - one.low, rel=0.1)


def test_too_few_values_say_nothing_and_equal_ones_everything() -> None:
    assert interval_of_mean([0.5]) == Interval(0.5, -math.inf, math.inf)
    assert interval_of_mean([0.0, 0.0]) == Interval(0.0, 0.0, 0.0)
    assert interval_of_mean([0.1] * 7).high == pytest.approx(0.1)
    two = interval_of_mean([0.0, 1.0])
    assert two.low == -math.inf
    assert two.high == math.inf


def test_a_mean_of_groups_is_held_as_often_as_it_says() -> None:
    """Of two kinds: few values that differ much, and many that differ little."""
    rng = np.random.default_rng(4)
    trials = 300
    held = 0
    for _ in range(trials):
        few, many = rng.normal(1.0, 3.0, 10), rng.normal(-2.0, 0.5, 60)
        interval = interval_of_weighted_mean([(0.5, few.tolist()), (0.5, many.tolist())])
        assert interval.mean == pytest.approx((few.mean() + many.mean()) / 2)
        held += interval.low <= -0.5 <= interval.high
    assert abs(held / trials - CONFIDENCE) < 0.035


def test_a_group_of_one_value_says_nothing_of_the_mean_of_groups() -> None:
    values = [1.0, 2.0, 4.0]
    assert interval_of_weighted_mean([(1.0, values)]) == interval_of_mean(values)
    assert interval_of_weighted_mean([(0.5, values), (0.5, [1.0])]).high == math.inf
    assert interval_of_weighted_mean([(0.25, [4.0, 4.0]), (0.75, [0.0, 0.0])]) == Interval(1.0, 1.0, 1.0)
