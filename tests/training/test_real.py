"""What is said of a photograph without ground truth, where the truth is known after all."""

import cv2
import numpy as np
import pytest

from derain.arrays import Image, to_float, to_uint8
from training.backgrounds import Leaves, draw_leaves
from training.rain.drawn import DOWNPOUR
from training.real import coherence, mean_real_scores, score_real


@pytest.fixture(scope="module")
def clean() -> Image:
    return draw_leaves(Leaves(), 0, 0)[:160, :160]


def test_rain_taken_away_scores_above_nothing_and_background_below(clean: Image) -> None:
    rainy = DOWNPOUR.add(clean, 0, 0)
    nothing, truth = score_real(rainy, rainy), score_real(clean, rainy)
    half = score_real(to_uint8(np.float32(0.5) * (to_float(rainy) + to_float(clean))), rainy)
    assert nothing.streaks == nothing.removed == 0
    assert 0 < half.streaks < truth.streaks
    for spoilt in (cv2.GaussianBlur(rainy, (0, 0), 1.5), cv2.medianBlur(rainy, 5)):
        assert score_real(np.asarray(spoilt, dtype=np.uint8), rainy).streaks < 0


def test_removed_is_in_levels_and_in_contrast(clean: Image) -> None:
    darker = clean // 2
    scores = score_real(darker, clean)
    expected = np.sqrt(((clean.astype(float) - darker) ** 2).mean())
    assert scores.removed == pytest.approx(expected)
    assert scores.removed_share == pytest.approx(expected / clean.std())
    assert np.isnan(score_real(clean * 0, clean * 0 + 7).removed_share)
    assert mean_real_scores([scores, score_real(clean, clean)]).removed == pytest.approx(expected / 2)


def test_a_flat_picture_does_not_blank_the_means(clean: Image) -> None:
    flat = np.full_like(clean, 7)
    scores, none = score_real(clean // 2, clean), score_real(flat, flat)
    assert mean_real_scores([scores, none]).removed_share == scores.removed_share
    assert mean_real_scores([scores, none]).removed == scores.removed / 2
    assert np.isnan(mean_real_scores([none]).removed_share)


def test_coherence_is_1_for_one_direction_and_little_for_none() -> None:
    ramp = np.add.outer(np.arange(40.0), 2 * np.arange(50.0))
    assert coherence(ramp) == pytest.approx(1, abs=0.02)
    assert coherence(ramp * 0) == 0
    assert coherence(np.random.default_rng(0).normal(size=(100, 100))) < 0.45
