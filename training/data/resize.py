"""Images brought to a size, uint8 (H, W, 3)."""

import cv2
import numpy as np

from derain.arrays import Image, middle


def square(image: Image, side_px: int) -> Image:
    """The largest square in the middle, brought to a size."""
    window_px = min(image.shape[:2])
    method = cv2.INTER_AREA if window_px > side_px else cv2.INTER_CUBIC
    window = middle(image, window_px, window_px)
    return np.asarray(cv2.resize(window, (side_px, side_px), interpolation=method), dtype=np.uint8)


def shrink(image: Image, longest_px: int) -> Image:
    """With a longest side of `longest_px`; a smaller image stays as it is."""
    scale = longest_px / max(image.shape[:2])
    if scale >= 1:
        return image
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
