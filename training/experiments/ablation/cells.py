"""The cells of the ablation: one training of one variant by one seed, and how it is measured."""

import platform
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from derain.arrays import Image
from derain.manifest import Evaluation
from training.evaluation.held_out import HeldOut
from training.evaluation.pairs import PairFiles
from training.evaluation.scoring import Case, measure, summarise
from training.evaluation.sets import ImageSet, Middle
from training.experiments.ablation.variants import AblationError, Group, Variant
from training.experiments.grid import ONE_CORE, GridError, cell_path, read_cell, write_cell
from training.image_folder import digest_files, list_images, shared_image, subset
from training.rain.drawn import DRAWN
from training.recipes import Recipe, describe
from training.repository import HELD_OUT_PHOTOGRAPHS
from training.trainer.loop import train

# Measuring is to be cheap beside a training of a minute: small images, and not many.
DRAWN_PX = 320  # longest side of the images under drawn rain
MAX_IMAGES = 12  # of a set of the user's own, spread over it
CROP_PX = 320  # and of each its middle: shrunk, its rain would be another


@dataclass(frozen=True)
class Cell:
    group: Group | None
    variant: str
    seed: int
    recipe: Recipe

    @property
    def name(self) -> str:
        return f"{self.group}-{self.variant}-seed{self.seed}" if self.group else f"reference-seed{self.seed}"


@dataclass(frozen=True)
class Result:
    """A cell that is done: by what, and what came out."""

    versions: dict[str, str]
    evaluations: list[Evaluation]


@dataclass(frozen=True)
class OwnSet:
    """Pairs, or clean images, of the user's own that every cell is measured on."""

    name: str
    files: tuple[PairFiles, ...]

    @property
    def cases(self) -> list[Middle]:
        return [Middle(files, CROP_PX) for files in self.files]

    @property
    def paths(self) -> list[Path]:
        return [path for files in self.files for path in (files.rainy, files.clean)]


def own_set(found: ImageSet) -> OwnSet:
    """MAX_IMAGES of a set at most, spread evenly over it."""
    files = [case for case in found.cases if isinstance(case, PairFiles)]
    apart = -(-len(files) // MAX_IMAGES)
    return OwnSet(found.name, tuple(files[::apart]))


def list_cells(variants: Iterable[Variant], seeds: Iterable[int]) -> list[Cell]:
    """A whole seed after the other, so that an ablation that is stopped has all variants."""
    variants = list(variants)
    return [
        Cell(variant.group, variant.name, seed, replace(variant.recipe, seed=seed))
        for seed in seeds
        for variant in variants
    ]


def check_apart(cells: Iterable[Cell], sets: Iterable[OwnSet]) -> None:
    """Raises AblationError where an image is trained on and measured on."""
    paths = [*list_images(HELD_OUT_PHOTOGRAPHS), *(path for own in sets for path in own.paths)]
    folders = dict.fromkeys(cell.recipe.backgrounds.photographs for cell in cells)
    trained = (path for folder in folders if folder is not None for path in list_images(folder))
    if (shared := shared_image(paths, trained)) is not None:
        raise AblationError(f"{shared[1]} is trained on, and measured on as {shared[0]}")


def known(cell: Cell, sets: Sequence[OwnSet], folder: Path) -> Result | None:
    """The cell's result, if it is done; raises GridError where it is damaged or was another's."""
    path = cell_path(folder, cell.name)
    return read_cell(path, _parse, _settings(cell, sets)) if path.exists() else None


def _parse(result: dict[str, Any]) -> Result:
    return Result(result["versions"], [Evaluation(**each) for each in result["evaluations"]])


def run_cell(cell: Cell, sets: Sequence[OwnSet], commit: str, folder: Path) -> Result:
    """Trains and measures; goes on where it was interrupted."""
    recipe = replace(cell.recipe, name=cell.name)
    model = train(recipe, folder / "runs" / cell.name, lambda _: {}, execution=ONE_CORE)
    result = Result(versions(commit), measure_sets(model.derain, sets))
    evaluations = [each.model_dump() for each in result.evaluations]
    done = {"versions": result.versions, "evaluations": evaluations}
    write_cell(cell_path(folder, cell.name), _settings(cell, sets), done)
    return result


def read_done(cells: Iterable[Cell], sets: Sequence[OwnSet], folder: Path) -> dict[Cell, Result]:
    """Of the cells those that are done; what is damaged, or of other settings, is not."""
    done: dict[Cell, Result] = {}
    for cell in cells:
        with suppress(GridError):
            if (result := known(cell, sets, folder)) is not None:
                done[cell] = result
    if not done:
        raise AblationError(f"nothing is done yet in {folder}")
    return done


def measure_sets(derain: Callable[[Image], Image], sets: Sequence[OwnSet]) -> list[Evaluation]:
    """On rain of another make than any trained on, and on the user's own sets; all is validation."""
    named: list[tuple[str, Sequence[Case]]] = [*HeldOut(longest_px=DRAWN_PX).sets()]
    named += [(own.name, own.cases) for own in sets]
    # All at once: a clean image that lies under several rains goes through once.
    measured = iter(measure(derain, (case for _, cases in named for case in cases)))
    return [summarise(name, "validation", list(islice(measured, len(cases)))) for name, cases in named]


def versions(commit: str) -> dict[str, str]:
    """Of what decides the numbers: our own code and other people's."""
    return {
        "commit": commit,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }


def _settings(cell: Cell, sets: Sequence[OwnSet]) -> dict[str, Any]:
    """All that decides what comes out, of images what is in them, not where."""
    backgrounds, photographs = cell.recipe.backgrounds, None
    if backgrounds.photographs is not None:
        listed = list_images(backgrounds.photographs)
        photographs = digest_files(subset(listed, backgrounds.photograph_count, cell.recipe.seed))
    measured = {
        "drawn": [drawn.name for drawn in DRAWN],
        "drawn_over": digest_files(list_images(HELD_OUT_PHOTOGRAPHS)),
        "drawn_px": DRAWN_PX,
        "crop_px": CROP_PX,
        "sets": [[own.name, len(own.files), digest_files(own.paths)] for own in sets],
    }
    described = describe(replace(cell.recipe, name=cell.name))
    described["backgrounds"]["photographs"] = photographs
    return {"recipe": described, "measured": measured}
