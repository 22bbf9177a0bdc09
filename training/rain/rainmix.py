"""RainMix: one rain layer, bent in several ways and mixed (Guo et al., EfficientDerain, AAAI 2021)."""

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from derain.arrays import FloatArray, Image
from training.rain.streaks import RainRange, compose
from training.rain.textures import TextureRain
from training.randomness import Purpose, generator

Affine = NDArray[np.float64]  # (3, 3), acts on (x, y, 1)


@dataclass(frozen=True)
class RainMix:
    """Layers of another family, each mixed from itself and warped copies of itself, then screened.

    A chain of random warps makes a copy; the copies are mixed in random shares, and the mix
    with the layer itself. What comes out is rain of shapes that its source does not draw.
    """

    name: str
    source: RainRange | TextureRain
    chains: int = 3
    warps: tuple[int, int] = (2, 3)  # in a chain
    rotation_deg: float = 30
    shear: float = 0.3
    shift_share: float = 0.33  # of the canvas
    zoom: tuple[float, float] = (0.6, 1.6)

    held_out: ClassVar[bool] = False

    def add(self, background: Image, seed: int, index: int) -> Image:
        """The background under rain number `index`, uint8 (H, W, 3)."""
        height, width = background.shape[:2]
        return compose(background, self.layer(height, width, seed, index), "screen")

    def layer(self, height: int, width: int, seed: int, index: int) -> FloatArray:
        """The mixed rain, float32 (height, width) from 0 to 1."""
        rng = generator(Purpose.RAINMIX, seed, index)
        layer = self.source.layer(height, width, seed, index)
        shares = rng.dirichlet(np.ones(self.chains))
        mixed = np.zeros_like(layer)
        for share in shares:
            warp = self._chain(height, width, rng)
            warped = cv2.warpAffine(layer, warp[:2], (width, height), borderMode=cv2.BORDER_REFLECT_101)
            mixed += np.float32(share / shares.max()) * warped  # mixing does not wash the rain out
        kept = np.float32(rng.beta(1, 1))
        return np.asarray(np.clip(kept * layer + (1 - kept) * mixed, 0, 1), dtype=np.float32)

    def _chain(self, height: int, width: int, rng: np.random.Generator) -> Affine:
        """A few random warps about the middle of the canvas, one after the other."""
        middle = _shift(width / 2, height / 2)
        chain: Affine = np.eye(3)
        for _ in range(rng.integers(self.warps[0], self.warps[1] + 1)):
            chain = self._warp(height, width, rng) @ chain
        return np.asarray(middle @ chain @ np.linalg.inv(middle), dtype=np.float64)

    def _warp(self, height: int, width: int, rng: np.random.Generator) -> Affine:
        amount, along_x = rng.uniform(-1, 1), rng.random() < 0.5
        match rng.choice(["rotate", "shear", "shift", "zoom"]):
            case "rotate":
                angle = np.deg2rad(amount * self.rotation_deg)
                cosine, sine = np.cos(angle), np.sin(angle)
                return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
            case "shear":
                slant = amount * self.shear
                return np.array([[1, slant * along_x, 0], [slant * (not along_x), 1, 0], [0, 0, 1]])
            case "shift":
                amount *= self.shift_share
                return _shift(amount * width * along_x, amount * height * (not along_x))
            case _:
                zoom = np.exp(rng.uniform(*np.log(self.zoom)))
                return np.diag([zoom if along_x else 1, 1 if along_x else zoom, 1])


def _shift(x_px: float, y_px: float) -> Affine:
    return np.array([[1, 0, x_px], [0, 1, y_px], [0, 0, 1]], dtype=np.float64)
