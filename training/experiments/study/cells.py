"""The cells of the study: which there are, and the training and the measuring of one."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from derain.arrays import Image
from derain.errors import DerainError
from derain.files import write_atomically
from derain.images.formats import PNG
from derain.images.plain import encode, read_image
from training.data.backgrounds import load_folder
from training.data.complexity import set_complexity
from training.data.dead_leaves import Leaves, draw_leaves
from training.data.resize import square
from training.evaluation.metrics import mean_scores, psnr, score
from training.evaluation.scoring import PERFECT_PSNR
from training.experiments.grid import ONE_CORE, cell_path, read_cell, write_cell
from training.image_folder import digest_files, list_images, shared_image, subset
from training.rain.families import family
from training.recipes import Recipe, describe
from training.trainer.loop import train

# Every background is brought to this side first, so that a category does not bring more pixels
# to the same number of images than another.
BACKGROUND_PX = 256
TEST_PX = 192
_TEST_SEED = 2_000_003  # of the rain on test images: no training's

# What differs from cell to cell, of a recipe as `describe` has it.
_VARIED = ("name", "rain", "backgrounds", "images", "seed")


class StudyError(DerainError):
    """A study that cannot be run as it was asked for."""


@dataclass(frozen=True)
class Category:
    """Backgrounds of one kind: a folder of images, or dead leaves of one complexity."""

    name: str
    folder: Path | None
    leaves_complexity: float = 0.0

    @property
    def available(self) -> int | None:
        """How many images there are; None where they can be drawn without end."""
        return len(list_images(self.folder)) if self.folder else None


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
    """What every cell is measured by, beside its own rain: other families, over other images."""

    rains: tuple[str, ...]
    folder: Path
    count: int

    @property
    def images(self) -> list[Path]:
        return list_images(self.folder)[: self.count]


@dataclass(frozen=True)
class Row:
    """How one cell did under one rain: a line of the study's table.

    Scores as in `training.evaluation.metrics`, complexity as in `training.data.complexity`.
    """

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
    clean_psnr: float  # of the test images without rain
    # What doing nothing, and what a perfect network would score.
    input_psnr: float
    input_background_error: float
    input_background_error_50: float
    perfect_rain_change: float
    # Of the backgrounds trained on.
    bits_per_pixel: float
    gradient_energy: float
    looks: float
    distinct: float
    kilobytes: float

    @property
    def unseen(self) -> bool:
        """Whether the test rain is another than what the cell was trained on: then it is of another make."""
        return self.test_rain != self.rain


@dataclass(frozen=True)
class Result:
    """A cell that is done: how it was trained and measured, and what came out."""

    path: Path
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


def known(cell: Cell, recipe: Recipe, held_out: HeldOut, folder: Path) -> Result | None:
    """The cell's result, if it is done; raises GridError where it is damaged or was another's."""
    path = cell_path(folder, cell.name)
    if not path.exists():
        return None
    return read_cell(path, partial(_parse, path), _settings(cell, recipe, held_out, folder))


def run_cell(cell: Cell, recipe: Recipe, held_out: HeldOut, folder: Path) -> Result:
    """Trains by the recipe and measures; goes on where it was interrupted."""
    trained = _of_cell(cell, recipe, folder)
    model = train(trained, folder / "runs" / cell.name, lambda _: {}, execution=ONE_CORE)
    rows = measure(cell, model.derain, held_out, _backgrounds(cell, folder))
    path, settings = cell_path(folder, cell.name), _settings(cell, recipe, held_out, folder)
    write_cell(path, settings, {"rows": [asdict(row) for row in rows]})
    return Result(path, settings, rows)


def read_results(folder: Path) -> list[Result]:
    """All that is done in a study's folder, by rain, category, number and seed.

    Raises StudyError where there is nothing, or what was not measured alike.
    """
    results = [read_cell(path, partial(_parse, path)) for path in sorted((folder / "cells").glob("*.json"))]
    if not results:
        raise StudyError(f"nothing is done yet in {folder}")
    first = results[0]
    for result in results:
        if _common(result.settings) != _common(first.settings):
            raise StudyError(f"{result.path} and {first.path} were trained or measured with other settings")
    firsts = [result.rows[0] for result in results]
    keys = [(row.rain, row.category, row.count, row.seed) for row in firsts]
    return [result for _, result in sorted(zip(keys, results, strict=True), key=lambda pair: pair[0])]


def measure(
    cell: Cell, derain: Callable[[Image], Image], held_out: HeldOut, backgrounds: Sequence[Image]
) -> list[Row]:
    """A row for its own rain and for each other; `backgrounds` are those that the cell was trained on."""
    clean = [square(read_image(path), TEST_PX) for path in held_out.images]
    returned = float(np.mean([min(PERFECT_PSNR, psnr(derain(image), image)) for image in clean]))
    complexity = set_complexity(backgrounds)
    rows = []
    for rain in (family(cell.rain), *map(family, held_out.rains)):
        rainy = [rain.add(image, _TEST_SEED, index) for index, image in enumerate(clean)]
        got = mean_scores([score(derain(r), r, c) for r, c in zip(rainy, clean, strict=True)])
        nothing = mean_scores([score(r, r, c) for r, c in zip(rainy, clean, strict=True)])
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
            perfect_rain_change=nothing.rain_error,  # the whole error on the rain
            bits_per_pixel=fmean(complexity.bits_per_pixel),
            gradient_energy=fmean(complexity.gradient_energy),
            looks=complexity.looks,
            distinct=complexity.distinct,
            kilobytes=complexity.kilobytes,
        )
        rows.append(row)
    return rows


def prepare(category: Category, held_out: HeldOut, folder: Path) -> None:
    """Brings the category's images to one size, in the study's folder, so that counts compare.

    Raises StudyError where the folder has other images under this name, where two files
    would become one, and where the test has one of them.
    """
    if category.folder is None:
        return
    sources = list_images(category.folder)
    if (shared := shared_image(held_out.images, sources)) is not None:
        raise StudyError(f"{shared[1]} is trained on, and tested on as {shared[0]}")
    targets: dict[Path, Path] = {}
    for source in sources:
        target = _prepared(category, folder) / f"{source.stem}.png"
        if target in targets:
            raise StudyError(f"{targets[target]} and {source} would both become {target}: rename one")
        targets[target] = source
        image = square(read_image(source), BACKGROUND_PX)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, encode(image, PNG))
        elif not np.array_equal(image, read_image(target)):
            raise StudyError(_other_images(category, target))
    for target in list_images(_prepared(category, folder)):
        if target not in targets:
            raise StudyError(_other_images(category, target))


def _other_images(category: Category, target: Path) -> str:
    return (
        f"category {category.name} was other images before: {target} is none of {category.folder}; "
        "choose another name, or another folder for the study"
    )


def _of_cell(cell: Cell, recipe: Recipe, folder: Path) -> Recipe:
    recipe = replace(recipe, name=cell.name, rain=family(cell.rain), seed=cell.seed)
    given = replace(
        recipe.backgrounds, photographs=_prepared(cell.category, folder), photograph_count=cell.count
    )
    if cell.category.folder is None:
        leaves = Leaves(cell.category.leaves_complexity, size_px=BACKGROUND_PX)
        given = replace(
            given, photographs=None, photograph_count=None, leaves=leaves, leaves_count=cell.count
        )
    return replace(recipe, backgrounds=given)


def _backgrounds(cell: Cell, folder: Path) -> list[Image]:
    """Those that the cell is trained on."""
    if cell.category.folder is not None:
        return load_folder(_prepared(cell.category, folder), cell.count, cell.seed)
    leaves = Leaves(cell.category.leaves_complexity, size_px=BACKGROUND_PX)
    return [draw_leaves(leaves, cell.seed, index) for index in range(cell.count)]


def _settings(cell: Cell, recipe: Recipe, held_out: HeldOut, folder: Path) -> dict[str, Any]:
    """All that decides what comes out.

    But not where the images lie: the folder may be moved, or shared by several machines.
    """
    trained = describe(_of_cell(cell, recipe, folder))
    trained["backgrounds"]["photographs"] = cell.category.name
    if cell.category.folder is not None:
        chosen = subset(list_images(_prepared(cell.category, folder)), cell.count, cell.seed)
        trained["images"] = digest_files(chosen)
    test = {
        "rains": [family(name).name for name in held_out.rains],
        "images": len(held_out.images),
        "digest": digest_files(held_out.images),
    }
    return {"recipe": trained, "held_out": test}


def _common(settings: dict[str, Any]) -> dict[str, Any]:
    """What all cells of a study share: the rest is what it varies."""
    kept = {key: value for key, value in settings["recipe"].items() if key not in _VARIED}
    return {"recipe": kept, "held_out": settings["held_out"]}


def _parse(path: Path, result: dict[str, Any]) -> Result:
    rows = [Row(**row) for row in result["rows"]]
    if not rows:
        raise ValueError("no rows")
    return Result(path, result["settings"], rows)


def _prepared(category: Category, folder: Path) -> Path:
    return folder / "backgrounds" / category.name
