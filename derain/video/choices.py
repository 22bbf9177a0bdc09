"""What the temporal network chooses from: a few images of one scene, made of aligned frames.

- The frame itself, derained: right where deraining is, and where neighbours show something else.
- The frame as it came: right wherever no drop is before the camera. Deraining cannot always tell, and damages
  some of it.
- The median of five frames, pixel by pixel, derained and as they came. Rain is elsewhere in the next frame;
  what stays is none, though an image alone may look like it. That is the classical answer where a camera
  stands (Garg and Nayar, "Detection and removal of rain from videos", CVPR 2004).
- The second darkest of them, likewise: rain brightens, and dense rain has most of the five.
- Of what is not derained, the frame and the second darkest without their veil: less what deraining takes off
  over wide areas, for a veil stays from frame to frame.

And how far the frames are apart, which says whether they are aligned, and where it rains.
"""

from collections.abc import Sequence
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from derain.arrays import AnyImage, FloatArray, channels_first

CHOICES = 8  # images
SPREADS = 2  # gray
CHANNELS = 3 * CHOICES + SPREADS  # of the features
_WIDE_PX = 16
CELL_PX = 2  # side of what the network sees as one pixel, and finds weights for

# Exchanges that bring five into their order, whatever it was.
_EXCHANGES = ((0, 1), (3, 4), (2, 4), (2, 3), (0, 3), (0, 2), (1, 4), (1, 3), (1, 2))


def choices(derained: Sequence[AnyImage], rainy: Sequence[AnyImage]) -> tuple[list[AnyImage], list[AnyImage]]:
    """`CHOICES` images (height, width, 3), and `SPREADS` gray ones, (height, width), of their type.

    The frames are five each, the one that is asked for in the middle.
    """
    ordered, ordered_rain = _ordered(derained), _ordered(rainy)
    (low, median), (low_rain, median_rain) = ordered[1:3], ordered_rain[1:3]
    veil = _veil(low_rain, low)
    unveiled = [_less(image, veil) for image in (rainy[2], low_rain)]
    images = [derained[2], rainy[2], median, median_rain, low, low_rain, *unveiled]
    return images, [_spread(each) for each in (ordered, ordered_rain)]


def features(images: Sequence[AnyImage], spreads: Sequence[AnyImage]) -> FloatArray:
    """As the network takes it: (CHANNELS, rows, columns) of cells. Sides are whole cells.

    The first image from -0.5 to 0.5, the difference of each other one to it, and the spreads from 0 to 1.
    """
    height, width = images[0].shape[:2]
    size = width // CELL_PX, height // CELL_PX
    small = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (*images, *spreads)]
    together = np.concatenate([each.reshape(*size[::-1], -1) for each in small], axis=2)
    values = channels_first(cast(AnyImage, together))
    own = values[:3].copy()
    values[:3] -= 0.5
    for start in range(3, 3 * CHOICES, 3):
        values[start : start + 3] -= own
    return values


def mean(images: Sequence[AnyImage], weights: FloatArray) -> AnyImage:
    """Of the images, by weights of their cells: (CHOICES, rows, columns), together 1."""
    height, width = images[0].shape[:2]
    total = np.zeros((height, width, 3), np.float32)
    for image, weight in zip(images, weights, strict=True):
        large = cv2.resize(weight, (width, height), interpolation=cv2.INTER_LINEAR)
        cv2.accumulateProduct(image.astype(np.float32), cv2.merge([large] * 3), total)
    return cast(AnyImage, np.rint(total).astype(images[0].dtype))


def _wide(image: AnyImage) -> FloatArray:
    """What is wider than `_WIDE_PX`, in levels: a pixel for as many, float32 (rows, columns, 3)."""
    height, width = image.shape[:2]
    size = -(-width // _WIDE_PX), -(-height // _WIDE_PX)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32)


def _veil(rainy: AnyImage, derained: AnyImage) -> NDArray[np.int16] | NDArray[np.int32]:
    """What deraining takes off over wide areas, in levels: (height, width, 3)."""
    height, width = rainy.shape[:2]
    wide = _wide(rainy) - _wide(derained)
    large = np.rint(cv2.resize(wide, (width, height), interpolation=cv2.INTER_LINEAR))
    return large.astype(np.int16) if rainy.dtype == np.uint8 else large.astype(np.int32)


def _less(image: AnyImage, veil: NDArray[np.int16] | NDArray[np.int32]) -> AnyImage:
    """Clipped to the image's type."""
    depth = cv2.CV_8U if image.dtype == np.uint8 else cv2.CV_16U
    return cast(AnyImage, cv2.subtract(image, veil, dtype=depth))


def _ordered(frames: Sequence[AnyImage]) -> list[AnyImage]:
    """From the darkest to the brightest, pixel by pixel and channel by channel."""
    ordered = list(frames)
    for low, high in _EXCHANGES:
        ordered[low], ordered[high] = (
            cast(AnyImage, pick(ordered[low], ordered[high])) for pick in (np.minimum, np.maximum)
        )
    return ordered


def _spread(ordered: Sequence[AnyImage]) -> AnyImage:
    """From the second to the fourth, of the channel where that is most."""
    red, green, blue = cv2.split(ordered[3] - ordered[1])
    return cast(AnyImage, np.maximum(np.maximum(red, green), blue))
