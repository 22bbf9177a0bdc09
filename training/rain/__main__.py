"""Draws a contact sheet of rain: one row a family, as it falls on black and on photographs.

python -m training.rain wide rainmix squall -o rain.jpg
python -m training.rain textures:streaks/ --backgrounds photographs/
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from derain.arrays import Picture
from derain.cli import at_least
from derain.errors import DerainError
from derain.image import JPEG, encode, write_atomically
from training.backgrounds import load_folder
from training.rain.families import FAMILIES, Family, family

PHOTOGRAPHS = Path(__file__).resolve().parent.parent / "photographs" / "heldout"

_LABEL_PX = 20
_GAP_PX = 4


def contact_sheet(families: list[Family], backgrounds: list[Picture], cell_px: int, seed: int) -> Picture:
    """A row a family, uint8 (H, W, 3): rain on black, then on a middle cut of each background."""
    scenes = [np.zeros((cell_px, cell_px, 3), dtype=np.uint8), *(_square(b, cell_px) for b in backgrounds)]
    rows = [
        np.concatenate([_label(rain.name, len(scenes) * (cell_px + _GAP_PX)), _row(rain, scenes, seed)])
        for rain in families
    ]
    return np.concatenate(rows)


def _row(rain: Family, scenes: list[Picture], seed: int) -> Picture:
    cells = [rain.add(scene, seed, index) for index, scene in enumerate(scenes)]
    return np.concatenate([_framed(cell) for cell in cells], axis=1)


def _framed(cell: Picture) -> Picture:
    return np.pad(cell, [(0, _GAP_PX), (0, _GAP_PX), (0, 0)], constant_values=255)


def _label(text: str, width: int) -> Picture:
    label = np.full((_LABEL_PX, width, 3), 255, dtype=np.uint8)
    place, black = (2, _LABEL_PX - 6), (0, 0, 0)
    cv2.putText(label, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, black, 1, cv2.LINE_AA)
    return label


def _square(picture: Picture, side_px: int) -> Picture:
    """The middle of the picture, at twice the distance."""
    height, width = picture.shape[:2]
    window_px = min(height, width, 2 * side_px)
    top, left = (height - window_px) // 2, (width - window_px) // 2
    window = picture[top : top + window_px, left : left + window_px]
    return np.asarray(cv2.resize(window, (side_px, side_px), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    try:
        families = [family(name) for name in options.families]
        backgrounds = load_folder(options.backgrounds, None, options.seed)[: options.columns]
        sheet = contact_sheet(families, backgrounds, options.cell, options.seed)
        write_atomically(options.output, encode(sheet, JPEG))
    except (DerainError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{options.output}: {len(families)} families")
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.rain", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    names = ", ".join(FAMILIES)
    parser.add_argument(
        "families", nargs="+", help=f"{names}; textures:FOLDER or rainmix:FOLDER for rain layers of yours"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("rain.jpg"), help="default: %(default)s")
    parser.add_argument("--backgrounds", type=Path, default=PHOTOGRAPHS, help="default: %(default)s")
    parser.add_argument("--columns", type=at_least(1), default=4, help="pictures in a row (default: 4)")
    parser.add_argument("--cell", type=at_least(32), default=240, help="its side in px (default: 240)")
    parser.add_argument("--seed", type=at_least(0), default=0, help="default: 0")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
