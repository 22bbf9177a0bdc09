"""Metrics, against scikit-image and against cases worked out by hand."""

from dataclasses import astuple, fields

import numpy as np
import pytest
from skimage import color, metrics

from derain.arrays import Image
from training.evaluation.metrics import (
    Scores,
    luma,
    mean_scores,
    psnr,
    rain_mask,
    score,
    ssim,
    tone_fitted_psnr,
)


@pytest.fixture
def damaged(image: Image) -> Image:
    noise = np.random.default_rng(1).normal(0, 25, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def flat(level: int) -> Image:
    return np.full((12, 12, 3), level, dtype=np.uint8)


@pytest.mark.slow  # as the next ones: scikit-image takes half a second to load
def test_psnr_agrees_with_scikit_image(image: Image, damaged: Image) -> None:
    expected = metrics.peak_signal_noise_ratio(image, damaged, data_range=255)  # type: ignore[no-untyped-call]
    assert psnr(image, damaged) == pytest.approx(expected, abs=1e-4)
    assert psnr(image, image) == np.inf
    assert psnr(flat(0), flat(255)) == 0


def test_tone_fitted_psnr_agrees_with_polyfit(image: Image, damaged: Image) -> None:
    """A line a channel, fitted by least squares; what it takes out of range is clipped."""
    toned = np.clip(damaged * [0.5, 0.8, 0.3] + [100, 20, 3], 0, 255).astype(np.uint8)
    steep = np.clip(image.astype(int) // 4 + np.arange(56)[:, None] % 9 * 20, 0, 255).astype(np.uint8)
    for shown in (damaged, toned, steep):
        fitted = np.empty(shown.shape)
        for channel in range(3):
            gain, offset = np.polyfit(shown[..., channel].ravel(), image[..., channel].ravel(), 1)
            fitted[..., channel] = gain * shown[..., channel] + offset
        expected = psnr(np.clip(fitted, 0, 255), image)
        assert tone_fitted_psnr(shown, image) == pytest.approx(expected, abs=1e-6)


def test_a_tone_fit_is_clipped_to_the_levels_that_there_are() -> None:
    """Two bright pixels of one fitted line, of which one leaves the range."""
    truth, image = flat(0), flat(0)
    truth[0], truth[1], truth[2] = 255, 255, 128
    image[0], image[1], image[2] = 200, 100, 50
    slope, offset = np.polyfit(image[..., 0].ravel(), truth[..., 0].ravel(), 1)
    line = slope * image + offset
    assert line.max() > 255
    assert tone_fitted_psnr(image, truth) == pytest.approx(psnr(np.clip(line, 0, 255), truth))
    assert tone_fitted_psnr(image, truth) > psnr(line, truth)


def test_a_tone_that_was_changed_counts_for_nothing() -> None:
    truth = np.random.default_rng(2).integers(0, 100, (12, 12, 3)).astype(np.uint8)
    assert tone_fitted_psnr(2 * truth + np.uint8(7), truth) > 200
    scores = score(truth, 2 * truth, truth)
    assert scores.input_psnr < 20 < 200 < scores.input_tone_fitted_psnr
    assert tone_fitted_psnr(flat(50), truth) == psnr(np.broadcast_to(truth.mean((0, 1)), truth.shape), truth)


@pytest.mark.slow
def test_ssim_agrees_with_scikit_image(image: Image, damaged: Image) -> None:
    smooth = np.indices(image.shape).sum(axis=0).astype(np.uint8)
    for a, b in [(image, damaged), (smooth, smooth // 2), (smooth, image), (image, image)]:
        expected = metrics.structural_similarity(  # type: ignore[no-untyped-call]
            a,
            b,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
            channel_axis=-1,
        )
        assert ssim(a, b) == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_scores_of_the_luma_agree_with_scikit_image(image: Image, damaged: Image) -> None:
    expected_a, expected_b = (color.rgb2ycbcr(p)[..., 0] for p in (image, damaged))
    np.testing.assert_allclose(luma(image), expected_a, atol=1e-9)
    assert (luma(flat(0)).max(), luma(flat(255)).min()) == pytest.approx((16, 235))
    scores = score(damaged, image, image)
    expected = metrics.peak_signal_noise_ratio(expected_a, expected_b, data_range=255)  # type: ignore[no-untyped-call]
    assert scores.psnr_y == pytest.approx(expected, abs=1e-4)
    expected = metrics.structural_similarity(  # type: ignore[no-untyped-call]
        expected_a, expected_b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert scores.ssim_y == pytest.approx(expected, abs=1e-4)
    assert score(image, damaged, image).input_psnr_y == pytest.approx(scores.psnr_y)


def test_ssim_of_a_picture_smaller_than_its_window_is_not_a_number() -> None:
    assert np.isnan(ssim(flat(0)[:10], flat(0)[:10]))
    assert ssim(flat(0)[:11, :11], flat(0)[:11, :11]) == 1


@pytest.mark.parametrize(("derained", "expected"), [(160, 0), (100, 1), (130, 0.5), (70, 1.5), (190, -0.5)])
def test_removal_is_the_share_of_the_rain_that_came_off(derained: int, expected: float) -> None:
    assert score(flat(derained), flat(160), flat(100)).removal == pytest.approx(expected)


def test_removal_is_blind_to_damage_that_has_nothing_to_do_with_the_rain() -> None:
    rainy, derained = flat(160), flat(160)
    derained[::2] += 20
    derained[1::2] -= 20
    assert score(derained, rainy, flat(100)).removal == pytest.approx(0)


def test_restored_counts_damage_on_the_rain_that_removal_is_blind_to() -> None:
    rainy, derained = flat(160), flat(100)
    derained[::2] += 30
    derained[1::2] -= 30
    scores = score(derained, rainy, flat(100))
    assert scores.removal == pytest.approx(1)
    assert scores.rain_error == pytest.approx(30)
    assert scores.restored == pytest.approx(0.5)
    assert score(rainy, rainy, flat(100)).restored == 0


def test_rain_change_looks_at_the_rain_and_background_error_beside_it() -> None:
    clean, rainy, derained = flat(100), flat(100), flat(107)
    rainy[:6, :, 0] = 140  # rain in one channel makes the pixel rain
    rainy[6:] = 110  # not above the threshold
    derained[:6] = 100
    scores = score(derained, rainy, clean)
    assert rain_mask(rainy, clean).tolist() == [[True] * 12] * 6 + [[False] * 12] * 6
    assert scores.rain_change == pytest.approx(np.sqrt(40**2 / 3))
    assert scores.background_error == pytest.approx(7)
    assert scores.input_psnr == pytest.approx(10 * np.log10(255**2 / ((40**2 / 3 + 10**2) / 2)))
    assert scores.psnr == pytest.approx(20 * np.log10(255 / (7 / np.sqrt(2))))


def test_what_cannot_be_measured_is_not_a_number() -> None:
    dry = score(flat(90), flat(100), flat(100))
    assert np.isnan([dry.removal, dry.rain_change, dry.restored, dry.rain_error]).all()
    assert dry.background_error == 10
    drenched = score(flat(90), flat(200), flat(100))
    assert np.isnan(drenched.background_error)


def test_means_leave_out_what_was_not_measured() -> None:
    nan = float("nan")
    rest = [1.0] * (len(fields(Scores)) - 3)
    means = mean_scores([Scores(20, nan, 1, *rest), Scores(30, nan, nan, *rest)])
    np.testing.assert_equal(astuple(means), (25, nan, 1, *rest))
    assert np.isnan(astuple(mean_scores([]))).all()


def test_bright_rain_leaves_more_background_than_all_rain() -> None:
    clean, rainy = flat(100), flat(100)
    rainy[:2] += 30  # faint
    rainy[2:4] += 100  # bright
    doing_nothing = score(rainy, rainy, clean)
    assert doing_nothing.background_error == 0
    assert doing_nothing.background_error_50 > 0
