"""A large image is derained at several scales: a telephone's streaks are wider than any that a network knows.

At a half, a quarter and so on of its size the same streaks are thin again. Each scale is derained by itself,
and the results are put together as in a Laplacian pyramid (Burt and Adelson, IEEE Trans. Comm., 1983): the
coarser scale decides what is wide, the finer one what is fine. So no scale sees what another one made, and a
sharp thin streak leaves no blurred trace. A scale costs a quarter of the next finer one, so all of them a
third more than the image alone.
"""

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from derain.arrays import AnyImage, SameImage

_STEP = 2  # from a scale to the next coarser one
_STRIP_ROWS = 128  # of the coarse image, which are enlarged at once: bounds the memory
_MARGIN_ROWS = 2  # beyond a strip, that linear interpolation looks at


def scales(side_px: int, longest_px: int | None) -> list[int]:
    """What an image is reduced by, coarsest first: 4, 2, 1. Its longer side, `side_px`, is `longest_px` at
    most at the coarsest of them; None is an image at its own scale alone.
    """
    found = [1]
    while longest_px is not None and side_px > longest_px * found[0]:
        found.insert(0, _STEP * found[0])
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


def with_coarser(image: SameImage, coarser: AnyImage) -> SameImage:
    """The image, (height, width, 3), whose means of 2 x 2 pixels are as in `coarser`, of half its sides,
    rounded up.

    The difference is enlarged by linear interpolation and added. Clipped to the image's range.
    """
    height, width = image.shape[:2]
    means = reduced(image, _STEP)
    changed = np.empty_like(image)
    for top in range(0, means.shape[0], _STRIP_ROWS):
        rows = slice(_STEP * top, min(_STEP * (top + _STRIP_ROWS), height))
        enlarged = _enlarged_difference(means, coarser, top)[: rows.stop - rows.start, :width]
        levels = image[rows] + enlarged
        changed[rows] = np.clip(np.rint(levels), 0, np.iinfo(image.dtype).max)
    return changed


def _enlarged_difference(before: AnyImage, after: AnyImage, top: int) -> NDArray[np.float32]:
    """Of one strip of rows."""
    first = max(0, top - _MARGIN_ROWS)
    rows = slice(first, top + _STRIP_ROWS + _MARGIN_ROWS)
    difference = np.subtract(after[rows], before[rows], dtype=np.float32)
    size = difference.shape[1] * _STEP, difference.shape[0] * _STEP
    enlarged = cv2.resize(difference, size, interpolation=cv2.INTER_LINEAR)
    start = _STEP * (top - first)
    return np.asarray(enlarged[start : start + _STEP * _STRIP_ROWS], dtype=np.float32)
