"""Rain of another make, kept for evaluation: drawn streaks at several depths.

A network that has memorised the training generator does nothing against this one. Nothing
is shared with the other families: drops are placed one by one, fall at the speed of their
depth, are lit by the sky, and blend as translucent grey instead of being added. Never
train on it; a score on it is a score on rain never seen.
"""

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from derain.arrays import FloatArray, Image, to_float, to_uint8


@dataclass(frozen=True)
class DrawnRain:
    """How hard it rains; the other parameters vary with (seed, index)."""

    name: str
    drops_per_megapixel: tuple[float, float]
    opacity: tuple[float, float]  # of the nearest drops
    veil: tuple[float, float] = (0.0, 0.0)  # how much of the background the far drops hide together

    held_out: ClassVar[bool] = True

    def add(self, background: Image, seed: int, index: int, frames: float = 0.0) -> Image:
        """The background under drawn rain, uint8 (H, W, 3): each drop hides what is behind it.

        `frames` later the same drops have fallen on.
        """
        height, width = background.shape[:2]
        hidden = draw_streaks(self, height, width, seed, index, frames)
        # Drops show the sky that lights them: grey, a little blue.
        rng = np.random.default_rng([seed, index, 1])  # as in `draw_streaks`
        sky = (rng.uniform(0.65, 0.95) * np.array([0.97, 0.99, 1.0])).astype(np.float32)
        hidden = (hidden + (1 - hidden) * np.float32(rng.uniform(*self.veil)))[..., None]
        return to_uint8(to_float(background) * (1 - hidden) + sky * hidden)


DRIZZLE = DrawnRain("drizzle", (300, 1500), (0.3, 0.6))
SHOWER = DrawnRain("shower", (1500, 6000), (0.4, 0.8))
DOWNPOUR = DrawnRain("downpour", (6000, 24000), (0.5, 0.9))
SQUALL = DrawnRain("squall", (6000, 24000), (0.4, 0.8), veil=(0.1, 0.4))
DRAWN = (DRIZZLE, SHOWER, DOWNPOUR, SQUALL)

Points = NDArray[np.float64]  # x, y

_DEPTHS = 4  # planes of rain, from the horizon to the lens
_FALL_LENGTHS = 2.5  # of its streak, by which a drop falls from frame to frame
_SUBPIXEL_BITS = 4  # cv2.line takes fixed-point coordinates


def draw_streaks(
    family: DrawnRain, height: int, width: int, seed: int, index: int, frames: float = 0.0
) -> FloatArray:
    """How much of the background is hidden, `frames` after the first: float32 (height, width) in [0, 1].

    A drop that has left a frame comes into it again on the other side.
    """
    # Not of a Purpose, as the randomness of training is: nothing is shared with training, and scores that
    # are published depend on these numbers.
    rng = np.random.default_rng([seed, index])
    drops = rng.uniform(*family.drops_per_megapixel) * height * width / 1e6
    opacity = rng.uniform(*family.opacity)
    wind_deg = rng.normal(0, 15)
    near_length_px = rng.uniform(30, 90)
    clear = np.ones((height, width), dtype=np.float32)
    for depth in range(1, _DEPTHS + 1):
        nearness = 1 / depth  # perspective: size and speed fall, numbers rise with distance
        plane = np.zeros((height, width), dtype=np.uint8)
        margin_px = near_length_px
        for _ in range(rng.poisson(drops * depth / 10)):
            start = rng.uniform((-margin_px, -margin_px), (width + margin_px, height))
            angle = np.deg2rad(wind_deg + rng.normal(0, 2.5))
            length_px = near_length_px * nearness * rng.uniform(0.6, 1.2)
            direction = np.array([np.sin(angle), np.cos(angle)])
            if frames:
                fallen = start + frames * _FALL_LENGTHS * near_length_px * nearness * direction
                start = (fallen + margin_px) % np.array(
                    [width + 2 * margin_px, height + margin_px]
                ) - margin_px
            end = start + length_px * direction
            shade = int(255 * rng.uniform(0.4, 1))
            thickness_px = 2 if depth == 1 and rng.random() < 0.5 else 1
            _line(plane, start, end, shade, thickness_px)
        # Near drops are out of focus.
        blur_px = rng.uniform(0.6, 1.6) if depth == 1 else 0.45
        hidden = cv2.GaussianBlur(plane.astype(np.float32) / 255, (0, 0), blur_px)
        clear *= 1 - opacity * nearness**0.5 * hidden
    return np.asarray(1 - clear, dtype=np.float32)


def _line(plane: Image, start: Points, end: Points, shade: int, thickness_px: int) -> None:
    x0, y0, x1, y1 = (int(v * 2**_SUBPIXEL_BITS) for v in (*start, *end))
    cv2.line(plane, (x0, y0), (x1, y1), shade, thickness_px, cv2.LINE_AA, _SUBPIXEL_BITS)
