"""Derains large images at several scales: in a phone's photograph streaks are wider than in training.

At a half, a quarter and so on of its size the same streaks are thin. Each scale is derained by itself, and
the results are put together as in a Laplacian pyramid (Burt and Adelson, IEEE Trans. Comm., 1983): wide
structure comes from the coarser scale, fine structure from the finer one. No scale sees the result of another
one, and so a sharp thin streak leaves no blurred trace. A scale costs a quarter of the next finer one: all
together cost a third more than the finest alone.
"""

from collections.abc import Sequence
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from derain.arrays import AnyImage, SameImage

_STEP = 2  # from a scale to the next coarser one
_STRIP_ROWS = 128  # rows of the coarse image that are enlarged at once: bounds the memory
_MARGIN_ROWS = 2  # rows beyond a strip, for linear interpolation at its edge


def scales(shape: Sequence[int], longest_px: int | None) -> list[int]:
    """The factors that an image (height, width, ...) is reduced by, coarsest first, such as 4, 2, 1.

    At the coarsest scale its longer side is at most `longest_px`, unless its shorter one has no pixel left:
    a line of a million pixels, filled up to squares, would take gigabytes. None: its own scale alone, 1.
    """
    factors = [1]
    longer_px, shorter_px = max(shape[:2]), min(shape[:2])
    while longest_px is not None and longer_px > longest_px * factors[0] and shorter_px >= _STEP * factors[0]:
        factors.insert(0, _STEP * factors[0])
    return factors


def reduced(image: SameImage, scale: int) -> SameImage:
    """The mean of each square of `scale` x `scale` pixels.

    The last row and column are repeated until the sides are multiples of `scale`.
    """
    if scale == 1:
        return image
    height, width = image.shape[:2]
    missing = [(0, -height % scale), (0, -width % scale), (0, 0)]
    if any(after for _, after in missing):
        image = cast(SameImage, np.pad(image, missing, mode="edge"))
    size = image.shape[1] // scale, image.shape[0] // scale
    return cast(SameImage, cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def with_coarser(image: SameImage, coarser: AnyImage) -> SameImage:
    """The image, (height, width, 3), with its wide structure from `coarser`, half its sides rounded up.

    The difference between `coarser` and the image's means of 2 x 2 pixels is enlarged by linear interpolation
    and added. The result is clipped to the range of the image's type.
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
    """The difference of a strip from row `top` on, enlarged to twice its sides."""
    first = max(0, top - _MARGIN_ROWS)
    rows = slice(first, top + _STRIP_ROWS + _MARGIN_ROWS)
    difference = np.subtract(after[rows], before[rows], dtype=np.float32)
    size = difference.shape[1] * _STEP, difference.shape[0] * _STEP
    enlarged = cv2.resize(difference, size, interpolation=cv2.INTER_LINEAR)
    start = _STEP * (top - first)
    return np.asarray(enlarged[start : start + _STEP * _STRIP_ROWS], dtype=np.float32)
