"""The pictures of a model card: do clean things come back as they were, and what becomes of rain?

Neither the photographs nor the rain were trained on, and the page and the wires are drawn otherwise than
those of training/lines.py. Nothing is chosen by its result.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

from derain.arrays import Image
from derain.images.formats import JPEG
from derain.images.plain import encode, read_image
from training.backgrounds import HELD_OUT_PHOTOGRAPHS
from training.lines import polyline
from training.measurement import PERFECT_PSNR, Derain
from training.metrics import psnr
from training.pictures import beside, caption, difference, on_white, shrink
from training.rain.drawn import DOWNPOUR, DRIZZLE, SHOWER, SQUALL, DrawnRain

LARGEST_BYTES = 300_000
ERROR_GAIN = 8

_HEIGHT_PX, _WIDTH_PX = 192, 288  # of a cell
_RAIN_LONGEST_PX = 320
_GAP_PX = 4
_FINER = 4  # wires are drawn this much larger and then shrunk, for soft edges


@dataclass(frozen=True)
class Cut:
    """What is shown of a photograph; all of it goes through the network."""

    title: str
    photograph: str
    top: int
    left: int


CUTS = (
    Cut("fur and whiskers", "skimage_chelsea.png", 108, 20),
    Cut("hair", "skimage_astronaut.png", 0, 80),
    Cut("writing", "skimage_astronaut.png", 315, 80),
    Cut("a tower of rods", "skimage_rocket.jpg", 150, 0),
    Cut("a roof, railings", "sklearn_china.jpg", 110, 90),
)

RAINED: tuple[tuple[DrawnRain, str], ...] = (
    (DRIZZLE, "skimage_coffee.png"),
    (SHOWER, "skimage_chelsea.png"),
    (DOWNPOUR, "sklearn_china.jpg"),
    (SQUALL, "skimage_rocket.jpg"),
)

# As training/photographs/README.md has them.
CREDITS = {
    "skimage_astronaut.png": "NASA, public domain",
    "skimage_chelsea.png": "Stefan van der Walt, [CC0 1.0](https://creativecommons.org/publicdomain/zero/1.0/)",
    "skimage_coffee.png": "Rachel Michetti, courtesy of Pikolo Espresso Bar, CC0 1.0",
    "skimage_rocket.jpg": "SpaceX, public domain",
    "sklearn_china.jpg": "[danielbuechele](https://www.flickr.com/photos/danielbuechele/6061409035/), "
    "[CC BY 2.0](https://creativecommons.org/licenses/by/2.0/)",
}


def clean_sheet(derain: Derain) -> Image:
    """A row each: as given, as it comes back, and the difference enlarged around grey."""
    return np.concatenate(list(_clean_rows(derain)))


def _clean_rows(derain: Derain) -> Iterator[Image]:
    enlarged = f"difference x {ERROR_GAIN}"
    for cut in CUTS:
        given = read_image(HELD_OUT_PHOTOGRAPHS / cut.photograph)
        back = derain(given)
        part, part_back = (
            whole[cut.top : cut.top + _HEIGHT_PX, cut.left : cut.left + _WIDTH_PX] for whole in (given, back)
        )
        scores = f"{_decibels(part_back, part)} ({_decibels(back, given)} the whole photograph)"
        error = difference(part_back, part, ERROR_GAIN)
        yield _row([part, part_back, error], cut.title, scores, enlarged)
    for title, given in (("a page", draw_page()), ("wires", draw_wires())):
        back = derain(given)
        error = difference(back, given, ERROR_GAIN)
        yield _row([given, back, error], title, _decibels(back, given), enlarged)


def rain_sheet(derain: Derain) -> Image:
    """A row each: a photograph in the rain, derained, and as it was."""
    rows = []
    for index, (rain, photograph) in enumerate(RAINED):
        clean = shrink(read_image(HELD_OUT_PHOTOGRAPHS / photograph), _RAIN_LONGEST_PX)
        rainy = rain.add(clean, 0, index)
        derained = derain(rainy)
        before, after = _decibels(rainy, clean), _decibels(derained, clean)
        rows.append(_row([rainy, derained, clean], f"{rain.name}: {before}", after, "without rain"))
    width = max(row.shape[1] for row in rows)
    return np.concatenate([on_white(row, row.shape[0], width) for row in rows])


def _decibels(picture: Image, reference: Image) -> str:
    return f"{min(PERFECT_PSNR, psnr(picture, reference)):.1f} dB"


def _row(pictures: list[Image], *texts: str) -> Image:
    """Pictures of one size, each with a text under it."""
    return beside(
        [
            np.concatenate([picture, caption(picture.shape[1], text)])
            for picture, text in zip(pictures, texts, strict=True)
        ],
        _GAP_PX,
    )


def draw_page() -> Image:
    """Writing in several sizes, dark on light and light on dark."""
    page = PilImage.new("RGB", (_WIDTH_PX, _HEIGHT_PX), (250, 248, 243))
    draw = ImageDraw.Draw(page)
    middle = _HEIGHT_PX // 2
    draw.rectangle([0, middle, _WIDTH_PX, _HEIGHT_PX], fill=(28, 32, 40))
    for top, ink in ((0, (25, 25, 30)), (middle, (235, 235, 228))):
        y = top + 4
        for size_px, text in (
            (24, "Illegible? 1lI|/ 0O"),
            (15, "will the thin lines of a page survive"),
            (11, "minimum, million, little, hilly: verticals everywhere"),
            (9, "// // || || -- the smallest letters are the first to go: 111 lll iii"),
        ):
            draw.text((6, y), text, fill=ink, font=ImageFont.load_default(size_px))
            y += round(1.35 * size_px)
    return np.asarray(page, dtype=np.uint8)


def draw_wires() -> Image:
    """Wires before a sky that pales towards the horizon: slack across it, taut and steep from poles."""
    height, width = _HEIGHT_PX * _FINER, _WIDTH_PX * _FINER
    down = np.linspace(0, 1, height)[:, None, None]
    sky = np.array([88, 138, 196]) * (1 - down) + np.array([226, 229, 228]) * down
    canvas = np.repeat(np.rint(sky).astype(np.uint8), width, axis=1)

    def draw(points: Sequence[tuple[float, float]], colour: tuple[int, int, int], width_px: float) -> None:
        polyline(canvas, np.array(points) * _FINER, colour, round(width_px * _FINER))

    dark, pale = (48, 46, 44), (245, 245, 240)
    for number, top_px in enumerate((20, 38, 44, 50, 80)):
        sag_px = 30 + 6 * number
        across = np.linspace(0, 1, 97)
        slack = [(x * _WIDTH_PX, top_px + 14 * x + 4 * sag_px * x * (1 - x)) for x in across]
        draw(slack, dark, 0.5 + 0.25 * number)
    for foot_px, colour, width_px in ((70, dark, 5), (14, dark, 0.75), (126, pale, 0.75)):
        draw([(70, 8), (foot_px, _HEIGHT_PX)], colour, width_px)
    for foot_px, colour, width_px in ((238, dark, 1.5), (206, pale, 0.5), (262, dark, 0.5)):
        draw([(238, 30), (foot_px, _HEIGHT_PX)], colour, width_px)
    shrunk = cv2.resize(canvas, (_WIDTH_PX, _HEIGHT_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, dtype=np.uint8)


def encode_below(picture: Image, most_bytes: int) -> bytes:
    """As JPEG, of the highest quality that is no larger."""
    for quality in range(95, 0, -5):
        data = encode(picture, JPEG, quality)
        if len(data) <= most_bytes:
            break
    return data
