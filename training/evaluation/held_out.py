"""The repository's own validation sets: drawn rain over images that no recipe trains on."""

from collections.abc import Iterator

from derain.arrays import Picture
from derain.image import read_picture
from training.data.dead_leaves import Leaves, draw_leaves
from training.data.resize import shrink
from training.evaluation.pairs import Pair
from training.rain.drawn import DRAWN
from training.rain.families import Family
from training.repository import HELD_OUT_PHOTOGRAPHS

HELD_OUT_SEED = 1_000_003  # no recipe's
OWN_KIND = "drawn"  # of the four families of drawn rain together


def held_out_sets(longest_px: int = 480) -> Iterator[tuple[str, list[Pair]]]:
    """The repository's own validation sets: rain families and pictures never trained on."""
    backgrounds = held_out_backgrounds(longest_px)
    for drawn in DRAWN:
        yield f"drawn {drawn.name}", [rained_on(drawn, *item) for item in enumerate(backgrounds.items())]


def held_out_backgrounds(longest_px: int = 480) -> dict[str, Picture]:
    photographs = {path.stem: read_picture(path) for path in sorted(HELD_OUT_PHOTOGRAPHS.iterdir())}
    leaves = {f"leaves-{i}": draw_leaves(Leaves(), HELD_OUT_SEED, i) for i in range(2)}
    return {name: shrink(picture, longest_px) for name, picture in (photographs | leaves).items()}


def rained_on(family: Family, index: int, named: tuple[str, Picture]) -> Pair:
    name, clean = named
    return Pair(name, family.add(clean, HELD_OUT_SEED, index), clean)
