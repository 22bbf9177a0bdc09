"""What a camera does to a picture after the rain has fallen: noise, and JPEG.

Photographs come with both. Rainy and clean get the same, noise included, so a network learns to see
rain through them and neither to smooth nor to sharpen what is not rain.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from derain.arrays import Image, to_float, to_uint8
from training.randomness import Purpose, generator

NOISE = 0.02  # largest standard deviation, 1 is white
JPEG_QUALITY = (50, 98)
JPEG_SHARE = 0.7  # of the pictures; noise has the same share, so most have one or both
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
        taken = [through_jpeg(picture, quality) for picture in taken]
    return taken


def through_jpeg(picture: Image, quality: int) -> Image:
    """Saved at a quality of 1 to 100, and read again."""
    # As BGR: OpenCV's order decides what it takes for luma.
    done, coded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done, "OpenCV encodes any 8-bit picture"
    decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.asarray(decoded[..., ::-1], dtype=np.uint8)
