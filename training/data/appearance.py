"""Scenes that are pale or dark of themselves: other light, mist that is there without the rain, and night.

A veil of rain lifts what is dark. To a network that has seen few scenes, so does every pale one: it takes
away brightness that is the scene's. Where scenes come in every tone, what is left to know a veil by
is the rain itself.


What a camera does to an image after the rain has fallen: noise, and JPEG.

Photographs come with both. Rainy and clean get the same, noise included, so a network learns to see
rain through them and neither to smooth nor to sharpen what is not rain.


Rain at other scales: a telephone's photograph has the same streaks as a small one, many pixels wide.

An image is drawn small and enlarged after the rain, or drawn large and reduced, rainy and clean alike.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from derain.arrays import FloatArray, Image, to_float, to_uint8
from training.rain.varied import draw_gusts
from training.seeding import Purpose, generator

_GAMMA = 1.6  # its power at most, or its inverse
_MIST_SHARE = 0.6  # of the images
_MIST = 0.45  # how much of the scene it hides, at most
_MIST_LEVEL = (0.4, 1.0)
_EVEN_SHARE = 0.5  # of the mists: as thick everywhere
_NIGHT_SHARE = 0.2  # of the images: dark, with lamps
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
        radius_px = np.exp(rng.uniform(np.log(1.0), np.log(max(1.0, 0.12 * max(height, width)))))
        top, left = rng.uniform(0, height), rng.uniform(0, width)
        colour = np.clip(np.array([1.0, 0.8, 0.55]) + rng.normal(0, 0.25, 3), 0.05, 1).astype(np.float32)
        is_mirrored = rng.random() < 0.25  # and drawn out downwards
        stretch = np.float32(rng.uniform(3, 12) if is_mirrored else 1)
        distance = np.square((y - np.float32(top)) / stretch) + np.square(x - np.float32(left))
        distance /= np.float32(radius_px**2)
        glow = np.exp(-distance / 2) + 0.25 / (1 + distance)
        dark = dark + np.float32(rng.uniform(0.2, 1.2)) * glow[..., None] * colour
    return np.asarray(np.minimum(dark, 1), dtype=np.float32)


NOISE = 0.02  # largest standard deviation, 1 is white
JPEG_QUALITY = (50, 98)
JPEG_SHARE = 0.7  # of the images; noise has the same share, so most have one or both
NOISE_SHARE = 0.5


def photograph(scenes: Sequence[Image], seed: int, index: int) -> list[Image]:
    """Each scene as camera number `index` takes it, uint8 (H, W, 3), all with the same noise."""
    rng = generator(Purpose.CAMERA, seed, index)
    noise = np.zeros(1, dtype=np.float32)
    if rng.random() < NOISE_SHARE:
        deviation = rng.uniform(0, NOISE)
        noise = rng.standard_normal(scenes[0].shape, dtype=np.float32) * np.float32(deviation)
    taken = [to_uint8(to_float(scene) + noise) for scene in scenes]
    if rng.random() < JPEG_SHARE:
        quality = int(rng.integers(JPEG_QUALITY[0], JPEG_QUALITY[1] + 1))
        taken = [through_jpeg(image, quality) for image in taken]
    return taken


def through_jpeg(image: Image, quality: int) -> Image:
    """Saved at a quality of 1 to 100, and read again."""
    # As BGR: OpenCV's order decides what it takes for luma.
    done, coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done, "OpenCV encodes any 8-bit image"
    decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.asarray(decoded[..., ::-1], dtype=np.uint8)


LARGEST, SMALLEST = 4.0, 0.6  # of what an image is enlarged by, drawn log-uniformly


def draw_scale(share_enlarged: float, share_reduced: float, seed: int, index: int) -> float:
    """What image number `index` is enlarged by after the rain; 1 for most."""
    rng = generator(Purpose.SCALE, seed, index)
    kind, size = rng.random(2)
    if kind < share_enlarged:
        return float(LARGEST**size)
    if kind < share_enlarged + share_reduced:
        return float(SMALLEST**size)
    return 1.0


def resized(image: Image, side_px: int) -> Image:
    """A square of that side, uint8 (side, side, 3)."""
    if image.shape[0] == side_px:
        return image
    method = cv2.INTER_AREA if image.shape[0] > side_px else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (side_px, side_px), interpolation=method), dtype=np.uint8)
