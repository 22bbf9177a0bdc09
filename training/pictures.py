"""Pictures cut, shrunk, compared and put beside one another, uint8 (H, W, 3)."""

from collections.abc import Sequence

import cv2
import numpy as np

from derain.arrays import Image, middle


def square(picture: Image, side_px: int) -> Image:
    """The largest square in the middle, brought to a size."""
    window_px = min(picture.shape[:2])
    method = cv2.INTER_AREA if window_px > side_px else cv2.INTER_CUBIC
    window = middle(picture, window_px, window_px)
    return np.asarray(cv2.resize(window, (side_px, side_px), interpolation=method), dtype=np.uint8)


def shrink(picture: Image, longest_px: int) -> Image:
    """With a longest side of `longest_px`; a smaller picture stays as it is."""
    scale = longest_px / max(picture.shape[:2])
    if scale >= 1:
        return picture
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def difference(picture: Image, other: Image, gain: int) -> Image:
    """Grey where the two are equal, elsewhere so many times what the first has more or less."""
    changed = picture.astype(np.int16) - other
    return np.asarray(np.clip(128 + gain * changed, 0, 255), dtype=np.uint8)


def beside(pictures: Sequence[Image], gap_px: int = 0) -> Image:
    """In a row, on white where one is less high, with a gap between them."""
    height = max(picture.shape[0] for picture in pictures)
    last = len(pictures) - 1
    return np.concatenate(
        [on_white(each, height, each.shape[1] + gap_px * (i < last)) for i, each in enumerate(pictures)],
        axis=1,
    )


def on_white(picture: Image, height: int, width: int) -> Image:
    """White to the right of it and below, up to a size."""
    missing = [(0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0)]
    return np.pad(picture, missing, constant_values=255)


def caption(width_px: int, *texts: str) -> Image:
    """A white strip with a text at the left of each of equally wide columns."""
    strip = np.full((20, width_px, 3), 255, dtype=np.uint8)
    for column, text in enumerate(texts):
        place = (4 + column * width_px // len(texts), 14)
        cv2.putText(strip, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return strip
