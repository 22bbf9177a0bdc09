"""Rain of other people's augmentation libraries, kept for evaluation.

The libraries are no part of the training environment: `pip install 'derain[evaluation]'` brings a second
OpenCV, so it needs an environment of its own. The randomness is not of a Purpose, for the reason that
`training.rain.drawn.draw_streaks` gives.
"""

import os
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from derain.arrays import Image
from derain.errors import DerainError


class MissingLibraryError(DerainError):
    """A rain family whose library is not installed."""


_SMALLEST_PX = 64


@dataclass(frozen=True)
class Albumentations:
    """`RandomRain` of albumentations 2: opaque lines of one length, slant and colour, all blurred."""

    name: str = "albumentations"
    drop_length_px: tuple[int, int] = (8, 40)
    drop_width_px: tuple[int, int] = (1, 2)
    slant_deg: float = 20  # to either side

    held_out: ClassVar[bool] = True

    def add(self, background: Image, seed: int, index: int) -> Image:
        """The background under rain number `index`, uint8 (H, W, 3)."""
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or it asks the network for a newer one
        library = _load("albumentations")
        rng = np.random.default_rng([seed, index])
        slant_deg = float(rng.uniform(-self.slant_deg, self.slant_deg))
        shade = int(rng.integers(150, 230))
        rain = library.RandomRain(
            slant_range=(slant_deg, slant_deg),
            drop_length=int(rng.integers(self.drop_length_px[0], self.drop_length_px[1] + 1)),
            drop_width=int(rng.integers(self.drop_width_px[0], self.drop_width_px[1] + 1)),
            drop_color=(shade, shade, shade),
            blur_value=3,
            brightness_coefficient=1.0,  # rain alone: the picture is not darkened as well
            rain_type=str(rng.choice(["drizzle", "default", "heavy", "torrential"])),
            p=1,
        )
        # It fails on pictures smaller than its drops.
        height, width = background.shape[:2]
        missing = [(0, max(0, _SMALLEST_PX - side)) for side in (height, width)]
        padded = np.pad(background, [*missing, (0, 0)], mode="edge")
        rainy = library.Compose([rain], seed=int(rng.integers(2**31)))(image=padded)["image"]
        return np.asarray(rainy[:height, :width], dtype=np.uint8)


@dataclass(frozen=True)
class Imgaug:
    """`Rain` of imgaug, whose maintained package is `imaug`: blurred noise, moved, over the picture."""

    name: str = "imgaug"
    drop_size: tuple[float, float] = (0.01, 0.06)
    speed: tuple[float, float] = (0.05, 0.3)

    held_out: ClassVar[bool] = True

    def add(self, background: Image, seed: int, index: int) -> Image:
        """The background under rain number `index`, uint8 (H, W, 3)."""
        augmenters = _load("imgaug").augmenters
        rng = np.random.default_rng([seed, index])
        rain = augmenters.Rain(drop_size=self.drop_size, speed=self.speed, seed=int(rng.integers(2**31)))
        return np.asarray(rain(image=background), dtype=np.uint8)


def _load(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingLibraryError(
            f"this rain needs the library {name} ({error}): install it with "
            "pip install 'derain[evaluation]', which brings a second OpenCV, into an environment of its own"
        ) from error
