"""Clips without rain, drawn from stills: a camera that stands, pans, zooms and shakes, and things that move.

A scene is a photograph or dead leaves, with pieces of others in front of it. Pieces are nearer, so that they
move faster than the background when the camera does (parallax), and half of them move of themselves as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from derain.arrays import Image
from training.seeding import Purpose, generator


@dataclass(frozen=True)
class Motion:
    """The ranges that movements are drawn from; pixels and degrees are those from frame to frame."""

    fixed_share: float = 0.4  # of clips whose camera stands
    pan_px: float = 12.0  # at most, to any side
    zoom: float = 0.015  # the scale changes by this share at most
    turn_deg: float = 0.6
    shake_px: float = 0.7  # standard deviation
    pieces: int = 3  # in front of the background, at most
    parallax: tuple[float, float] = (1.1, 2.5)  # how much faster than the background a piece moves
    own_px: float = 10.0  # by which a piece moves of itself, at most
    noise_levels: float = 2.5  # of the camera, standard deviation at most; half of the clips have none


FIXED = Motion(fixed_share=1.0)
MOVING = Motion(fixed_share=0.0)


@dataclass(frozen=True)
class _Movement:
    """From frame to frame."""

    step_px: NDArray[np.float64]  # x and y
    zoom: float  # by which the scale grows
    turn_deg: float


@dataclass(frozen=True)
class _Course:
    """Where a layer is seen in each frame."""

    start_px: NDArray[np.float64]  # the place of the view's centre, x and y, in the middle of the clip
    scale: float  # pixels of the layer that one of the view covers, likewise
    movement: _Movement

    def view(
        self, layer: NDArray[np.float32], side_px: int, time: float, shake_px: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """A square of it, at a time in frames from the middle of the clip."""
        movement = self.movement
        scale = self.scale * float(np.exp(movement.zoom * time))
        angle = np.deg2rad(movement.turn_deg * time)
        turned = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        centre = self.start_px + (movement.step_px * time + shake_px) * self.scale
        to_layer = np.column_stack([turned, centre - turned @ np.full(2, (side_px - 1) / 2)])
        seen = cv2.warpAffine(
            layer,
            to_layer,
            (side_px, side_px),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        return np.asarray(seen, dtype=np.float32)


def draw_clip(
    stills: Sequence[Image], motion: Motion, frames: int, side_px: int, seed: int, index: int
) -> list[Image]:
    """Clip `index`: squares, uint8 (side, side, 3), a function of (seed, index) and the stills."""
    rng = generator(Purpose.MOTION, seed, index)
    is_fixed = rng.random() < motion.fixed_share
    camera = np.zeros(2) if is_fixed else _to_any_side(rng, motion.pan_px)
    zoom, turn_deg = (0.0, 0.0) if is_fixed else rng.uniform(-1, 1, 2) * (motion.zoom, motion.turn_deg)
    layers = [_background(stills, side_px, _Movement(camera, zoom, turn_deg), rng)]
    for _ in range(int(rng.integers(motion.pieces + 1))):
        step_px = camera * rng.uniform(*motion.parallax)
        if rng.random() < 0.5:
            step_px = step_px + _to_any_side(rng, motion.own_px)
        layers.append(_piece(stills, side_px, _Movement(step_px, zoom, turn_deg), rng))
    shaken_px = 0.0 if is_fixed else motion.shake_px * (rng.random() < 0.5)
    noise = rng.uniform(0, motion.noise_levels) * (rng.random() < 0.5)
    drawn = []
    for time in np.arange(frames) - (frames - 1) / 2:
        shake_px = rng.normal(0, shaken_px, 2)
        scene = _seen(layers, side_px, float(time), shake_px)
        if noise:
            scene = scene + rng.normal(0, noise, scene.shape).astype(np.float32)
        drawn.append(np.rint(np.clip(scene, 0, 255)).astype(np.uint8))
    return drawn


_Layer = tuple[NDArray[np.float32], _Course]  # (H, W, 3), or (H, W, 4) with how much it hides


def _seen(
    layers: Sequence[_Layer], side_px: int, time: float, shake_px: NDArray[np.float64]
) -> NDArray[np.float32]:
    (background, course), *pieces = layers
    scene = course.view(background, side_px, time, shake_px)
    for piece, course in pieces:
        seen = course.view(piece, side_px, time, shake_px)
        hidden = seen[..., 3:]
        scene = scene * (1 - hidden) + seen[..., :3] * hidden
    return scene


def _background(
    stills: Sequence[Image], side_px: int, movement: _Movement, rng: np.random.Generator
) -> _Layer:
    still = stills[int(rng.integers(len(stills)))]
    shorter_px = min(still.shape[:2])
    scale = float(np.exp(rng.uniform(np.log(0.7), np.log(max(0.8, min(3.0, shorter_px / side_px))))))
    layer = _filtered(still, scale)
    half_px = side_px * scale / 2
    start_px = np.array([_between(half_px, side - half_px, rng) for side in still.shape[1::-1]])
    return layer, _Course(start_px, scale, movement)


def _piece(stills: Sequence[Image], side_px: int, movement: _Movement, rng: np.random.Generator) -> _Layer:
    """A blob of a still, soft at its border, somewhere in view in the middle of the clip."""
    still = stills[int(rng.integers(len(stills)))]
    wide_px = min(int(side_px * rng.uniform(0.15, 0.6)), min(still.shape[:2]))
    top, left = (int(rng.integers(side - wide_px + 1)) for side in still.shape[:2])
    cut = still[top : top + wide_px, left : left + wide_px].astype(np.float32)
    margin_px = 3 * side_px  # nothing, so that what is reflected beyond the border is nothing either
    layer = np.zeros((wide_px + 2 * margin_px, wide_px + 2 * margin_px, 4), np.float32)
    inside = slice(margin_px, margin_px + wide_px)
    layer[inside, inside, :3] = cut
    layer[inside, inside, 3] = _blob(wide_px, rng)
    start_px = margin_px + wide_px / 2 + rng.uniform(-0.5, 0.5, 2) * side_px
    return layer, _Course(start_px, 1.0, movement)


def _blob(side_px: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """How much a piece hides, float32 (side, side) from 0 to 1: a polygon with random corners."""
    corners = int(rng.integers(4, 12))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    reach = rng.uniform(0.25, 0.48, corners) * side_px
    points = side_px / 2 + reach[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])
    mask = np.zeros((side_px, side_px), np.float32)
    cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 1.0, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.5, 1.5)), dtype=np.float32)


def _filtered(still: Image, scale: float) -> NDArray[np.float32]:
    """Without what would alias where one pixel of the view covers `scale` of the still."""
    layer = still.astype(np.float32)
    return np.asarray(cv2.GaussianBlur(layer, (0, 0), 0.35 * scale), np.float32) if scale > 1 else layer


def _between(lowest: float, highest: float, rng: np.random.Generator) -> float:
    return float(rng.uniform(lowest, highest)) if lowest < highest else (lowest + highest) / 2


def _to_any_side(rng: np.random.Generator, most_px: float) -> NDArray[np.float64]:
    """A step, x and y, of up to so many pixels."""
    angle = rng.uniform(0, 2 * np.pi)
    return rng.uniform(0, most_px) * np.array([np.cos(angle), np.sin(angle)])
