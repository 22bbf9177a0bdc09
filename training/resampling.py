"""Rain at other scales: a telephone's photograph has the same streaks as a small one, many pixels wide.

An image is drawn small and enlarged after the rain, or drawn large and reduced, rainy and clean alike.
"""

import cv2
import numpy as np

from derain.arrays import Image
from training.randomness import Purpose, generator

LARGEST, SMALLEST = 4.0, 0.6  # of what an image is enlarged by, drawn log-uniformly


def draw_scale(share_enlarged: float, share_reduced: float, seed: int, index: int) -> float:
    """What image number `index` is enlarged by after the rain; 1 for most."""
    rng = generator(Purpose.SCALE, seed, index)
    kind, size = rng.random(2)
    if kind < share_enlarged:
        return float(LARGEST**size)
    if kind < share_enlarged + share_reduced:
        return float(SMALLEST**size)
    return 1.0


def resized(image: Image, side_px: int) -> Image:
    """A square of that side, uint8 (side, side, 3)."""
    if image.shape[0] == side_px:
        return image
    method = cv2.INTER_AREA if image.shape[0] > side_px else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (side_px, side_px), interpolation=method), dtype=np.uint8)
