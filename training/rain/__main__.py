"""Draws a contact sheet of rain: one row a family, as it falls on black and on photographs.

python -m training.rain wide rainmix squall -o rain.jpg
python -m training.rain textures:streaks/ --backgrounds photographs/
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from derain.arguments import at_least, check_output, run_command
from derain.arrays import Image, middle
from derain.files import write_atomically
from derain.images.formats import FORMAT_OF
from derain.images.plain import encode
from training.backgrounds import HELD_OUT_PHOTOGRAPHS, list_pictures, load_folder
from training.pictures import caption, square
from training.rain.families import FAMILIES, Family, family

_GAP_PX = 4


def contact_sheet(families: list[Family], backgrounds: list[Image], cell_px: int, seed: int) -> Image:
    """A row a family, uint8 (H, W, 3): rain on black, then on a middle cut of each background."""
    # At twice the distance.
    cuts = [square(middle(picture, 2 * cell_px, 2 * cell_px), cell_px) for picture in backgrounds]
    scenes = [np.zeros((cell_px, cell_px, 3), dtype=np.uint8), *cuts]
    rows = [
        np.concatenate([caption(len(scenes) * (cell_px + _GAP_PX), rain.name), _row(rain, scenes, seed)])
        for rain in families
    ]
    return np.concatenate(rows)


def _row(rain: Family, scenes: list[Image], seed: int) -> Image:
    cells = [rain.add(scene, seed, index) for index, scene in enumerate(scenes)]
    return np.concatenate([_framed(cell) for cell in cells], axis=1)


def _framed(cell: Image) -> Image:
    return np.pad(cell, [(0, _GAP_PX), (0, _GAP_PX), (0, 0)], constant_values=255)


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    return run_command(lambda: _draw(options))


def _draw(options: argparse.Namespace) -> int:
    check_output(options.output, FORMAT_OF)
    families = [family(name) for name in options.families]
    count = min(options.columns, len(list_pictures(options.backgrounds)))
    backgrounds = load_folder(options.backgrounds, count, options.seed)
    sheet = contact_sheet(families, backgrounds, options.cell, options.seed)
    write_atomically(options.output, encode(sheet, FORMAT_OF[options.output.suffix.lower()]))
    print(f"{options.output}: {len(families)} families")
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.rain", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    names = ", ".join(FAMILIES)
    parser.add_argument(
        "families", nargs="+", help=f"{names}; textures:FOLDER or rainmix:FOLDER for rain layers of yours"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("rain.jpg"),
        help="its suffix decides the format; default: %(default)s",
    )
    parser.add_argument("--backgrounds", type=Path, default=HELD_OUT_PHOTOGRAPHS, help="default: %(default)s")
    parser.add_argument("--columns", type=at_least(1), default=4, help="pictures in a row (default: 4)")
    parser.add_argument("--cell", type=at_least(32), default=240, help="its side in px (default: 240)")
    parser.add_argument("--seed", type=at_least(0), default=0, help="default: 0")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
