"""The scenes that a candidate and the current model are compared on."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from derain.arrays import Image, middle
from derain.errors import DerainError
from derain.images.plain import read_image
from derain.manifest import Manifest
from training.data.dead_leaves import Leaves, draw_leaves
from training.evaluation.held_out import HELD_OUT_SEED, rained_on
from training.evaluation.pairs import PairFiles
from training.evaluation.scoring import Case
from training.evaluation.sets import Middle
from training.evaluation.unseen import trained_on
from training.rain.drawn import DRAWN
from training.repository import HELD_OUT_PHOTOGRAPHS


@dataclass(frozen=True)
class Scene:
    """A clean image, and the rainy ones of it."""

    name: str
    cases: Sequence[Case]
    file: Path | None = None  # of the clean image; None: made by a rule


@dataclass(frozen=True)
class SceneSet:
    name: str
    scenes: Sequence[Scene]
    rains: Sequence[str] = ()  # where each scene is under the same ones, in this order: shown apart as well


OWN_SET = "drawn rain"
PIECE_PX = 200  # of held-out photographs: small, so that there are many
LEAVES = 10
GIVEN_PX = 480  # of sets that are named the middle is taken, this much a side at most


class GateError(DerainError):
    """Models that cannot be compared, or not on these images."""


def held_out_scenes() -> Iterator[Scene]:
    """The repository's own images, each under every family of drawn rain."""
    pieces = [
        (f"{path.stem} {number}", piece, path)
        for path in sorted(HELD_OUT_PHOTOGRAPHS.iterdir())
        for number, piece in enumerate(cut_pieces(read_image(path), PIECE_PX))
    ]
    leaves = [(f"leaves {i}", draw_leaves(Leaves(), HELD_OUT_SEED, i), None) for i in range(LEAVES)]
    for index, (name, clean, path) in enumerate([*pieces, *leaves]):
        piece = np.ascontiguousarray(middle(clean, PIECE_PX, PIECE_PX))
        yield Scene(name, [rained_on(drawn, index, (name, piece)) for drawn in DRAWN], path)


def cut_pieces(image: Image, side_px: int) -> list[Image]:
    """As many as fit side by side, none upon another, evenly spread."""
    height, width = image.shape[:2]
    rows, columns = max(1, height // side_px), max(1, width // side_px)
    return [
        middle(
            image[r * height // rows :, c * width // columns :][: height // rows, : width // columns],
            side_px,
            side_px,
        )
        for r in range(rows)
        for c in range(columns)
    ]


def scenes_of(files: Iterable[PairFiles]) -> list[Scene]:
    """Rainy images of one clean one together."""
    by_clean: dict[Path, list[PairFiles]] = {}
    for pair in files:
        by_clean.setdefault(pair.clean, []).append(pair)
    return [
        Scene(clean.name, [Middle(pair, GIVEN_PX) for pair in pairs], clean)
        for clean, pairs in by_clean.items()
    ]


def check_unseen(folder: Path, candidate: Manifest, sets: Iterable[SceneSet]) -> None:
    """Raises GateError for images of the folder that the candidate was trained on."""
    for each in sets:
        files = [scene.file for scene in each.scenes if scene.file is not None]
        if (found := trained_on(candidate, files)) is not None:
            path, photographs = found
            raise GateError(
                f"{folder} was trained on {photographs}, which has {path} of {each.name}: "
                "what it has seen says nothing of what it has not"
            )
