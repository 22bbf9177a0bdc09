"""Contact sheets of rainy photographs: each as it is and as it comes back, side by side.

    python -m training.sheet photographs/ -m models/base -o sheet.png
    python -m training.sheet street/ garden/ --cell 720 --columns 1 -o sheet.jpg

For looking at real rain by eye. A folder's pictures are shown with those of its subfolders, under their
names; they are derained at their own size, and made small after that. What does not fit onto one sheet goes
onto the next: sheet-1.png, sheet-2.png and so on.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from derain.arguments import at_least, check_output, run_command
from derain.arrays import Image
from derain.errors import DerainError
from derain.files import write_atomically
from derain.images.formats import FORMAT_OF
from derain.images.plain import encode, is_image, read_image
from derain.inference.engine import Engine
from training.measurement import Derain
from training.pairs import read_size
from training.pictures import beside, caption, on_white, shrink

_GAP_PX = 4
_CHARACTER_PX = 8  # of a label, at most


class SheetError(DerainError):
    """Folders that have nothing to show."""


@dataclass(frozen=True)
class Photograph:
    label: str
    path: Path


def find_photographs(folders: Sequence[Path]) -> list[Photograph]:
    """In and below the folders; raises SheetError, and ImageError for a file that is no picture."""
    found: list[Photograph] = []
    for folder in folders:
        if not folder.is_dir():
            raise SheetError(f"{folder} is not a folder")
        paths = [path for path in sorted(folder.rglob("*")) if is_image(path)]
        if not paths:
            raise SheetError(f"no pictures in {folder} (known: {', '.join(FORMAT_OF)})")
        named = "" if len(folders) == 1 else folder.resolve().name
        for path in paths:
            read_size(path)  # one that cannot be read is said before the network runs
            found.append(Photograph(str(named / path.relative_to(folder)), path))
    return found


def draw_pair(photograph: Photograph, derain: Derain, cell_px: int) -> Image:
    """Rainy and derained, in cells as wide as `cell_px` and as high as need be, under the label."""
    rainy = read_image(photograph.path)
    # Small after it was derained: what is shown is what the network does at the picture's own size.
    cells = [shrink(picture, cell_px) for picture in (rainy, derain(rainy))]
    width = 2 * cell_px + _GAP_PX
    pair = beside([on_white(cell, cell.shape[0], cell_px) for cell in cells], _GAP_PX)
    return np.concatenate([caption(width, _end(photograph.label, width)), pair])


def draw_sheet(pairs: Sequence[Image], columns: int) -> Image:
    """Pairs in rows, from left to right."""
    rows = [beside(pairs[first : first + columns], _GAP_PX) for first in range(0, len(pairs), columns)]
    width = max(row.shape[1] for row in rows)
    return np.concatenate([on_white(row, row.shape[0] + _GAP_PX, width) for row in rows])


def sheet_path(output: Path, number: int, count: int) -> Path:
    """Of sheet `number` of `count`, from 0."""
    return output if count == 1 else output.with_stem(f"{output.stem}-{number + 1:0{len(str(count))}}")


def _end(label: str, width_px: int) -> str:
    """Its last part, where all of it has no room: the name of the file matters most."""
    room = width_px // _CHARACTER_PX
    return label if len(label) <= room else f"..{label[2 - room :]}"


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    return run_command(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    check_output(options.output, FORMAT_OF)
    photographs = find_photographs(options.folders)
    engine = Engine(options.model)
    size = options.columns * options.rows
    groups = [photographs[first : first + size] for first in range(0, len(photographs), size)]
    with tqdm(total=len(photographs), unit="picture", disable=None) as progress:
        for number, group in enumerate(groups):
            pairs = []
            for photograph in group:
                pairs.append(draw_pair(photograph, engine.derain, options.cell))
                progress.update()
            path = sheet_path(options.output, number, len(groups))
            sheet = draw_sheet(pairs, options.columns)
            write_atomically(path, encode(sheet, FORMAT_OF[path.suffix.lower()]))
            progress.write(f"{path}: {group[0].label} to {group[-1].label}", file=sys.stdout)
    engine.close()
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.sheet", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument(
        "-m", "--model", type=Path, metavar="FOLDER", help="default: the one that was promoted"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("sheet.png"),
        metavar="FILE",
        help="its suffix decides the format; default: %(default)s",
    )
    parser.add_argument(
        "--cell", type=at_least(32), default=480, help="longest side of a picture in px (default: 480)"
    )
    parser.add_argument("--columns", type=at_least(1), default=2, help="pairs in a row (default: 2)")
    parser.add_argument("--rows", type=at_least(1), default=5, help="of a sheet (default: 5)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
