"""Lines that are no rain, drawn over backgrounds: writing, wires, bars, hair.

To a network that knows rain from its streaks, the hardest thing to leave alone is what looks like one.
What tells these from rain is that they run on, bend, meet, or make letters.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from derain.arrays import Image
from training.randomness import Purpose, generator

_SUBPIXEL_BITS = 4  # cv2 takes fixed-point coordinates
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!?&%#/|-. "
_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_SCRIPT_SIMPLEX,
)


def draw_lines(background: Image, seed: int, index: int) -> Image:
    """A copy of the background with lines number `index` on it, uint8 (H, W, 3)."""
    rng = generator(Purpose.WRITING, seed, index)
    drawn = background.copy()
    paint = (_write, _string_wires, _set_bars, _comb)[rng.integers(4)]
    paint(drawn, rng)
    return drawn


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    """Mostly dark or bright grey."""
    level = rng.uniform(0, 70) if rng.random() < 0.5 else rng.uniform(150, 255)
    red, green, blue = np.clip(level + rng.normal(0, 15, 3), 0, 255).astype(int)
    return int(red), int(green), int(blue)


def _write(canvas: Image, rng: np.random.Generator) -> None:
    height, width = canvas.shape[:2]
    for _ in range(rng.integers(1, 5)):
        text = "".join(rng.choice(list(_LETTERS), rng.integers(3, 16)))
        place = int(rng.uniform(-0.2, 0.7) * width), int(rng.uniform(0.1, 1.1) * height)
        scale, thickness = float(np.exp(rng.uniform(np.log(0.3), np.log(1.8)))), int(rng.integers(1, 4))
        font = _FONTS[rng.integers(len(_FONTS))]
        cv2.putText(canvas, text, place, font, scale, _colour(rng), thickness, cv2.LINE_AA)


def _string_wires(canvas: Image, rng: np.random.Generator) -> None:
    """From border to border, alone or side by side, hanging through."""
    height, width = canvas.shape[:2]
    t = np.linspace(0, 1, 16)
    for _ in range(rng.integers(1, 3)):
        ends = rng.uniform(-0.2, 1.2, 2)
        sag = rng.uniform(-0.1, 0.1) if rng.random() < 0.6 else 0.0
        across = ends[0] + (ends[1] - ends[0]) * t + 4 * sag * t * (1 - t)
        points = np.stack([(t * 1.2 - 0.1) * width, across * height], axis=1)
        if rng.random() < 0.5:
            points = points[:, ::-1] * (width / height, height / width)
        colour, thickness = _colour(rng), int(rng.integers(1, 3))
        beside = rng.uniform(-16, 16, 2)
        for number in range(int(rng.integers(1, 5))):
            polyline(canvas, points + number * beside, colour, thickness)


def _set_bars(canvas: Image, rng: np.random.Generator) -> None:
    """Straight and parallel: window bars, railings, blinds."""
    angle = rng.choice([0.0, np.pi / 2]) + rng.normal(0, 0.08)
    apart = np.exp(rng.uniform(np.log(4), np.log(40)))
    _parallel(canvas, angle, apart, 0.0, rng)


def _comb(canvas: Image, rng: np.random.Generator) -> None:
    """Hair, grass: side by side, each a little other than the next."""
    angle = rng.uniform(0, np.pi)
    _parallel(canvas, angle, np.exp(rng.uniform(np.log(2), np.log(12))), rng.uniform(0.05, 0.2), rng)


def _parallel(
    canvas: Image, angle: float, apart_px: float, disorder: float, rng: np.random.Generator
) -> None:
    side_px = float(max(canvas.shape[:2]))
    count = int(min(40, rng.uniform(0.3, 1.0) * side_px / apart_px)) + 1
    length_px = rng.uniform(0.3, 1.5) * side_px
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    start = rng.uniform(-0.2, 0.8, 2) * side_px
    colour, thickness = _colour(rng), int(rng.integers(1, 4 if apart_px > 8 else 2))
    t = np.linspace(0, 1, 8)[:, None]
    for number in range(count):
        turn = along + rng.normal(0, disorder) * across
        bend = rng.normal(0, disorder) * length_px * across
        begin = start + across * apart_px * (number + rng.normal(0, disorder))
        polyline(canvas, begin + turn * length_px * t + bend * t**2, colour, thickness)


def polyline(
    canvas: Image, points: NDArray[np.float64], colour: tuple[int, int, int], thickness_px: int
) -> None:
    """Draws it on the canvas, uint8 (H, W, 3), through points (K, 2) of x and y that need not be whole."""
    fixed = np.rint(points * 2**_SUBPIXEL_BITS).astype(np.int32)
    cv2.polylines(canvas, [fixed], False, colour, thickness_px, cv2.LINE_AA, _SUBPIXEL_BITS)
