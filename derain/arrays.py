"""The arrays that pictures are, and the two steps between bytes and numbers."""

from typing import TypeVar, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

Picture = NDArray[np.uint8]  # RGB, (height, width, 3)
AnyPicture = Picture | NDArray[np.uint16]  # of 8 or of 16 bits
SamePicture = TypeVar("SamePicture", bound=AnyPicture)  # comes back with as many
FloatArray = NDArray[np.float32]


def fraction(picture: Picture) -> FloatArray:
    """0 to 255 becomes 0 to 1."""
    return np.divide(picture, 255, dtype=np.float32)


def quantise(picture: FloatArray) -> Picture:
    """0 to 1 becomes 0 to 255, rounded, clipped."""
    return quantise_to(picture, np.uint8).astype(np.uint8, copy=False)


def quantise_to(picture: FloatArray, depth: DTypeLike) -> AnyPicture:
    """0 to 1 becomes 0 to the highest number of uint8 or uint16, rounded, clipped."""
    levels: AnyPicture = np.rint(np.clip(picture, 0, 1) * np.iinfo(depth).max).astype(depth)
    return levels


def padded(picture: AnyPicture, alignment_px: int) -> AnyPicture:
    """With sides that are multiples. Repeating the last row and column is as good as anything."""
    height, width = picture.shape[:2]
    missing = [(0, -height % alignment_px), (0, -width % alignment_px), (0, 0)]
    if not any(after for _, after in missing):
        return picture
    return cast(AnyPicture, np.pad(picture, missing, mode="edge"))


def channels_first(picture: AnyPicture) -> FloatArray:
    """As networks take it: (3, height, width) from 0 to 1."""
    values = picture.transpose(2, 0, 1)
    return np.divide(values, np.iinfo(picture.dtype).max, dtype=np.float32, order="C")
