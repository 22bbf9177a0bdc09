"""Rain cut from images of rain on black, such as the rendered streaks of Garg and Nayar (2006)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from derain.arrays import FloatArray, Image, to_float
from derain.images.plain import read_image
from training.image_folder import list_images
from training.rain.streaks import Blend, compose
from training.seeding import Purpose, generator


@dataclass(frozen=True)
class TextureRain:
    """Rain layers of a folder: each pixel says how bright the rain is there, black is none.

    A layer is seen from a random distance, mirrored, made brighter or darker, and added or
    screened. Raises BackgroundError where the folder has no images, ImageError where one
    cannot be read.
    """

    name: str
    folder: Path
    zoom: tuple[float, float] = (0.5, 1.5)  # 2: one pixel of the texture covers 2 x 2
    gain: tuple[float, float] = (0.6, 1.4)
    screen_share: float = 0.5

    held_out: ClassVar[bool] = False

    def add(self, background: Image, seed: int, index: int) -> Image:
        """The background under rain number `index`, uint8 (H, W, 3)."""
        rng = generator(Purpose.TEXTURE, seed, index, 1)
        blend: Blend = "screen" if rng.random() < self.screen_share else "add"
        height, width = background.shape[:2]
        return compose(background, self.layer(height, width, seed, index), blend)

    def fall_on(self, frames: Sequence[Image], seed: int, index: int) -> list[Image]:
        """A clip in the rain, uint8 (H, W, 3) each: every frame has another part of one large layer."""
        rng = generator(Purpose.TEXTURE, seed, index, 1)
        blend: Blend = "screen" if rng.random() < self.screen_share else "add"
        height, width = frames[0].shape[:2]
        canvas = self.layer(2 * height, 2 * width, seed, index)
        corners = rng.integers((height + 1, width + 1), size=(len(frames), 2))
        return [
            compose(frame, canvas[top : top + height, left : left + width], blend)
            for frame, (top, left) in zip(frames, corners, strict=True)
        ]

    def layer(self, height: int, width: int, seed: int, index: int) -> FloatArray:
        """A cut-out of one texture, float32 (height, width) from 0 to 1."""
        rng = generator(Purpose.TEXTURE, seed, index)
        textures = _load(self.folder)
        texture = textures[rng.integers(len(textures))]
        # No texture is too small: it is enlarged as far as it takes to fill the canvas.
        fills = max(height / texture.shape[0], width / texture.shape[1])
        zoom = max(fills, np.exp(rng.uniform(*np.log(self.zoom))))
        rows = max(1, min(texture.shape[0], round(height / zoom)))
        columns = max(1, min(texture.shape[1], round(width / zoom)))
        top = int(rng.integers(texture.shape[0] - rows + 1))
        left = int(rng.integers(texture.shape[1] - columns + 1))
        window = texture[top : top + rows, left : left + columns]
        if rng.random() < 0.5:
            window = window[:, ::-1]
        method = cv2.INTER_LINEAR if zoom > 1 else cv2.INTER_AREA
        drawn = cv2.resize(to_float(window), (width, height), interpolation=method)
        return np.asarray(np.clip(drawn * rng.uniform(*self.gain), 0, 1), dtype=np.float32)


@cache
def _load(folder: Path) -> list[NDArray[np.uint8]]:
    """The textures of a folder, grey, uint8 (H, W) each."""
    images = [read_image(path) for path in list_images(folder)]
    return [np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8) for image in images]
