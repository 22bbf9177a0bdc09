"""The repository's own validation sets: drawn rain over images that no recipe trains on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from derain.arrays import Image
from derain.images.plain import read_image
from derain.inference.engine import Engine
from derain.manifest import Evaluation
from training.data.dead_leaves import Leaves, draw_leaves
from training.data.resize import shrink
from training.evaluation.pairs import Pair
from training.evaluation.scoring import evaluate
from training.rain.drawn import DRAWN
from training.rain.families import Family
from training.repository import HELD_OUT_PHOTOGRAPHS

HELD_OUT_SEED = 1_000_003  # no recipe's
OWN_KIND = "drawn"  # of the four families of drawn rain together


@dataclass(frozen=True)
class HeldOut:
    """Images that no recipe trains on, to be put under rain that no recipe trains on."""

    photographs: Path = HELD_OUT_PHOTOGRAPHS
    leaves: int = 2
    longest_px: int = 480

    def backgrounds(self) -> dict[str, Image]:
        """Clean images by name, uint8 (H, W, 3)."""
        photographs = {path.stem: read_image(path) for path in sorted(self.photographs.iterdir())}
        leaves = {f"leaves-{i}": draw_leaves(Leaves(), HELD_OUT_SEED, i) for i in range(self.leaves)}
        return {name: shrink(image, self.longest_px) for name, image in (photographs | leaves).items()}

    def pairs(self, rain: Family) -> list[Pair]:
        """Each background under the rain."""
        return [rained_on(rain, *item) for item in enumerate(self.backgrounds().items())]

    def sets(self) -> Iterator[tuple[str, list[Pair]]]:
        """Names and pairs: every family of drawn rain over all backgrounds."""
        backgrounds = self.backgrounds()
        for drawn in DRAWN:
            yield f"drawn {drawn.name}", [rained_on(drawn, *item) for item in enumerate(backgrounds.items())]

    def score(self, model: Path) -> list[Evaluation]:
        """Of a model folder, through the engine that serves it; validation, for choices are made by these."""
        engine = Engine(model)
        scores = [evaluate(engine.derain, name, "validation", pairs, OWN_KIND) for name, pairs in self.sets()]
        engine.close()
        return scores


HELD_OUT = HeldOut()


def rained_on(family: Family, index: int, named: tuple[str, Image]) -> Pair:
    name, clean = named
    return Pair(name, family.add(clean, HELD_OUT_SEED, index), clean)
