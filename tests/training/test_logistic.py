"""Logistic regression, by what is known of its solution."""

import numpy as np
import pytest

from training.logistic import logistic_regression


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
