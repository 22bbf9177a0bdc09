"""Intervals that hold the true mean as often as they say, and logistic regression."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from training.stats import (
    CONFIDENCE,
    Interval,
    interval_of_mean,
    interval_of_weighted_mean,
    logistic_regression,
)

Draw = Callable[[np.random.Generator], list[float]]


@pytest.mark.slow
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


@pytest.mark.parametrize(("count", "differ", "by"), [(100, 3, -0.05), (24, 1, -0.1), (200, 3, -0.3)])
def test_values_that_are_nearly_all_equal_have_an_end(count: int, differ: int, by: float) -> None:
    """As of clean images, most of which come back alike from two models."""
    values = [by] * differ + [0.0] * (count - differ)
    interval = interval_of_mean(values)
    assert interval.low == by
    assert interval.mean <= interval.high < 0.01
    assert interval_of_mean([-value for value in values]).high == -by
    assert interval_of_mean([-1.0, 0.0, 0.0, 0.0]).low == -math.inf


@pytest.mark.slow
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


def test_it_finds_the_law_that_outcomes_were_drawn_by() -> None:
    rng = np.random.default_rng(0)
    signs = rng.normal(3, (1.0, 20.0, 0.1), (20_000, 3))
    chance = 1 / (1 + np.exp(-(signs @ (1.0, -0.05, 8.0) - 26)))
    slopes, bias = logistic_regression(signs, (rng.random(len(signs)) < chance).astype(float), ridge=1e-6)
    assert slopes == pytest.approx((1.0, -0.05, 8.0), rel=0.1)
    assert bias == pytest.approx(-26, rel=0.1)


def test_where_nothing_can_be_told_the_bias_says_how_common_it_is() -> None:
    outcome = np.repeat((1.0, 0.0), (30, 10))
    slopes, bias = logistic_regression(np.full((40, 2), 7.0), outcome, ridge=1.0)
    assert slopes == pytest.approx(0, abs=1e-6)
    assert bias == pytest.approx(np.log(3))


@pytest.mark.parametrize("ridge", [1.0, 100.0])
def test_the_ridge_keeps_weights_small_where_the_two_can_be_told_apart(ridge: float) -> None:
    """Without it they would have no bound. At the solution it pulls as hard as the outcomes do."""
    signs = np.linspace(-1, 1, 50)[:, None]
    outcome = (signs[:, 0] > 0).astype(float)
    slopes, bias = logistic_regression(signs, outcome, ridge)
    chance = 1 / (1 + np.exp(-(signs @ slopes + bias)))
    pull = signs.std() ** 2 * ridge * slopes[0]
    assert (outcome - chance) @ signs[:, 0] == pytest.approx(pull, rel=1e-6)
    assert abs(bias) < 1e-9
