"""Clean backgrounds: a few images from a folder, or procedural dead leaves.

The paper's second lever is to keep backgrounds simpler than the rain: few images, of
simple content. Dead leaves (Matheron 1968; Lee, Mumford and Huang 2001) take that to its
end: occluding shapes whose sizes follow a power law have the edge statistics of
photographs, need no photograph at all, and have a complexity that can be turned.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from derain.arrays import FloatArray, Image, to_uint8
from training.seeding import Purpose, generator


@dataclass(frozen=True)
class Leaves:
    """A world of dead leaves; `complexity` runs from 0 (large flat shapes) to 1.

    Complexity lowers the smallest leaf, and raises the share of leaves with a texture and
    the share that are thin bright or dark lines: the wires, stems and hair that a network
    has to tell from rain.
    """

    complexity: float = 1.0
    size_px: int = 256
    row_share: float = 0.0  # of leaves that are many alike in rows: fences, blinds, windows, fur, stripes

    @property
    def smallest_radius_px(self) -> float:
        return float(1.5 * 24.0 ** (1 - self.complexity))

    @property
    def textured_share(self) -> float:
        return 0.7 * self.complexity

    @property
    def line_share(self) -> float:
        return 0.2 * self.complexity


_FINER = 2  # leaves are drawn this much larger and then shrunk, for soft edges
_PLAIN_PX = 8 * _FINER  # leaves below this size are of one colour


def draw_leaves(world: Leaves, seed: int, index: int) -> Image:
    """Image `index` of dead leaves, uint8 (size, size, 3), a function of (seed, index)."""
    rng = generator(Purpose.LEAVES, seed, index)
    side_px = world.size_px * _FINER
    palette = _draw_palette(rng)
    canvas = np.empty((side_px, side_px, 3), dtype=np.float32)
    canvas[:] = _draw_colour(palette, rng)
    # Painted from the back: the last leaf lies on top. Until the canvas is covered about twice.
    smallest_px = world.smallest_radius_px * _FINER
    largest_px = max(smallest_px, side_px / 3)
    covered = 0.0
    while covered < 2.0 * side_px**2:
        # P(r) ~ r^-3, the law that makes the world look the same at every scale, cut at both
        # ends, and flattened to r^-2 so that small leaves do not take all the drawing time.
        radius_px = 1 / rng.uniform(1 / largest_px, 1 / smallest_px)
        if rng.random() < world.row_share:
            covered += _paint_rows(canvas, _draw_colour(palette, rng), rng)
            continue
        is_line = rng.random() < world.line_share
        outline = _draw_line(radius_px, side_px, rng) if is_line else _draw_leaf(radius_px, side_px, rng)
        textured = not is_line and rng.random() < world.textured_share
        covered += _paint(canvas, outline, _draw_colour(palette, rng), textured, rng)
    small = cv2.resize(canvas, (world.size_px, world.size_px), interpolation=cv2.INTER_AREA)
    return to_uint8(_defocus(np.asarray(small, dtype=np.float32), rng))


def _draw_palette(rng: np.random.Generator) -> FloatArray:
    """A few base colours of one scene, (K, 3): mostly muted, near one another in hue."""
    # From dark to bright: what is dark in almost every view tells how much veil lies over it.
    lightness = (np.arange(6)[:, None] + rng.uniform(0, 1, (6, 1))) / 6 * rng.uniform(0.5, 1)
    tint = rng.normal(0, 0.12, (1, 3)) + rng.normal(0, 0.10, (6, 3))
    return np.asarray(np.clip(lightness + tint, 0, 1), dtype=np.float32)


def _draw_colour(palette: FloatArray, rng: np.random.Generator) -> FloatArray:
    base = palette[rng.integers(len(palette))] + rng.normal(0, 0.06) + rng.normal(0, 0.03, 3)
    return np.asarray(np.minimum(np.maximum(base, 0), 1), dtype=np.float32)


_TURNS = np.linspace(0, 2 * np.pi, 24)
_ROUND = np.stack([np.cos(_TURNS), np.sin(_TURNS)], axis=1)  # corner points (K, 2) of radius 1
_SQUARE = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]], dtype=np.float64)

Outline = tuple[FloatArray, float]  # corner points (K, 2) of a polygon or polyline; line width or 0


def _draw_leaf(radius_px: float, side_px: int, rng: np.random.Generator) -> Outline:
    """An ellipse, a rectangle or a ragged polygon about a random centre."""
    match rng.integers(3):
        case 0:
            shape = _ROUND
        case 1:
            shape = _SQUARE
        case _:
            corners = int(rng.integers(3, 10))
            turns = np.sort(rng.uniform(0, 2 * np.pi, corners))
            shape = np.stack([np.cos(turns), np.sin(turns)], axis=1) * rng.uniform(0.5, 1.2, (corners, 1))
    stretch = np.exp(rng.uniform(-0.8, 0.8))
    return _place(shape * (radius_px * stretch, radius_px / stretch), side_px, rng), 0.0


def _draw_line(radius_px: float, side_px: int, rng: np.random.Generator) -> Outline:
    """A straight or bent line, thin against its length."""
    bend = rng.normal(0, 0.25) if rng.random() < 0.6 else 0.0
    t = np.linspace(-1, 1, 12)
    points = np.stack([t, bend * t**2], axis=1) * radius_px * rng.uniform(2, 8)
    line_width_px = _FINER * np.exp(rng.uniform(np.log(0.7), np.log(6)))
    return _place(points, side_px, rng), float(line_width_px)


def _paint_rows(canvas: FloatArray, colour: FloatArray, rng: np.random.Generator) -> float:
    """Paints one small leaf or line many times over, at equal distances but for a little disorder.

    What tells a fence or a row of windows from rain is just that: the order.
    """
    radius_px = _FINER * np.exp(rng.uniform(np.log(1.5), np.log(12)))
    side_px = canvas.shape[0]
    is_line = rng.random() < 0.6
    points, line_width_px = (_draw_line if is_line else _draw_leaf)(radius_px, side_px, rng)
    line_width_px = min(line_width_px, radius_px / 2)
    # Along one direction across a line, or along two.
    spread = points - points.mean(axis=0)
    across = np.linalg.svd(spread, full_matrices=False)[2][::-1]  # the narrow direction first
    extent_px = (spread @ across.T).max(axis=0) - (spread @ across.T).min(axis=0) + line_width_px
    steps = across * (extent_px * rng.uniform(1.2, 3.0, 2))[:, None]
    counts = int(rng.integers(4, 20)), int(rng.integers(1, 6)) if rng.random() < 0.5 else 1
    disorder = rng.uniform(0, 0.25) if rng.random() < 0.5 else 0.0
    covered = 0.0
    for i in range(counts[0]):
        for j in range(counts[1]):
            moved = steps[0] * (i + rng.normal(0, disorder)) + steps[1] * (j + rng.normal(0, disorder))
            outline = np.asarray(points + moved, dtype=np.float32), line_width_px
            covered += _paint(canvas, outline, colour, False, rng)
    return covered


def _place(points: NDArray[np.float64], side_px: int, rng: np.random.Generator) -> FloatArray:
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray(points @ turn + rng.uniform(0, side_px, 2), dtype=np.float32)


def _paint(
    canvas: FloatArray, outline: Outline, colour: FloatArray, textured: bool, rng: np.random.Generator
) -> float:
    """Paints the outline's inside in place; about how many canvas pixels it covers."""
    points, line_width_px = outline
    corners = np.rint(points).astype(np.int32)
    margin_px = int(line_width_px) + 1
    x, y, width, height = cv2.boundingRect(corners)
    left, top = max(0, x - margin_px), max(0, y - margin_px)
    right, bottom = x + width + margin_px, y + height + margin_px
    box = canvas[top : max(0, bottom), left : max(0, right)]
    if not box.size:
        return 0.0
    corners -= (left, top)
    # The share of the outline's box that lies on the canvas.
    inside = box.shape[0] * box.shape[1] / ((width + 2 * margin_px) * (height + 2 * margin_px))
    if line_width_px:
        thickness_px = max(1, round(line_width_px))
        cv2.polylines(box, [corners], isClosed=False, color=colour.tolist(), thickness=thickness_px)
        return float(cv2.arcLength(corners, closed=False) * thickness_px * inside)
    # No one sees a texture on the smallest leaves, which are most of them.
    if max(box.shape) < _PLAIN_PX:
        cv2.fillPoly(box, [corners], colour.tolist())
        return float(cv2.contourArea(corners) * inside)
    mask = np.zeros(box.shape[:2], dtype=np.uint8)
    cv2.fillPoly(mask, [corners], 1)
    shade = _shade(mask.shape, rng)
    planes = [shade * channel for channel in colour]
    if textured:
        texture = _TEXTURES[rng.integers(len(_TEXTURES))](mask.shape, rng)
        contrast = np.float32(rng.uniform(0.02, 0.35))
        tint = rng.uniform(0.6, 1.0, 3).astype(np.float32)
        planes = [plane + contrast * t * texture for plane, t in zip(planes, tint, strict=True)]
    cv2.copyTo(cv2.merge(planes), mask, box)
    return float(cv2.countNonZero(mask))


