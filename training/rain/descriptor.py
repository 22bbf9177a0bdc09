"""What an estimator is to name of the rain on an image, as numbers.

Procedural rain is drawn from just these: which way it falls, how long and wide its streaks are, how much
brighter it makes a scene.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from derain.arrays import FloatArray, Image
from training.rain.varied import Layer, Sheet, Streaks

ANGLES_DEG = np.linspace(-78, 78, 14)  # of the directions of fall whose shares are estimated
_ANGLE_SIGMA_DEG = 6.0  # how far a fall's share is spread over the angles next to its own
# Length, width, brightness, cover, share of sheets, share of hard streaks, mean of the layers, and how much
# brighter the image is for the rain.
_MEASURES = 8
FACTS = len(ANGLES_DEG) + _MEASURES + 2  # whether there is rain; whether more than its brightness is known
DESCRIPTOR = len(ANGLES_DEG) + 2 * _MEASURES + 1  # a standard deviation of each measure beside it
_SEEN_PSNR_DB = 40.0  # rain so faint that the rainy image is closer to the clean one is none

ANGLES = slice(0, len(ANGLES_DEG))
MEANS = slice(ANGLES.stop, ANGLES.stop + _MEASURES)
LOG_SIGMAS = slice(MEANS.stop, MEANS.stop + _MEASURES)
BRIGHTER = _MEASURES - 1  # the measure that every pair of images shows


def facts(layers: Sequence[Layer] | None, rainy: Image, clean: Image, scale: float = 1.0) -> FloatArray:
    """What is to be estimated, float32 (FACTS,): of layers of rain, weighed by how much is seen of them.

    `scale` is what the image was enlarged by after the rain. Of rain that does not say what it was drawn
    with, without layers, it is known whether there is any, and how much brighter the image is for it.
    """
    measured = np.zeros(FACTS)
    if layers is not None:
        measured[: MEANS.stop] = _drawn_with(layers, scale)
    difference = np.subtract(rainy, clean, dtype=np.float32) / 255
    measured[MEANS][BRIGHTER] = 5 * difference.mean()
    is_seen = np.square(difference).mean() > 10 ** (-_SEEN_PSNR_DB / 10)
    measured[-2:] = is_seen, layers is not None
    return measured.astype(np.float32)


def _drawn_with(layers: Sequence[Layer], scale: float) -> NDArray[np.float64]:
    """Shares of the angles, and measures but for the last."""
    weights = np.array([max(layer.mean * layer.brightness, 1e-6) for layer in layers])
    shares = np.zeros(len(ANGLES_DEG))
    measures = np.zeros(_MEASURES)
    for layer, weight in zip(layers, weights / weights.sum(), strict=True):
        near = np.exp(-0.5 * ((ANGLES_DEG - layer.fall.angle_deg) / _ANGLE_SIGMA_DEG) ** 2)
        shares += weight * near / near.sum()
        measures[:6] += weight * np.array(
            [
                np.log(scale * layer.fall.length_px / 30),
                np.log(scale * layer.fall.sigma_px),
                np.log(2 * layer.brightness),
                np.log10(max(layer.cover, 1e-4)),
                isinstance(layer, Sheet),
                isinstance(layer, Streaks) and layer.hardness is not None,
            ]
        )
    measures[6] = np.log10(max(sum(layer.mean for layer in layers), 1e-4))
    return np.concatenate([shares, measures])
