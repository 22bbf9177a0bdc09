"""The cells of the ablation: one training of one variant by one seed, and how it is measured."""

import json
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

from derain.arrays import Image, middle
from derain.files import write_atomically
from derain.manifest import Evaluation
from training.ablation.variants import AblationError, Group, Variant
from training.backgrounds import HELD_OUT_PHOTOGRAPHS, digest_files, list_pictures, subset
from training.evaluate import PictureSet, held_out_sets
from training.loop import Execution, train
from training.measurement import Case, measure, summarise
from training.pairs import Pair, PairFiles
from training.rain.drawn import DRAWN
from training.recipes import Recipe, describe

# Measuring is to be cheap beside a training of a minute: small pictures, and not many.
DRAWN_PX = 320  # longest side of the pictures under drawn rain
MOST_PICTURES = 12  # of a set of the user's own, spread over it
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
class Cropped:
    """The middle of a pair, read when its turn comes."""

    files: PairFiles

    def read(self) -> Pair:
        pair = self.files.read()
        return Pair(pair.name, middle(pair.rainy, CROP_PX, CROP_PX), middle(pair.clean, CROP_PX, CROP_PX))


@dataclass(frozen=True)
class OwnSet:
    """Pairs, or clean pictures, of the user's own that every cell is measured on."""

    name: str
    files: tuple[PairFiles, ...]

    @property
    def cases(self) -> list[Cropped]:
        return [Cropped(files) for files in self.files]

    @property
    def paths(self) -> list[Path]:
        return [path for files in self.files for path in (files.rainy, files.clean)]


def own_set(found: PictureSet) -> OwnSet:
    """MOST_PICTURES of a set at most, spread evenly over it."""
    files = [case for case in found.cases if isinstance(case, PairFiles)]
    apart = -(-len(files) // MOST_PICTURES)
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
    """Raises AblationError where a picture is trained on and measured on."""
    paths = [*list_pictures(HELD_OUT_PHOTOGRAPHS), *(path for own in sets for path in own.paths)]
    measured = {path.read_bytes(): path for path in paths}
    folders = dict.fromkeys(cell.recipe.photographs for cell in cells)
    for path in (path for folder in folders if folder is not None for path in list_pictures(folder)):
        if (data := path.read_bytes()) in measured:
            raise AblationError(f"{path} is trained on, and measured on as {measured[data]}")


def known(cell: Cell, sets: Sequence[OwnSet], folder: Path) -> Result | None:
    """The cell's result, if it is done; raises AblationError where it is damaged or was another's."""
    path = _result_path(cell, folder)
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text())
        result = Result(found["versions"], [Evaluation(**each) for each in found["evaluations"]])
        is_of_this = found["settings"] == _settings(cell, sets)
    except (ValueError, KeyError, TypeError) as error:
        raise AblationError(
            f"{path} is damaged, or of another version: remove it to measure again"
        ) from error
    if not is_of_this:
        raise AblationError(f"{path} was made with other settings; remove it or choose another folder")
    return result


def run_cell(cell: Cell, sets: Sequence[OwnSet], commit: str, folder: Path) -> Result:
    """Trains and measures; goes on where it was interrupted."""
    recipe = replace(cell.recipe, name=cell.name)
    model = train(recipe, folder / "runs" / cell.name, lambda _: {}, execution=Execution(workers=0))
    result = Result(versions(commit), measure_sets(model.derain, sets))
    done = {
        "settings": _settings(cell, sets),
        "versions": result.versions,
        "evaluations": [each.model_dump() for each in result.evaluations],
    }
    path = _result_path(cell, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(done, indent=1) + "\n").encode())
    return result


def read_done(cells: Iterable[Cell], sets: Sequence[OwnSet], folder: Path) -> dict[Cell, Result]:
    """Of the cells those that are done; what is damaged, or of other settings, is not."""
    done: dict[Cell, Result] = {}
    for cell in cells:
        with suppress(AblationError):
            if (result := known(cell, sets, folder)) is not None:
                done[cell] = result
    if not done:
        raise AblationError(f"nothing is done yet in {folder}")
    return done


def measure_sets(derain: Callable[[Image], Image], sets: Sequence[OwnSet]) -> list[Evaluation]:
    """On rain of another make than any trained on, and on the user's own sets; all is validation."""
    named: list[tuple[str, Sequence[Case]]] = [*held_out_sets(DRAWN_PX)]
    named += [(own.name, own.cases) for own in sets]
    # All at once: a clean picture that lies under several rains goes through once.
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
    """All that decides what comes out, as it will be read again; of pictures what is in them, not where."""
    recipe, photographs = cell.recipe, None
    if recipe.photographs is not None:
        chosen = subset(list_pictures(recipe.photographs), recipe.photograph_count, recipe.seed)
        photographs = digest_files(chosen)
    measured = {
        "drawn": [drawn.name for drawn in DRAWN],
        "drawn_over": digest_files(list_pictures(HELD_OUT_PHOTOGRAPHS)),
        "drawn_px": DRAWN_PX,
        "crop_px": CROP_PX,
        "sets": [[own.name, len(own.files), digest_files(own.paths)] for own in sets],
    }
    described = describe(recipe) | {"name": cell.name, "photographs": photographs}
    settings: dict[str, Any] = json.loads(json.dumps({"recipe": described, "measured": measured}))
    return settings


def _result_path(cell: Cell, folder: Path) -> Path:
    return folder / "cells" / f"{cell.name}.json"