def _along(shape: tuple[int, ...], angle: float) -> FloatArray:
    """How far each pixel lies from the middle in a direction, in canvas pixels."""
    height, width = shape
    x = np.arange(width, dtype=np.float32) - np.float32((width - 1) / 2)
    y = np.arange(height, dtype=np.float32) - np.float32((height - 1) / 2)
    along = (y * np.float32(np.sin(angle)))[:, None] + x * np.float32(np.cos(angle))
    return np.asarray(along, dtype=np.float32)


def _shade(shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """Light falling off across the leaf, around 1."""
    if rng.random() < 0.3:
        return np.ones(shape, dtype=np.float32)
    slope = np.float32(rng.normal(0, 0.5) / max(shape))
    shade = 1 + slope * _along(shape, rng.uniform(0, np.pi))
    return np.asarray(np.minimum(np.maximum(shade, 0.3), 1.7), dtype=np.float32)


# Textures, each (height, width) of about -1 to 1.


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """Blotches and grain: noise of two scales."""
    result = np.zeros(shape, dtype=np.float32)
    for _ in range(2):
        cell_px = np.exp(rng.uniform(np.log(2), np.log(24)))
        coarse = rng.normal(0, 0.5, [max(2, int(n / cell_px)) for n in shape]).astype(np.float32)
        result += cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return result


def _fibres(shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """Hair, grass, bark: noise drawn out in one direction."""
    length_px = int(rng.integers(8, 40)) * _FINER
    angle = rng.uniform(0, np.pi)
    reach = length_px // 2
    kernel = np.zeros((length_px | 1, length_px | 1), dtype=np.float32)
    tip = np.array([np.cos(angle), np.sin(angle)]) * reach
    start, end = (np.rint(reach + sign * tip).astype(int) for sign in (-1, 1))
    cv2.line(kernel, (int(start[0]), int(start[1])), (int(end[0]), int(end[1])), 1.0, _FINER)
    grain = rng.normal(0, 1, shape).astype(np.float32)
    drawn = cv2.filter2D(grain, cv2.CV_32F, kernel / kernel.sum())
    return np.asarray(drawn / (2 * drawn.std() + 1e-6), dtype=np.float32)


def _stripes(shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """Fences, blinds, corrugated roofs: a wave, smooth or sharp."""
    across = _along(shape, rng.uniform(0, np.pi))
    period_px = _FINER * np.exp(rng.uniform(np.log(3), np.log(24)))
    wave = np.sin(2 * np.pi / period_px * across)
    return np.asarray(np.tanh(wave * rng.uniform(0.5, 6)), dtype=np.float32)


def _bricks(shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """Masonry, windows, tiles: a grid of joints, each cell in a tone of its own."""
    angle = rng.uniform(0, np.pi)
    along, across = _along(shape, angle), _along(shape, angle + np.pi / 2)
    height_px = _FINER * np.exp(rng.uniform(np.log(4), np.log(20)))
    width_px = height_px * rng.uniform(1, 3)
    row = np.floor(across / height_px)
    offset = row % 2 * 0.5 if rng.random() < 0.5 else 0.0
    column = along / width_px + offset
    tone = np.sin(row * 12.9898 + np.floor(column) * 78.233) * rng.uniform(0, 0.5)
    joint_px = _FINER * rng.uniform(0.5, 2)
    at_joint = (across % height_px < joint_px) | (column % 1 * width_px < joint_px)
    return np.asarray(np.where(at_joint, rng.choice([-1.0, 1.0]), tone), dtype=np.float32)


_TEXTURES: tuple[Callable[[tuple[int, ...], np.random.Generator], FloatArray], ...] = (
    _noise,
    _fibres,
    _stripes,
    _bricks,
)


def _defocus(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    """One image in three is soft, and all have the camera's slight blur and grain."""
    sigma_px = rng.uniform(0.8, 2.5) if rng.random() < 0.3 else rng.uniform(0.2, 0.6)
    soft = cv2.GaussianBlur(image, (0, 0), sigma_px)
    grain = rng.normal(0, rng.uniform(0, 0.01), image.shape).astype(np.float32)
    return np.asarray(np.clip(soft + grain, 0, 1), dtype=np.float32)
