"""Makes the images that the page offers to try: free photographs under rain that this code draws.

    python scripts/examples.py seeding_by_Clements_Engelhardt.jpg

The photograph named is in Debian's package lomiri-wallpapers-20.04, in /usr/share/backgrounds; the others are
here. After a change, and for a new model, look at each result at 100 %: `derain examples/*.jpg -o out/`.
"""

import io
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as PilImage
from PIL import ImageOps

from derain.arrays import Image
from training.rain.drawn import DRIZZLE, SHOWER, DrawnRain

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
PHOTOGRAPHS = ROOT / "training/photographs"

SMALL_PX = (320, 200)  # of what is shown before one is chosen
MAX_BYTES = 780_000  # they are in the wheel


@dataclass(frozen=True)
class Example:
    name: str
    photograph: Path
    rain: DrawnRain
    seed: int
    width_px: int | None = None  # None: as large as the photograph
    rain_scale: int = 1  # the rain is drawn so much smaller, and enlarged: near streaks of a large image


def main(meadow: Path) -> None:
    for example in (
        Example("gate", PHOTOGRAPHS / "train/brandenburgGate.jpg", SHOWER, seed=1),
        Example("meadow", meadow, DRIZZLE, seed=4, width_px=4620, rain_scale=3),
        Example("night", PHOTOGRAPHS / "heldout/skimage_rocket.jpg", DRIZZLE, seed=4),
    ):
        rainy = PilImage.fromarray(rained_on(example))
        (EXAMPLES / f"{example.name}.jpg").write_bytes(jpeg(rainy))
        ImageOps.fit(rainy, SMALL_PX).save(EXAMPLES / f"{example.name}-small.jpg", quality=85)
        print(f"{example.name}.jpg: {rainy.width} x {rainy.height}")


def rained_on(example: Example) -> Image:
    """The photograph in the rain, uint8 (H, W, 3)."""
    with PilImage.open(example.photograph) as file:
        image = file.convert("RGB")
    if example.width_px is not None:
        image = ImageOps.contain(image, (example.width_px, image.height), PilImage.Resampling.LANCZOS)
    clean = np.asarray(image)
    size = (-(-clean.shape[0] // example.rain_scale), -(-clean.shape[1] // example.rain_scale), 3)
    # Rain on black and on white says what it adds and what it lets through.
    dark, bright = (
        cv2.resize(
            example.rain.add(np.full(size, level, np.uint8), example.seed, 0),
            (clean.shape[1], clean.shape[0]),
            interpolation=cv2.INTER_CUBIC,
        ).astype(np.float32)
        for level in (0, 255)
    )
    rainy: Image = np.clip(clean * (bright - dark) / 255 + dark + 0.5, 0, 255).astype(np.uint8)
    return rainy


def jpeg(image: PilImage.Image) -> bytes:
    """As good as MAX_BYTES allow."""
    for quality in range(95, 0, -3):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() <= MAX_BYTES:
            break
    return file.getvalue()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
