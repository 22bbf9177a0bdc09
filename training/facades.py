"""Façades, blinds, louvres, gratings: many bright parallel edges that are no rain.

They fill a picture as rain does, lean one way as rain does, and cannot be told from it by a few pixels. What
tells them is that they are evenly apart, or come closer evenly as they go away; that they run on; and that
the darker between them has edges of its own.
"""

import cv2
import numpy as np

from derain.arrays import FloatArray, Image, to_float, to_uint8
from training.randomness import Purpose, generator

_FINE = 2  # drawn so many times larger each way and then averaged, against aliasing
_PERIOD_PX = (3.0, 60.0)  # of what repeats, where the picture's middle is
_FIELDS, _BARS = 4096, 512  # how many differ from each other, before their levels and colours come again
_TURNS = 0.5  # of a period: how far a line's place strays at most, where they are not laid evenly


def draw_facade(background: Image, seed: int, index: int) -> Image:
    """Façade number `index` before the background, or all over it, uint8 (H, W, 3)."""
    rng = generator(Purpose.FACADE, seed, index)
    height, width = background.shape[:2]
    u, v = _plane(height * _FINE, width * _FINE, rng)
    surface = _lay(u, v, rng)
    surface = np.asarray(cv2.resize(surface, (width, height), interpolation=cv2.INTER_AREA), dtype=np.float32)
    scene = to_float(background)
    if rng.random() < 0.5:  # weathered, and in the scene's light
        surface = surface * (1 + rng.uniform(0.1, 0.5) * (scene.mean(axis=2, keepdims=True) - 0.5))
    covered = _extent(height, width, rng)
    return to_uint8(np.clip(surface * covered + scene * (1 - covered), 0, 1))


def _plane(height: int, width: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Where each pixel lies on what is seen, in periods: flat and seen askance, or bent."""
    side = max(height, width)
    y, x = _places(height, width)
    x = (x - np.float32(rng.uniform(0, width))) / np.float32(side)
    y = (y - np.float32(rng.uniform(0, height))) / np.float32(side)
    # Upright as often as not, like most that is built.
    angle = rng.normal(0, 0.15) + rng.integers(2) * np.pi / 2 if rng.random() < 0.5 else rng.uniform(0, np.pi)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    if rng.random() < 0.6:
        # It goes away: distance in a plane is a fraction of linear functions of the picture's places.
        tilt = rng.uniform(-0.8, 0.8, 2)
        away = np.maximum(1 + tilt[0] * along + tilt[1] * across, 0.25)
        along, across = along / away, across / away
        across = across + rng.normal(0, 0.4) * along  # what is at right angles is not seen so
    bend = rng.random()
    if bend < 0.15:
        across = across + rng.uniform(0.02, 0.2) * np.sin(along * rng.uniform(2, 12))
    elif bend < 0.3:
        # Round a point: domes, tunnels, stairs.
        ahead, aside = along - rng.uniform(-1, 1), across - rng.uniform(-1, 1)
        along, across = np.arctan2(ahead, aside) / np.pi, np.sqrt(ahead**2 + aside**2)
    shortest, longest = np.log(_PERIOD_PX)
    periods_px = np.exp(rng.uniform(shortest, longest, 2)) * _FINE
    return along * side / periods_px[0], across * side / periods_px[1]


def _lay(u: FloatArray, v: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Slats one way, or lines both ways, or a field between each two of both."""
    dark, bright = _two_colours(rng)
    kind = rng.choice(["slats", "lattice", "windows"], p=[0.5, 0.2, 0.3])
    slat = _slats(v, rng)
    if kind == "slats":
        if rng.random() < 0.4:  # interrupted
            slat = slat * np.maximum(_slats(u / rng.uniform(2, 12), rng), rng.uniform(0, 0.7))
        laid = slat
    elif kind == "lattice":
        laid = np.maximum(slat, _slats(u, rng))
    else:
        rows, columns = np.floor(v).astype(np.int64), np.floor(u).astype(np.int64)
        each = rng.random(_FIELDS, dtype=np.float32)[(rows * 61 + columns * 17) % _FIELDS]
        inside = np.minimum(1 - slat, 1 - _slats(u, rng))
        laid = 1 - inside * (1 - rng.uniform(0.2, 1) * each)
        if rng.random() < 0.5:
            laid = 1 - laid
    shade = 1 + rng.uniform(0, 0.5) * np.tanh(
        u / np.abs(u).max() * rng.normal() + v / np.abs(v).max() * rng.normal()
    )
    coloured = dark + (bright - dark) * laid[..., None]
    if kind == "slats" and rng.random() < 0.2:  # each of its own colour
        hues = rng.random((_BARS, 3), dtype=np.float32)[np.floor(v).astype(np.int64) % _BARS]
        coloured = coloured * (1 - 0.8 * laid[..., None]) + 0.8 * laid[..., None] * hues
    return np.asarray(coloured * shade[..., None], dtype=np.float32)


def _slats(t: FloatArray, rng: np.random.Generator) -> FloatArray:
    """How bright it is at a place, in periods, 0 to 1: a bar a period, flat or rounded or lit from a side."""
    number = np.floor(t).astype(np.int64)
    if rng.random() < 0.3:
        t = t + rng.uniform(0, _TURNS) * (rng.random(_BARS, dtype=np.float32)[number % _BARS] - 0.5)
    phase = t - np.floor(t)
    share = rng.uniform(0.12, 0.85)
    soft = rng.uniform(0.01, 0.3)
    edge = np.clip((share / 2 - np.abs(phase - 0.5)) / (soft * share) + 0.5, 0, 1)
    lit = 1 + rng.uniform(-0.8, 0.8) * (phase - 0.5) / share
    fade = rng.uniform(0, 0.6)
    level = 1 - fade * rng.random(_BARS, dtype=np.float32)[number % _BARS] if rng.random() < 0.5 else 1
    return np.asarray(np.clip(edge * lit * level, 0, 1), dtype=np.float32)


def _two_colours(rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Of the ground and of what stands out, brighter mostly."""
    tint = rng.normal(0, rng.choice([0.0, 0.03, 0.12]), 3)
    dark = np.clip(rng.uniform(0, 0.5) + tint, 0, 1)
    bright = np.clip(dark + rng.uniform(0.15, 0.9) + rng.normal(0, rng.choice([0.0, 0.03, 0.1]), 3), 0, 1)
    pair = dark.astype(np.float32), bright.astype(np.float32)
    return pair if rng.random() < 0.8 else pair[::-1]


def _extent(height: int, width: int, rng: np.random.Generator) -> FloatArray:
    """Where it is seen, (H, W, 1): all over, or to one side of an edge or two."""
    covered = np.ones((height, width), dtype=np.float32)
    y, x = _places(height, width)
    for _ in range(rng.choice([0, 1, 2], p=[0.5, 0.35, 0.15])):
        angle = rng.uniform(0, 2 * np.pi)
        across, down = x - rng.uniform(0.1, 0.9) * width, y - rng.uniform(0.1, 0.9) * height
        away = across * np.cos(angle) + down * np.sin(angle)
        covered *= np.clip(away + 0.5, 0, 1)
    return covered[..., None]


def _places(height: int, width: int) -> tuple[FloatArray, FloatArray]:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return y, x
