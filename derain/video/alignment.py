"""Neighbouring frames, brought to where the scene is in the frame between them.

Movement is the dense flow of DIS (Kroeger et al., "Fast optical flow using dense inverse search", ECCV 2016)
on small gray frames that were derained. What is left of the rain is matched as well, wherever it fits, and a
frame moved so would bring the streak along that it is to help against. So flow is not taken as it comes:

- the camera's part is one affine movement from frame to frame, which most places agree on; where standing
  still explains as much, the camera stands, and frames stay as they are, to the bit;
- what moves besides moves evenly: the median over the neighbours of the velocities that they show. Rain is
  nowhere for so long;
- and that only where it makes the frames fit better.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from derain.arrays import AnyImage, FloatArray, to_8_bits

_LONGEST_PX = 512  # of the frames that movement is found on
_SMALLEST_PX = 48  # with fewer places nothing can be agreed on
_GRID_PX = 16  # from one place that says how the camera moves to the next
_AGREES_PX = 1.0
_STANDS = 0.9  # of the places that agree on a movement, as many also agree on none
_AROUND_PX = 9  # side of the square over which a fit is judged
_BETTER = 0.9  # what moves fits with less than this share of the error
_NOISE_LEVELS = 0.5

Levels = NDArray[np.uint8] | NDArray[np.uint16]
T = TypeVar("T", bound=NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32])
Small = NDArray[np.uint8]
Movement = FloatArray  # where each pixel is in another frame: steps x and y, float32 (height, width, 2)


@dataclass
class FlowImage:
    """A derained frame, as movement is found in it."""

    image: AnyImage  # RGB (height, width, 3)

    @cached_property
    def small(self) -> Small:
        """Gray, its longest side `_LONGEST_PX` at most."""
        height, width = self.image.shape[:2]
        shrink = min(1.0, _LONGEST_PX / max(height, width))
        size = max(1, round(width * shrink)), max(1, round(height * shrink))
        small = cast(AnyImage, cv2.resize(self.image, size, interpolation=cv2.INTER_AREA))
        return np.asarray(cv2.cvtColor(to_8_bits(small), cv2.COLOR_RGB2GRAY), np.uint8)


@dataclass
class Aligner:
    """Finds movements. Not for several threads at once: OpenCV keeps what it needs from frame to frame."""

    _dis: cv2.DISOpticalFlow = field(
        default_factory=lambda: cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    )

    def movements(self, here: FlowImage, others: dict[int, FlowImage]) -> dict[int, Movement | None]:
        """To frames so many places later (negative: earlier). None: that frame fits as it is."""
        if not others or min(here.small.shape) < _SMALLEST_PX:
            return dict.fromkeys(others)
        small = {place: other.small for place, other in others.items()}
        flows = {place: self._flow(here.small, other) for place, other in small.items()}
        camera = {place: _of_camera(flow) for place, flow in flows.items()}
        velocity = _even_velocity(flows, camera)
        velocity = velocity * _share(here.small, small, camera, velocity)[..., None]
        if not velocity.any():
            found = camera
        else:
            found = {place: _sum(camera[place], place * velocity) for place in others}
        return {place: _enlarged(each, here.image.shape) for place, each in found.items()}

    def _flow(self, here: Small, there: Small) -> Movement:
        flow = self._dis.calc(here, there, None)  # type: ignore[call-overload]  # the last one is optional
        return np.asarray(flow, np.float32)


def aligned(image: AnyImage, movement: Movement | None) -> AnyImage:
    """The image as it would look from where `movement` starts; the same array where there is none."""
    return image if movement is None else moved(image, movement)


def _of_camera(flow: Movement) -> Movement | None:
    """The affine movement that most places agree on; None: none at all explains as many."""
    height, width = flow.shape[:2]
    first = _GRID_PX // 2
    rows, columns = np.mgrid[first:height:_GRID_PX, first:width:_GRID_PX].reshape(2, -1)
    places = np.column_stack([columns, rows]).astype(np.float32)
    steps = flow[rows, columns]
    affine, agree = cv2.estimateAffine2D(
        places, places + steps, method=cv2.RANSAC, ransacReprojThreshold=_AGREES_PX
    )
    standing = np.count_nonzero(np.hypot(*steps.T) < _AGREES_PX)
    if affine is None or standing >= _STANDS * np.count_nonzero(agree):
        return None
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    to = [row[0] * x + row[1] * y + row[2] for row in affine.astype(np.float32)]
    return np.stack([to[0] - x, to[1] - y], axis=-1)


def _even_velocity(flows: dict[int, Movement], camera: dict[int, Movement | None]) -> Movement:
    """Beside the camera's movement, pixels a frame: the median of what the neighbours show."""
    shown = np.stack([_less(flow, camera[place]) / place for place, flow in flows.items()])
    velocity = np.median(shown, axis=0).astype(np.float32)
    return np.asarray(cv2.blur(velocity, (5, 5)), dtype=np.float32)


def _share(
    here: Small, others: dict[int, Small], camera: dict[int, Movement | None], velocity: Movement
) -> FloatArray:
    """Of the velocity that is to be believed: 1 where frames fit better with it, float32 (height, width)."""
    without, with_it = np.zeros(here.shape, np.float32), np.zeros(here.shape, np.float32)
    for place, other in others.items():
        without += _error(here, aligned(other, camera[place]))
        with_it += _error(here, moved(other, _sum(camera[place], place * velocity)))
    better = with_it < _BETTER * without - _NOISE_LEVELS * len(others)
    around = cv2.blur(better.astype(np.float32), (_AROUND_PX, _AROUND_PX))
    return np.asarray(np.minimum(2 * around, 1), dtype=np.float32)


def _sum(camera: Movement | None, step: Movement) -> Movement:
    return step if camera is None else camera + step


def _less(flow: Movement, camera: Movement | None) -> Movement:
    return flow if camera is None else flow - camera


def _enlarged(movement: Movement | None, shape: Sequence[int]) -> Movement | None:
    if movement is None:
        return None
    (rows, columns), (height, width) = movement.shape[:2], shape[:2]
    if (rows, columns) == (height, width):
        return movement
    larger = movement * np.array([width / columns, height / rows], np.float32)
    return np.asarray(cv2.resize(larger, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def moved(image: T, movement: Movement) -> T:
    """The image, or other values of its pixels, as it would look from where `movement` starts."""
    height, width = image.shape[:2]
    columns = movement[..., 0] + np.arange(width, dtype=np.float32)
    rows = movement[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    return cast(T, cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _error(one: Levels, other: Levels) -> FloatArray:
    """The mean difference around each pixel, in levels, float32 (height, width)."""
    around = cv2.blur(cv2.absdiff(one, other), (_AROUND_PX, _AROUND_PX), borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(around, dtype=np.float32)
