"""How good a derained picture is: what came off, and what was damaged on the way.

All take uint8 RGB pictures (H, W, 3), or PSNR and SSIM a luma, and work on levels of 0 to 255.
Rain removal and background fidelity are measured apart, as in "Networks are Slacking Off": a
network that does nothing has a perfect background, one that paints everything black has removed
all the rain.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from statistics import fmean

import cv2
import numpy as np
from numpy.typing import NDArray

from derain.arrays import Image

Mask = NDArray[np.bool_]  # (H, W)
Luma = NDArray[np.float64]  # (H, W)
Levels = Image | NDArray[np.float64]

# A pixel is rain where the rainy picture differs from the clean one by more than this in some
# channel. Dense rain leaves few pixels below the first, so E_B is also measured with the second.
RAIN_THRESHOLD = 10
BRIGHT_RAIN_THRESHOLD = 50


@dataclass(frozen=True)
class Scores:
    """Scores of one picture, or their means over a set; NaN where there is nothing to measure."""

    psnr: float  # dB, RGB, against the clean picture
    ssim: float  # RGB
    psnr_y: float  # dB, of the luma alone: what deraining papers report
    ssim_y: float
    input_psnr: float  # dB, of the rainy picture: what doing nothing would score
    input_psnr_y: float
    tone_fitted_psnr: float  # dB, RGB, after a gain and an offset a channel were fitted to the clean image
    input_tone_fitted_psnr: float  # of the rainy image, fitted likewise
    removal: float  # eta: 0 nothing removed, 1 all of it, above 1 too much
    restored: float  # rho: as eta, but damage done on the rain counts against it
    rain_change: float  # E_R: change against the rainy input on the rain, higher is more removed
    rain_error: float  # E_R^GT: error against the clean picture on the rain, lower is better
    background_error: float  # E_B: error against the clean picture off the rain, lower is better
    background_error_50: float  # the same off the bright rain alone


def score(derained: Image, rainy: Image, clean: Image) -> Scores:
    mask = rain_mask(rainy, clean)
    bright = rain_mask(rainy, clean, BRIGHT_RAIN_THRESHOLD)
    error = _difference(derained, clean)
    rain_error = root_mean_square(error[mask])
    derained_y, rainy_y, clean_y = luma(derained), luma(rainy), luma(clean)
    return Scores(
        psnr=psnr(derained, clean),
        ssim=ssim(derained, clean),
        psnr_y=psnr(derained_y, clean_y),
        ssim_y=ssim(derained_y, clean_y),
        input_psnr=psnr(rainy, clean),
        input_psnr_y=psnr(rainy_y, clean_y),
        tone_fitted_psnr=tone_fitted_psnr(derained, clean),
        input_tone_fitted_psnr=tone_fitted_psnr(rainy, clean),
        removal=removal(derained, rainy, clean, mask),
        restored=1 - rain_error / root_mean_square(_difference(rainy, clean)[mask]),
        rain_change=root_mean_square(_difference(derained, rainy)[mask]),
        rain_error=rain_error,
        background_error=root_mean_square(error[~mask]),
        background_error_50=root_mean_square(error[~bright]),
    )


def mean_scores(scores: list[Scores]) -> Scores:
    """The mean of each score over the pictures that have it."""
    means = {}
    for field in fields(Scores):
        means[field.name] = mean_known(getattr(s, field.name) for s in scores)
    return Scores(**means)


def mean_known(values: Iterable[float]) -> float:
    """The mean of those that are not NaN; NaN where all are."""
    known = [value for value in values if not np.isnan(value)]
    return fmean(known) if known else float("nan")


def luma(picture: Image) -> Luma:
    """Y of BT.601 for levels of 0 to 255, float64 (H, W) from 16 to 235, not rounded.

    The field's number: MATLAB's `rgb2ycbcr` of a picture that is not uint8, as in PReNet's
    scripts, and BasicSR's `to_y_channel`. Its PSNR has a peak of 255 all the same. Restormer's
    script rounds Y to whole levels, which moves PSNR by a few hundredths of a decibel.
    """
    return np.asarray(picture @ np.array([65.481, 128.553, 24.966]) / 255 + 16)


def psnr(a: Levels, b: Levels) -> float:
    """Peak signal-to-noise ratio over all channels, dB, its peak 255; infinite for equal pictures."""
    error = root_mean_square(_difference(a, b))
    return float("inf") if error == 0 else float(20 * np.log10(255 / error))


def tone_fitted_psnr(image: Image, truth: Image) -> float:
    """PSNR in dB after a gain and an offset a channel, fitted to the truth by least squares, and clipping.

    Some data sets change the tone of the whole image with the rain. No derainer can know that change, and it
    can outweigh all the rain; here it counts for nothing.
    """
    return psnr(_fit_tone(image.astype(np.float64), truth.astype(np.float64)), truth)


def _fit_tone(image: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of levels (H, W, 3); a channel of one level becomes the truth's mean."""
    centred = image - image.mean(axis=(0, 1))
    truth_mean = truth.mean(axis=(0, 1))
    variance = (centred**2).mean(axis=(0, 1))
    covariance = (centred * (truth - truth_mean)).mean(axis=(0, 1))
    gain = covariance / np.where(variance > 0, variance, 1)
    return np.asarray(np.clip(gain * centred + truth_mean, 0, 255))


def ssim(a: Levels, b: Levels) -> float:
    """Structural similarity (Wang et al. 2004): Gaussian window of sigma 1.5, mean over channels.

    As in the field's scripts for MATLAB and Python, only windows wholly inside the picture count.

    Both sides must be at least 11 pixels: smaller pictures give NaN.
    """
    radius_px = 5  # of the window: 3.5 sigma
    if min(a.shape[:2]) < 2 * radius_px + 1:
        return float("nan")
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

    def blur(x: NDArray[np.float64]) -> NDArray[np.float64]:
        window = (2 * radius_px + 1, 2 * radius_px + 1)
        blurred = cv2.GaussianBlur(x, window, 1.5, borderType=cv2.BORDER_REFLECT)
        return np.asarray(blurred, dtype=np.float64)

    x, y = a.astype(np.float64), b.astype(np.float64)
    mean_x, mean_y = blur(x), blur(y)
    variance_x, variance_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )
    inner = slice(radius_px, -radius_px)  # where the window lies inside the picture
    return float(similarity[inner, inner].mean())


def rain_mask(rainy: Image, clean: Image, threshold: int = RAIN_THRESHOLD) -> Mask:
    """Where the rain is, boolean (H, W)."""
    return np.asarray(np.abs(_difference(rainy, clean)).max(axis=-1) > threshold)


def removal(derained: Image, rainy: Image, clean: Image, mask: Mask) -> float:
    """How much of the rain came off: the change projected on the rain, over the mask."""
    rain = _difference(rainy, clean)[mask]
    change = _difference(rainy, derained)[mask]
    energy = float((rain**2).sum())
    return float((change * rain).sum()) / energy if energy else float("nan")


def root_mean_square(values: NDArray[np.float64]) -> float:
    return float(np.sqrt((values**2).mean())) if values.size else float("nan")


def _difference(a: Levels, b: Levels) -> NDArray[np.float64]:
    return a.astype(np.float64) - b.astype(np.float64)
