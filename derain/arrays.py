"""The arrays that images are, and the steps between levels and numbers."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import DTypeLike, NDArray

Image = NDArray[np.uint8]  # RGB, (height, width, 3)
AnyImage = Image | NDArray[np.uint16]  # of 8 or of 16 bits
SameImage = TypeVar("SameImage", bound=AnyImage)  # comes back with as many
FloatArray = NDArray[np.float32]

RAIN_LAYER_GAIN = 3  # of what was removed, shown on black


@dataclass(frozen=True)
class Derained(Generic[SameImage]):
    """An image that a model has seen."""

    image: SameImage
    rain_found: bool  # if not, it is the image that was given
    evidence: float | None = None  # log-odds of rain above a dry image's, where the model can tell


def to_float(image: Image) -> FloatArray:
    """0 to 255 becomes 0 to 1."""
    return np.divide(image, 255, dtype=np.float32)


def to_uint8(image: FloatArray) -> Image:
    """0 to 1 becomes 0 to 255, rounded, clipped."""
    return to_levels(image, np.uint8).astype(np.uint8, copy=False)


def to_levels(image: FloatArray, depth: DTypeLike) -> AnyImage:
    """0 to 1 becomes 0 to the highest number of uint8 or uint16, rounded, clipped."""
    levels: AnyImage = np.rint(np.clip(image, 0, 1) * np.iinfo(depth).max).astype(depth)
    return levels


def to_8_bits(samples: AnyImage) -> NDArray[np.uint8]:
    """uint8 as it is, uint16 rounded to the nearest level; of any shape."""
    if samples.dtype == np.uint8:
        return samples.astype(np.uint8, copy=False)
    scaled = cv2.convertScaleAbs(samples, alpha=1 / 257)
    return np.asarray(scaled, np.uint8).reshape(samples.shape)


def padded(image: AnyImage, alignment_px: int) -> AnyImage:
    """With sides that are multiples. Repeating the last row and column is as good as anything."""
    height, width = image.shape[:2]
    missing = [(0, -height % alignment_px), (0, -width % alignment_px), (0, 0)]
    if not any(after for _, after in missing):
        return image
    return cast(AnyImage, np.pad(image, missing, mode="edge"))


def channels_first(image: AnyImage) -> FloatArray:
    """As networks take it: (3, height, width) from 0 to 1."""
    values = image.transpose(2, 0, 1)
    return np.divide(values, np.iinfo(image.dtype).max, dtype=np.float32, order="C")


def middle(image: SameImage, height: int, width: int) -> SameImage:
    """The middle of the image, or all there is of a side that is shorter."""
    height, width = min(height, image.shape[0]), min(width, image.shape[1])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return cast(SameImage, image[top : top + height, left : left + width])


def rain_layer(rainy: Image, derained: Image) -> Image:
    """What was removed, on black and RAIN_LAYER_GAIN times as bright, uint8 RGB (H, W, 3).

    White is 85 levels or more. What the network made brighter is not shown.
    """
    removed: NDArray[Any] = np.minimum(cv2.subtract(rainy, derained), 255 // RAIN_LAYER_GAIN)
    return np.asarray(removed * RAIN_LAYER_GAIN, dtype=np.uint8)
