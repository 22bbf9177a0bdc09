"""The cells of the study: which there are, and the training and the measuring of one."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from derain.arrays import Picture
from derain.errors import DerainError
from derain.image import PNG, encode, read_picture, write_atomically
from training.backgrounds import Leaves, list_pictures
from training.loop import train
from training.metrics import mean_scores, psnr, score
from training.network import derain_picture
from training.rain.families import family
from training.rain.streaks import RANGES
from training.recipes import Recipe, describe

# Every background is brought to this side first, so that a category does not bring more pixels
# to the same number of pictures than another.
BACKGROUND_PX = 256
TEST_PX = 192
_TEST_SEED = 2_000_003  # of the rain on test pictures: no training's
_TRAINING_GENERATOR = {ranges.name for ranges in RANGES}
_PERFECT_PSNR = 100.0  # what a picture that comes back unchanged counts as, dB


class StudyError(DerainError):
    """A study that cannot be run as it was asked for."""


@dataclass(frozen=True)
class Category:
    """Backgrounds of one kind: a folder of pictures, or dead leaves of one complexity."""

    name: str
    folder: Path | None
    leaves_complexity: float = 0.0

    @property
    def available(self) -> int | None:
        """How many pictures there are; None where they can be drawn without end."""
        return len(list_pictures(self.folder)) if self.folder else None


@dataclass(frozen=True)
class Cell:
    """One training: its backgrounds, how many of them, its rain and its seed."""

    category: Category
    count: int
    rain: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.category.name}-{self.count}-{family(self.rain).name}-seed{self.seed}"


@dataclass(frozen=True)
class HeldOut:
    """What every cell is measured by: rain families over pictures that no cell trains on."""

    rains: tuple[str, ...]
    folder: Path
    count: int

    @property
    def pictures(self) -> list[Path]:
        return list_pictures(self.folder)[: self.count]


@dataclass(frozen=True)
class Row:
    """How one cell did under one rain: a line of the study's table. Scores as in `training.metrics`."""

    category: str
    count: int
    rain: str
    seed: int
    test_rain: str
    psnr: float
    ssim: float
    removal: float
    rain_change: float
    background_error: float
    background_error_50: float
    clean_psnr: float  # of the test pictures without rain
    # What doing nothing, and what a perfect network would score.
    input_psnr: float
    input_background_error: float
    input_background_error_50: float
    perfect_rain_change: float

    @property
    def unseen(self) -> bool:
        """Whether the test rain is of another make than what it was trained on."""
        return self.test_rain != self.rain and self.test_rain not in _TRAINING_GENERATOR


@dataclass(frozen=True)
class Result:
    """A cell that is done."""

    cell: Cell
    settings: dict[str, Any]
    rows: list[Row]


def list_cells(
    categories: Iterable[Category], counts: Sequence[int | None], rains: Sequence[str], seeds: Iterable[int]
) -> list[Cell]:
    """What there is to vary, a whole seed after the other; a count of None is all there are."""
    found: dict[Cell, None] = {}  # in order, each once
    for seed in seeds:
        for rain in rains:
            for category in categories:
                available = category.available
                for count in counts:
                    number = available if count is None else count
                    if number is not None and (available is None or number <= available):
                        found[Cell(category, number, rain, seed)] = None
    return list(found)


def run_cell(cell: Cell, recipe: Recipe, held_out: HeldOut, folder: Path) -> list[Row]:
    """Trains by the recipe and measures, or reads what was measured before.

    Goes on where it was interrupted. Raises StudyError where the folder has the cell with
    other settings.
    """
    recipe = _of_cell(cell, recipe, folder)
    # But where the pictures lie: the folder may be moved, or shared by several machines.
    trained = describe(recipe) | {"photographs": cell.category.name}
    settings = json.loads(json.dumps({"recipe": trained, "held_out": _describe(held_out)}))
    result = folder / "cells" / f"{cell.name}.json"
    if result.exists():
        known = json.loads(result.read_text())
        if known["settings"] != settings:
            raise StudyError(f"{result} was made with other settings; remove it or choose another folder")
        return [Row(**row) for row in known["rows"]]
    network = train(recipe, folder / "runs" / cell.name, lambda _: {})
    rows = measure(cell, lambda picture: derain_picture(network, picture), held_out)
    done = {"settings": settings, "rows": [asdict(row) for row in rows]}
    result.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(result, (json.dumps(done, indent=1) + "\n").encode())
    return rows


