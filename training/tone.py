"""Scenes that are pale or dark of themselves: other light, mist that is there without the rain, and night.

A veil of rain lifts what is dark. To a network that has seen few scenes, so does every pale one: it takes
away brightness that is the scene's. Where scenes come in every tone, what is left to know a veil by
is the rain itself.
"""

import numpy as np

from derain.arrays import FloatArray, Image, to_float, to_uint8
from training.rain.varied import draw_gusts
from training.randomness import Purpose, generator

_GAMMA = 1.6  # its power at most, or its inverse
_MIST_SHARE = 0.6  # of the pictures
_MIST = 0.45  # how much of the scene it hides, at most
_MIST_LEVEL = (0.4, 1.0)
_EVEN_SHARE = 0.5  # of the mists: as thick everywhere
_NIGHT_SHARE = 0.2  # of the pictures: dark, with lamps
_BANK_PX = (150, 900)  # the others are thicker here than there, over so many pixels


def tone(background: Image, seed: int, index: int) -> Image:
    """The background in light and mist number `index`, uint8 (H, W, 3)."""
    rng = generator(Purpose.TONE, seed, index)
    if rng.random() < _NIGHT_SHARE:
        return to_uint8(_night(to_float(background), rng))
    scene = to_float(background) ** np.float32(_GAMMA ** rng.uniform(-1, 1))
    if rng.random() < _MIST_SHARE:
        height, width = background.shape[:2]
        hidden = np.full((height, width), rng.uniform(0, _MIST), dtype=np.float32)
        if rng.random() >= _EVEN_SHARE:
            hidden *= draw_gusts(height, width, rng.uniform(*_BANK_PX), rng)
        mist = (rng.uniform(*_MIST_LEVEL) + rng.normal(0, 0.02, 3)).astype(np.float32)
        scene = scene * (1 - hidden[..., None]) + mist * hidden[..., None]
    return to_uint8(scene)


def _night(scene: FloatArray, rng: np.random.Generator) -> FloatArray:
    """The scene by little light, (H, W, 3), and lamps in it, some of which the wet ground mirrors."""
    dark = scene ** np.float32(rng.uniform(1.2, 2.4)) * np.float32(rng.uniform(0.25, 0.9))
    height, width = scene.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for _ in range(rng.integers(0, 9)):
        radius_px = np.exp(rng.uniform(np.log(1.0), np.log(0.12 * max(height, width))))
        top, left = rng.uniform(0, height), rng.uniform(0, width)
        colour = np.clip(np.array([1.0, 0.8, 0.55]) + rng.normal(0, 0.25, 3), 0.05, 1).astype(np.float32)
        is_mirrored = rng.random() < 0.25  # and drawn out downwards
        stretch = np.float32(rng.uniform(3, 12) if is_mirrored else 1)
        distance = np.square((y - np.float32(top)) / stretch) + np.square(x - np.float32(left))
        distance /= np.float32(radius_px**2)
        glow = np.exp(-distance / 2) + 0.25 / (1 + distance)
        dark = dark + np.float32(rng.uniform(0.2, 1.2)) * glow[..., None] * colour
    return np.asarray(np.minimum(dark, 1), dtype=np.float32)
