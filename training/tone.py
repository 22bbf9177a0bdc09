"""Scenes that are pale or dark of themselves: other light, and mist that is there without the rain.

A veil of rain lifts what is dark. To a network that has seen few scenes, so does every pale one: it takes
away brightness that is the scene's. Where scenes come in every tone, what is left to know a veil by
is the rain itself.
"""

import numpy as np

from derain.arrays import Picture, fraction, quantise
from training.rain.varied import draw_gusts
from training.randomness import Purpose, generator

_GAMMA = 1.6  # its power at most, or its inverse
_MIST_SHARE = 0.6  # of the pictures
_MIST = 0.45  # how much of the scene it hides, at most
_MIST_LEVEL = (0.4, 1.0)
_EVEN_SHARE = 0.5  # of the mists: as thick everywhere
_BANK_PX = (150, 900)  # the others are thicker here than there, over so many pixels


def tone(background: Picture, seed: int, index: int) -> Picture:
    """The background in light and mist number `index`, uint8 (H, W, 3)."""
    rng = generator(Purpose.TONE, seed, index)
    scene = fraction(background) ** np.float32(_GAMMA ** rng.uniform(-1, 1))
    if rng.random() < _MIST_SHARE:
        height, width = background.shape[:2]
        hidden = np.full((height, width), rng.uniform(0, _MIST), dtype=np.float32)
        if rng.random() >= _EVEN_SHARE:
            hidden *= draw_gusts(height, width, rng.uniform(*_BANK_PX), rng)
        mist = (rng.uniform(*_MIST_LEVEL) + rng.normal(0, 0.02, 3)).astype(np.float32)
        scene = scene * (1 - hidden[..., None]) + mist * hidden[..., None]
    return quantise(scene)
