"""A large image is derained coarse to fine: a telephone's streaks are wider than any that a network knows.

At a half, a quarter and so on of its size the same streaks are thin again. What is taken off there is
enlarged and taken off the image itself, and the network then does the same at the next finer scale, on what
is left. A scale costs a quarter of the next finer one, so all of them a third more than the image alone.
"""

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from derain.arrays import AnyImage, SameImage

_STRIP_ROWS = 128  # of the coarse image, which are enlarged at once: bounds the memory
_MARGIN_ROWS = 2  # beyond a strip, that linear interpolation looks at


def scales(side_px: int, longest_px: int | None) -> list[int]:
    """What an image is reduced by, coarsest first: 4, 2, 1. Its longer side, `side_px`, is `longest_px` at
    most at the coarsest of them; None is an image at its own scale alone.
    """
    found = [1]
    while longest_px is not None and side_px > longest_px * found[0]:
        found.insert(0, 2 * found[0])
    return found


def reduced(image: SameImage, scale: int) -> SameImage:
    """The mean of each square of `scale` x `scale` pixels; beyond the image its last row and column go on."""
    if scale == 1:
        return image
    height, width = image.shape[:2]
    missing = [(0, -height % scale), (0, -width % scale), (0, 0)]
    if any(after for _, after in missing):
        image = cast(SameImage, np.pad(image, missing, mode="edge"))
    size = image.shape[1] // scale, image.shape[0] // scale
    return cast(SameImage, cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def add_change(image: SameImage, before: AnyImage, after: AnyImage, scale: int) -> SameImage:
    """The image with what became of it at a coarser scale, `before` to `after`, enlarged by linear
    interpolation and added. Clipped to the image's range.
    """
    height, width = image.shape[:2]
    changed = np.empty_like(image)
    for top in range(0, before.shape[0], _STRIP_ROWS):
        rows = slice(scale * top, min(scale * (top + _STRIP_ROWS), height))
        enlarged = _enlarged(before, after, top, scale)[: rows.stop - rows.start, :width]
        levels = image[rows] + enlarged
        changed[rows] = np.clip(np.rint(levels), 0, np.iinfo(image.dtype).max)
    return changed


def _enlarged(before: AnyImage, after: AnyImage, top: int, scale: int) -> NDArray[np.float32]:
    """Of one strip of rows."""
    first = max(0, top - _MARGIN_ROWS)
    rows = slice(first, top + _STRIP_ROWS + _MARGIN_ROWS)
    change = np.subtract(after[rows], before[rows], dtype=np.float32)
    size = change.shape[1] * scale, change.shape[0] * scale
    enlarged = cv2.resize(change, size, interpolation=cv2.INTER_LINEAR)
    start = scale * (top - first)
    return np.asarray(enlarged[start : start + scale * _STRIP_ROWS], dtype=np.float32)
