"""Contact sheets, for looking by eye: rain families, and rainy photographs beside what comes back."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from derain.arrays import Image, middle
from derain.errors import DerainError
from derain.images.formats import FORMAT_OF
from derain.images.plain import is_image, read_image
from training.data.resize import shrink, square
from training.evaluation.pairs import read_size
from training.evaluation.scoring import Derain
from training.figures.montage import beside, caption, on_white
from training.rain.families import Family

_GAP_PX = 4


def contact_sheet(families: list[Family], backgrounds: list[Image], cell_px: int, seed: int) -> Image:
    """A row a family, uint8 (H, W, 3): rain on black, then on a middle cut of each background."""
    # At twice the distance.
    cuts = [square(middle(image, 2 * cell_px, 2 * cell_px), cell_px) for image in backgrounds]
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


_GAP_PX = 4
_CHARACTER_PX = 8  # of a label, at most


class SheetError(DerainError):
    """Folders that have nothing to show."""


@dataclass(frozen=True)
class Photograph:
    label: str
    path: Path


def find_photographs(folders: Sequence[Path]) -> list[Photograph]:
    """In and below the folders; raises SheetError, and ImageError for a file that is no image."""
    found: list[Photograph] = []
    for folder in folders:
        if not folder.is_dir():
            raise SheetError(f"{folder} is not a folder")
        paths = [path for path in sorted(folder.rglob("*")) if is_image(path)]
        if not paths:
            raise SheetError(f"no images in {folder} (known: {', '.join(FORMAT_OF)})")
        named = "" if len(folders) == 1 else folder.resolve().name
        for path in paths:
            read_size(path)  # one that cannot be read is said before the network runs
            found.append(Photograph(str(named / path.relative_to(folder)), path))
    return found


def draw_pair(photograph: Photograph, derain: Derain, cell_px: int) -> Image:
    """Rainy and derained, in cells as wide as `cell_px` and as high as need be, under the label."""
    rainy = read_image(photograph.path)
    # Small after it was derained: what is shown is what the network does at the image's own size.
    cells = [shrink(image, cell_px) for image in (rainy, derain(rainy))]
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
