"""Scores a model folder, through the engine that serves it, so the score is what users get.

    python -m training.evaluate models/base --pairs mine rainy/ clean/
    python -m training.evaluate models/base --clean dry photographs/

Without --pairs or --clean: the sets that the repository makes itself, drawn rain over
pictures that no recipe trains on.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal

import cv2
import numpy as np
from tqdm import tqdm

from derain.arrays import Picture
from derain.engine import Engine
from derain.errors import DerainError
from derain.image import is_picture, read_picture
from derain.manifest import Evaluation
from training.backgrounds import Leaves, draw_leaves
from training.card import evaluation_table, write_model_texts
from training.metrics import Scores, mean_scores, psnr, score
from training.rain.drawn import DRAWN
from training.rain.families import Family

HELD_OUT = Path(__file__).parent / "photographs" / "heldout"
_HELD_OUT_SEED = 1_000_003  # no recipe's

# What a picture that comes back unchanged counts as, in dB: its own PSNR is infinite, and so would
# be the mean over the set.
PERFECT_PSNR = 100.0

Role = Literal["validation", "test"]


class PairingError(DerainError):
    """Rainy and clean pictures that do not go together."""


@dataclass(frozen=True)
class Pair:
    """A rainy picture and the same without rain; where they are equal, a clean picture alone."""

    name: str
    rainy: Picture
    clean: Picture


def evaluate(
    derain: Callable[[Picture], Picture], name: str, role: Role, pairs: Iterable[Pair]
) -> Evaluation:
    """Mean scores over a set; each clean picture also goes through on its own."""
    rainy_scores: list[Scores] = []
    clean_psnrs: list[float] = []
    for pair in pairs:
        clean_psnrs.append(min(PERFECT_PSNR, psnr(derain(pair.clean), pair.clean)))
        if not np.array_equal(pair.rainy, pair.clean):
            rainy_scores.append(score(derain(pair.rainy), pair.rainy, pair.clean))
    if not clean_psnrs:
        raise PairingError(f"{name} has no pictures")
    means = {key: _finite(value) for key, value in vars(mean_scores(rainy_scores)).items()}
    clean_psnr = _finite(fmean(clean_psnrs))
    return Evaluation(name=name, role=role, pictures=len(clean_psnrs), clean_psnr=clean_psnr, **means)


def held_out_sets() -> Iterator[tuple[str, list[Pair]]]:
    """The repository's own validation sets: rain families and pictures never trained on."""
    backgrounds = held_out_backgrounds()
    for family in DRAWN:
        yield f"drawn {family.name}", [rained_on(family, *item) for item in enumerate(backgrounds.items())]


def held_out_backgrounds(longest_px: int = 480) -> dict[str, Picture]:
    photographs = {path.stem: read_picture(path) for path in sorted(HELD_OUT.iterdir())}
    leaves = {f"leaves-{i}": draw_leaves(Leaves(), _HELD_OUT_SEED, i) for i in range(2)}
    return {name: _shrink(picture, longest_px) for name, picture in (photographs | leaves).items()}


def rained_on(family: Family, index: int, named: tuple[str, Picture]) -> Pair:
    name, clean = named
    return Pair(name, family.add(clean, _HELD_OUT_SEED, index), clean)


def read_pairs(rainy: Path, clean: Path) -> Iterator[Pair]:
    """Pairs of two folders, matched by file name, or else by the last number in it."""
    candidates: dict[str, list[Path]] = {}
    for path in _pictures(clean):
        for key in _keys(path):
            candidates.setdefault(key, []).append(path)
    for path in _pictures(rainy):
        partner = _partner(path, candidates)
        pair = Pair(path.stem, read_picture(path), read_picture(partner))
        if pair.rainy.shape != pair.clean.shape:
            raise PairingError(f"{path} and {partner} are not of one size")
        yield pair


def _partner(rainy: Path, candidates: dict[str, list[Path]]) -> Path:
    for key in _keys(rainy):
        partners = candidates.get(key, [])
        if len(partners) > 1:
            names = " and ".join(path.name for path in partners)
            raise PairingError(f"{rainy} could go with {names}")
        if partners:
            return partners[0]
    folder = next(iter(candidates.values()))[0].parent
    raise PairingError(f"{rainy} has no clean partner in {folder}, by name or by number")


def read_clean(folder: Path) -> Iterator[Pair]:
    for path in _pictures(folder):
        picture = read_picture(path)
        yield Pair(path.stem, picture, picture)


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    sets: list[tuple[str, Iterable[Pair]]] = [
        *((name, read_pairs(Path(rainy), Path(clean))) for name, rainy, clean in options.pairs),
        *((name, read_clean(Path(folder))) for name, folder in options.clean),
    ]
    try:
        engine = Engine(options.model)
        evaluations = [
            evaluate(engine.derain, name, options.role, tqdm(pairs, desc=name, unit="picture"))
            for name, pairs in sets or held_out_sets()
        ]
    except DerainError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(evaluation_table(evaluations))
    if options.record:
        kept = [e for e in engine.manifest.evaluations if e.name not in {new.name for new in evaluations}]
        manifest = engine.manifest.model_copy(update={"evaluations": [*kept, *evaluations]})
        write_model_texts(options.model, manifest)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", type=Path, help="a model folder, such as models/base")
    parser.add_argument(
        "--pairs",
        nargs=3,
        action="append",
        default=[],
        metavar=("NAME", "RAINY", "CLEAN"),
        help="two folders, matched by file name, or else by the last number in it "
        "(so not Rain1400's 1_14.jpg and 1.jpg); may be repeated",
    )
    parser.add_argument(
        "--clean",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "FOLDER"),
        help="pictures that have no rain",
    )
    parser.add_argument(
        "--role",
        choices=("validation", "test"),
        default="test",
        help="what the sets are to this model: was anything chosen by them?",
    )
    parser.add_argument(
        "--record", action="store_true", help="also write the scores into the manifest and the model card"
    )
    return parser.parse_args(arguments)


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise PairingError(f"{folder} is not a folder")
    found = sorted(path for path in folder.iterdir() if is_picture(path))
    if not found:
        raise PairingError(f"no pictures in {folder}")
    return found


def _keys(path: Path) -> list[str]:
    """What a picture is matched by, the best first: its name, then the last number in it."""
    numbers = re.findall(r"\d+", path.stem)
    return [f"name {path.stem}", *(f"number {int(number)}" for number in numbers[-1:])]


def _shrink(picture: Picture, longest_px: int) -> Picture:
    scale = longest_px / max(picture.shape[:2])
    if scale >= 1:
        return picture
    height, width = (round(side * scale) for side in picture.shape[:2])
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


if __name__ == "__main__":
    sys.exit(main())
