"""The cells of the study: which there are, and the training and the measuring of one."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from derain.arrays import Image
from derain.errors import DerainError
from derain.files import write_atomically
from derain.images.formats import PNG
from derain.images.plain import encode, read_image
from training.backgrounds import Leaves, digest_files, draw_leaves, list_pictures, load_folder, subset
from training.complexity import set_complexity
from training.loop import Execution, train
from training.measurement import PERFECT_PSNR
from training.metrics import mean_scores, psnr, score
from training.pictures import square
from training.rain.families import family
from training.recipes import Recipe, describe

# Every background is brought to this side first, so that a category does not bring more pixels
# to the same number of pictures than another.
BACKGROUND_PX = 256
TEST_PX = 192
_TEST_SEED = 2_000_003  # of the rain on test pictures: no training's

# What differs from cell to cell, of a recipe as `describe` has it.
_VARIED = ("name", "rain", "photographs", "photograph_count", "leaves", "leaves_count", "pictures", "seed")


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
    """What every cell is measured by, beside its own rain: other families, over other pictures."""

    rains: tuple[str, ...]
    folder: Path
    count: int

    @property
    def pictures(self) -> list[Path]:
        return list_pictures(self.folder)[: self.count]


@dataclass(frozen=True)
class Row:
    """How one cell did under one rain: a line of the study's table.

    Scores as in `training.metrics`, complexity as in `training.complexity`.
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
    clean_psnr: float  # of the test pictures without rain
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
    """The cell's result, if it is done; raises StudyError where it is damaged or was another's."""
    path = _result_path(cell, folder)
    if not path.exists():
        return None
    result = _read_result(path)
    if result.settings != _settings(cell, recipe, held_out, folder):
        raise StudyError(f"{path} was made with other settings; remove it or choose another folder")
    return result


def run_cell(cell: Cell, recipe: Recipe, held_out: HeldOut, folder: Path) -> Result:
    """Trains by the recipe and measures; goes on where it was interrupted."""
    trained = _of_cell(cell, recipe, folder)
    model = train(trained, folder / "runs" / cell.name, lambda _: {}, execution=Execution(workers=0))
    rows = measure(cell, model.derain, held_out, _backgrounds(cell, folder))
    result = Result(_result_path(cell, folder), _settings(cell, recipe, held_out, folder), rows)
    done = {"settings": result.settings, "rows": [asdict(row) for row in rows]}
    result.path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(result.path, (json.dumps(done, indent=1) + "\n").encode())
    return result


def read_results(folder: Path) -> list[Result]:
    """All that is done in a study's folder, by rain, category, number and seed.

    Raises StudyError where there is nothing, or what was not measured alike.
    """
    results = [_read_result(path) for path in sorted((folder / "cells").glob("*.json"))]
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
    clean = [square(read_image(path), TEST_PX) for path in held_out.pictures]
    returned = float(np.mean([min(PERFECT_PSNR, psnr(derain(picture), picture)) for picture in clean]))
    complexity = set_complexity(backgrounds)
    rows = []
    for rain in (family(cell.rain), *map(family, held_out.rains)):
        rainy = [rain.add(picture, _TEST_SEED, index) for index, picture in enumerate(clean)]
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
    """Brings the category's pictures to one size, in the study's folder, so that counts compare.

    Raises StudyError where the folder has other pictures under this name, where two files
    would become one, and where the test has one of them.
    """
    if category.folder is None:
        return
    sources = list_pictures(category.folder)
    tested = {path.read_bytes(): path for path in held_out.pictures}
    targets: dict[Path, Path] = {}
    for source in sources:
        if (data := source.read_bytes()) in tested:
            raise StudyError(f"{source} is trained on, and tested on as {tested[data]}")
        target = _prepared(category, folder) / f"{source.stem}.png"
        if target in targets:
            raise StudyError(f"{targets[target]} and {source} would both become {target}: rename one")
        targets[target] = source
        picture = square(read_image(source), BACKGROUND_PX)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, encode(picture, PNG))
        elif not np.array_equal(picture, read_image(target)):
            raise StudyError(_other_pictures(category, target))
    for target in list_pictures(_prepared(category, folder)):
        if target not in targets:
            raise StudyError(_other_pictures(category, target))


def _other_pictures(category: Category, target: Path) -> str:
    return (
        f"category {category.name} was other pictures before: {target} is none of {category.folder}; "
        "choose another name, or another folder for the study"
    )


def _of_cell(cell: Cell, recipe: Recipe, folder: Path) -> Recipe:
    recipe = replace(recipe, name=cell.name, rain=family(cell.rain), seed=cell.seed)
    if cell.category.folder is not None:
        return replace(recipe, photographs=_prepared(cell.category, folder), photograph_count=cell.count)
    leaves = Leaves(cell.category.leaves_complexity, size_px=BACKGROUND_PX)
    return replace(recipe, photographs=None, photograph_count=None, leaves=leaves, leaves_count=cell.count)


def _backgrounds(cell: Cell, folder: Path) -> list[Image]:
    """Those that the cell is trained on."""
    if cell.category.folder is not None:
        return load_folder(_prepared(cell.category, folder), cell.count, cell.seed)
    leaves = Leaves(cell.category.leaves_complexity, size_px=BACKGROUND_PX)
    return [draw_leaves(leaves, cell.seed, index) for index in range(cell.count)]


def _settings(cell: Cell, recipe: Recipe, held_out: HeldOut, folder: Path) -> dict[str, Any]:
    """All that decides what comes out, as it will be read again.

    But not where the pictures lie: the folder may be moved, or shared by several machines.
    """
    trained = describe(_of_cell(cell, recipe, folder)) | {"photographs": cell.category.name}
    if cell.category.folder is not None:
        chosen = subset(list_pictures(_prepared(cell.category, folder)), cell.count, cell.seed)
        trained["pictures"] = digest_files(chosen)
    test = {
        "rains": [family(name).name for name in held_out.rains],
        "pictures": len(held_out.pictures),
        "digest": digest_files(held_out.pictures),
    }
    settings: dict[str, Any] = json.loads(json.dumps({"recipe": trained, "held_out": test}))
    return settings


def _common(settings: dict[str, Any]) -> dict[str, Any]:
    """What all cells of a study share: the rest is what it varies."""
    kept = {key: value for key, value in settings["recipe"].items() if key not in _VARIED}
    return {"recipe": kept, "held_out": settings["held_out"]}


def _result_path(cell: Cell, folder: Path) -> Path:
    return folder / "cells" / f"{cell.name}.json"


def _read_result(path: Path) -> Result:
    try:
        found = json.loads(path.read_text())
        rows = [Row(**row) for row in found["rows"]]
        if not rows:
            raise ValueError("no rows")
        return Result(path, found["settings"], rows)
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{path} is damaged, or of another version: remove it to measure again") from error


def _prepared(category: Category, folder: Path) -> Path:
    return folder / "backgrounds" / category.name
