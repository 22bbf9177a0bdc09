"""Clean backgrounds from photographs: a folder of them, and patches cut from one.

The paper's second lever is to keep backgrounds simpler than the rain: few images, of simple content.
"""

from pathlib import Path

import cv2
import numpy as np

from derain.arrays import Image
from derain.images.plain import read_image
from training.data.resize import shrink
from training.image_folder import BackgroundError, list_images, subset

# Larger images are shrunk to it when they are read. `cut_patch` sees three patch sides at most: of a
# photograph as it leaves a camera that is smooth sky or wall, never a whole leaf, and a thousand of them
# would not fit into memory.
LONGEST_PX = 1024


def load_folder(folder: Path, count: int | None, seed: int, smallest_px: int = 1) -> list[Image]:
    """Images of a folder, not of its subfolders; `count` and `seed` choose, as in `subset`.

    Their longest side is LONGEST_PX at most. Raises BackgroundError for an image with a side
    below `smallest_px`.
    """
    chosen = subset(list_images(folder), count, seed)
    images = {path: shrink(read_image(path), LONGEST_PX) for path in chosen}
    for path, image in images.items():
        height, width = image.shape[:2]
        if min(height, width) < smallest_px:
            raise BackgroundError(
                f"{path} is {width} x {height} pixels: too small, {smallest_px} a side is the least "
                f"once the longest is {LONGEST_PX} or below"
            )
    return list(images.values())


def cut_patch(image: Image, size_px: int, rng: np.random.Generator) -> Image:
    """A square patch, seen from a random distance, turned, mirrored and relit.

    The distance matters: large photographs are smooth at their own resolution, and the
    images that a network meets mostly are not.
    """
    shorter_px = min(image.shape[:2])
    # An image smaller than the patch is enlarged, the others are shrunk by up to 3.
    most_px = max(size_px, min(shorter_px, 3 * size_px))
    window_px = min(shorter_px, max(size_px, int(np.exp(rng.uniform(np.log(size_px), np.log(most_px))))))
    top, left = (int(rng.integers(0, side - window_px + 1)) for side in image.shape[:2])
    window = image[top : top + window_px, left : left + window_px]
    if window_px != size_px:
        method = cv2.INTER_AREA if window_px > size_px else cv2.INTER_CUBIC
        window = np.asarray(cv2.resize(window, (size_px, size_px), interpolation=method), dtype=np.uint8)
    window = np.rot90(window, int(rng.integers(4)))
    if rng.random() < 0.5:
        window = window[:, ::-1]
    return relight(window, rng)


def relight(image: Image, rng: np.random.Generator) -> Image:
    """Another exposure, contrast and white balance, one time in two."""
    if rng.random() < 0.5:
        return np.ascontiguousarray(image)
    gamma = np.exp(rng.uniform(-0.4, 0.4))
    gain = rng.uniform(0.7, 1.1) * rng.uniform(0.9, 1.1, 3)
    levels = np.linspace(0, 1, 256)[:, None] ** gamma * gain  # (256, 3)
    table = np.rint(np.clip(levels, 0, 1) * 255).astype(np.uint8)
    return np.stack([table[image[..., c], c] for c in range(3)], axis=-1)
