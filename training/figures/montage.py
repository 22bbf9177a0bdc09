"""Images cut, shrunk, compared and put beside one another, uint8 (H, W, 3)."""

from collections.abc import Sequence

import cv2
import numpy as np

from derain.arrays import Image


def difference(image: Image, other: Image, gain: int) -> Image:
    """Grey where the two are equal, elsewhere so many times what the first has more or less."""
    changed = image.astype(np.int16) - other
    return np.asarray(np.clip(128 + gain * changed, 0, 255), dtype=np.uint8)


def beside(images: Sequence[Image], gap_px: int = 0) -> Image:
    """In a row, on white where one is less high, with a gap between them."""
    height = max(image.shape[0] for image in images)
    last = len(images) - 1
    return np.concatenate(
        [on_white(each, height, each.shape[1] + gap_px * (i < last)) for i, each in enumerate(images)],
        axis=1,
    )


def on_white(image: Image, height: int, width: int) -> Image:
    """White to the right of it and below, up to a size."""
    missing = [(0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)]
    return np.pad(image, missing, constant_values=255)


def caption(width_px: int, *texts: str) -> Image:
    """A white strip with a text at the left of each of equally wide columns."""
    strip = np.full((20, width_px, 3), 255, dtype=np.uint8)
    for column, text in enumerate(texts):
        place = (4 + column * width_px // len(texts), 14)
        cv2.putText(strip, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return strip
