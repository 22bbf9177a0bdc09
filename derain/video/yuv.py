"""Frames as videos hold them, and the change that deraining is to them.

A frame is planes of brightness and colour difference, Y, Cb and Cr, uint8 or uint16 in the machine's byte
order, each (height, width); the colour planes may be smaller. Gray has Y alone. What a plane holds behind
these three, such as transparency, is not looked at.

A network sees RGB. Its change is taken back to the planes, not its result: where it changes nothing, not a
level of the frame does, however coarse the colour planes are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from derain.arrays import AnyImage

Plane: TypeAlias = NDArray[Any]  # uint8 where samples have 8 bits, else uint16; (height, width)

# Red's and blue's share of brightness, by the number that H.273 gives to a matrix.
BT709, BT601, BT2020 = 1, 6, 9
_SHARES = {
    BT709: (0.2126, 0.0722),
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),
    BT601: (0.299, 0.114),
    7: (0.212, 0.087),  # SMPTE 240M
    BT2020: (0.2627, 0.0593),
    10: (0.2627, 0.0593),  # of constant luminance: near enough for a change
}
_HD_ROWS = 720  # from here on, what does not name its matrix means BT.709


@dataclass(frozen=True)
class Samples:
    """What the numbers in the planes mean."""

    depth: int  # bits
    matrix: int  # as H.273 numbers it
    is_full_range: bool = False  # black is 0 and white the highest number

    @property
    def highest(self) -> int:
        return (1 << self.depth) - 1

    @property
    def rgb_type(self) -> type[np.uint8] | type[np.uint16]:
        return np.uint8 if self.depth == 8 else np.uint16

    @cached_property
    def to_rgb(self) -> NDArray[np.float64]:
        """(3, 4): RGB, from 0 to the highest number of its type, by Y, Cb, Cr and 1."""
        rgb = np.linalg.inv(self.from_rgb)
        unit = 1 << (self.depth - 8)
        black = np.array([0 if self.is_full_range else 16 * unit, 128 * unit, 128 * unit])
        return np.column_stack([rgb, -rgb @ black])

    @cached_property
    def from_rgb(self) -> NDArray[np.float64]:
        """(3, 3): how Y, Cb and Cr change with RGB."""
        red, blue = _SHARES.get(self.matrix, _SHARES[BT709])
        brightness = np.array([red, 1 - red - blue, blue])
        cb = (np.array([0, 0, 1]) - brightness) / (2 * (1 - blue))
        cr = (np.array([1, 0, 0]) - brightness) / (2 * (1 - red))
        unit = 1 << (self.depth - 8)
        spans = [self.highest] * 3 if self.is_full_range else [219 * unit, 224 * unit, 224 * unit]
        levels: NDArray[np.float64] = np.stack([brightness, cb, cr]) * np.array(spans)[:, None]
        return levels / np.iinfo(self.rgb_type).max


def usual_matrix(height: int) -> int:
    """Of a video that does not name one."""
    return BT709 if height >= _HD_ROWS else BT601


def to_rgb(planes: Sequence[Plane], samples: Samples) -> AnyImage:
    """uint8 (height, width, 3) of samples of 8 bits, else uint16; from 0 to the highest number of the type.

    Colours are interpolated as if they lay amid their pixels: a quarter of a pixel off, of colour alone, is
    nothing to a network.
    """
    height, width = planes[0].shape
    if len(planes) < 3:
        neutral = np.full((height, width), 1 << (samples.depth - 1), planes[0].dtype)
        colours = [neutral, neutral]
    else:
        colours = [_resized(plane, height, width, cv2.INTER_LINEAR) for plane in planes[1:3]]
    together = cv2.merge([planes[0], *colours])
    return cast(AnyImage, cv2.transform(together, samples.to_rgb))  # rounded, and clipped to the type


def add_change(
    planes: Sequence[Plane], before: AnyImage, after: AnyImage, samples: Samples, share: float
) -> None:
    """Adds to the planes, in place, what became of their RGB, `before` to `after`: `share` of it, 0 to 1."""
    change = np.subtract(after, before, dtype=np.float32)
    changes = cv2.split(cv2.transform(change, samples.from_rgb * share))
    for plane, levels in zip(planes[:3], changes, strict=False):
        levels = _resized(levels, plane.shape[0], plane.shape[1], cv2.INTER_AREA)
        plane[:] = np.clip(np.rint(plane + levels), 0, samples.highest)


def _resized(plane: NDArray[Any], height: int, width: int, how: int) -> NDArray[Any]:
    if plane.shape == (height, width):
        return plane
    return np.asarray(cv2.resize(plane, (width, height), interpolation=how))