def run_cells(cells: Iterable[Cell], recipe: Recipe, held_out: HeldOut, folder: Path, jobs: int) -> int:
    """The number of cells that failed: each says why, and the others go on."""
    failed = 0
    # For the processes that are to come: each training has one core, and there is one bar for all.
    os.environ |= {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), cv2.setNumThreads, (0,))
    try:
        running = {pool.submit(run_cell, cell, recipe, held_out, folder): cell for cell in cells}
        with tqdm(as_completed(running), total=len(running), unit="cell", disable=False) as progress:
            for future in progress:
                cell = running[future]
                try:
                    rows = future.result()
                except (DerainError, OSError) as error:
                    failed += 1
                    progress.write(f"{cell.name}: {error}", file=sys.stderr)
                    continue
                removed = ", ".join(f"{row.test_rain} {row.removal:.2f}" for row in rows)
                progress.write(f"{cell.name}: removal {removed}")
    finally:
        pool.shutdown(cancel_futures=True)  # of an interrupted study: what has not begun
    return failed


def read_results(folder: Path) -> list[Result]:
    """All that is done in a study's folder, by rain, category, number and seed."""
    found = [_read_result(path, folder) for path in (folder / "cells").glob("*.json")]
    if not found:
        raise StudyError(f"nothing is done yet in {folder}")
    cells = [(r.cell.rain, r.cell.category.name, r.cell.count, r.cell.seed) for r in found]
    return [result for _, result in sorted(zip(cells, found, strict=True), key=lambda pair: pair[0])]


def _read_result(path: Path, folder: Path) -> Result:
    known = json.loads(path.read_text())
    rows = [Row(**row) for row in known["rows"]]
    name, count, rain, seed = rows[0].category, rows[0].count, rows[0].rain, rows[0].seed
    pictures = folder / "backgrounds" / name
    leaves: float = known["settings"]["recipe"]["leaves"]["complexity"]
    category = Category(name, pictures, 0.0) if pictures.is_dir() else Category(name, None, leaves)
    return Result(Cell(category, count, rain, seed), known["settings"], rows)


def measure(cell: Cell, derain: Callable[[Picture], Picture], held_out: HeldOut) -> list[Row]:
    """A row for each rain of the test."""
    clean = [
        _square(read_picture(path), TEST_PX) for path in list_pictures(held_out.folder)[: held_out.count]
    ]
    returned = float(np.mean([min(_PERFECT_PSNR, psnr(derain(picture), picture)) for picture in clean]))
    rows = []
    for name in held_out.rains:
        rain = family(name)
        rainy = [rain.add(picture, _TEST_SEED, index) for index, picture in enumerate(clean)]
        got = mean_scores([score(derain(r), r, c) for r, c in zip(rainy, clean, strict=True)])
        nothing = mean_scores([score(r, r, c) for r, c in zip(rainy, clean, strict=True)])
        perfect = mean_scores([score(c, r, c) for r, c in zip(rainy, clean, strict=True)])
        row = Row(
            category=cell.category.name,
            count=cell.count,
            rain=family(cell.rain).name,
            seed=cell.seed,
            test_rain=rain.name,
            psnr=got.psnr,
            ssim=got.ssim,
            removal=got.removal,
            rain_change=got.rain_change,
            background_error=got.background_error,
            background_error_50=got.background_error_50,
            clean_psnr=returned,
            input_psnr=nothing.psnr,
            input_background_error=nothing.background_error,
            input_background_error_50=nothing.background_error_50,
            perfect_rain_change=perfect.rain_change,
        )
        rows.append(row)
    return rows


def prepare(category: Category, folder: Path) -> None:
    """Brings the category's pictures to one size, in the study's folder, so that counts compare."""
    for path in list_pictures(category.folder) if category.folder else []:
        target = prepared(category, folder) / f"{path.stem}.png"
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, encode(_square(read_picture(path), BACKGROUND_PX), PNG))


def prepared(category: Category, folder: Path) -> Path:
    """Where the category's pictures are, all of one size."""
    return folder / "backgrounds" / category.name


def _of_cell(cell: Cell, recipe: Recipe, folder: Path) -> Recipe:
    recipe = replace(recipe, name=cell.name, rain=family(cell.rain), seed=cell.seed)
    if cell.category.folder is not None:
        return replace(recipe, photographs=prepared(cell.category, folder), photograph_count=cell.count)
    leaves = Leaves(cell.category.leaves_complexity, size_px=BACKGROUND_PX)
    return replace(recipe, photographs=None, photograph_count=None, leaves=leaves, leaves_count=cell.count)


def _describe(held_out: HeldOut) -> dict[str, object]:
    rains = [family(name).name for name in held_out.rains]
    return {"rains": rains, "pictures": [path.name for path in held_out.pictures]}


def _square(picture: Picture, side_px: int) -> Picture:
    """The largest square in the middle, brought to a size."""
    height, width = picture.shape[:2]
    window_px = min(height, width)
    top, left = (height - window_px) // 2, (width - window_px) // 2
    window = picture[top : top + window_px, left : left + window_px]
    method = cv2.INTER_AREA if window_px > side_px else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(window, (side_px, side_px), interpolation=method), dtype=np.uint8)
