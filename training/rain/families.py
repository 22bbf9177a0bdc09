"""The rain families by name: what to train on, and what to keep for evaluation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from derain.arrays import Image
from derain.errors import DerainError
from training.image_folder import found_in, list_images
from training.rain.drawn import DRAWN
from training.rain.external import Albumentations, Imgaug
from training.rain.mixture import Mixture
from training.rain.rainmix import RainMix
from training.rain.streaks import RANGES, WIDE
from training.rain.textures import TextureRain
from training.rain.varied import ACCUMULATED, CURTAINS, DENSE, VARIED, VEILED
from training.repository import ROOT


class Family(Protocol):
    """Rain of one make: frozen parameters, and images that are a function of (seed, index)."""

    @property
    def name(self) -> str: ...

    held_out: ClassVar[bool]  # kept for evaluation: a score on it is a score on rain never seen

    def add(self, background: Image, seed: int, index: int) -> Image:
        """The background under rain number `index`, both uint8 (H, W, 3)."""
        ...


class UnknownRainError(DerainError):
    """A rain family that there is not, or that is not for what it was asked for."""


# What the models are trained on. Rain that can be seen: what is too faint or too dense for that teaches a
# network to leave all rain alone. Veils are rare: a network that sees many takes brightness off every pale
# scene, and off a night's.
MIXED = Mixture("mixed", (VARIED, CURTAINS, DENSE, VEILED, ACCUMULATED), (0.5, 0.12, 0.25, 0.05, 0.08))

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        *RANGES,
        VARIED,
        CURTAINS,
        VEILED,
        ACCUMULATED,
        DENSE,
        MIXED,
        RainMix("rainmix", WIDE),
        *DRAWN,
        Albumentations(),
        Imgaug(),
    )
}
TRAINABLE = tuple(name for name, family in FAMILIES.items() if not family.held_out)
HELD_OUT = tuple(name for name, family in FAMILIES.items() if family.held_out)


def family(text: str) -> Family:
    """A family by its name; `textures:FOLDER` and `rainmix:FOLDER` make one of rain layers of yours.

    Raises UnknownRainError for another name, and what reading the folder raises.
    """
    kind, _, folder = text.partition(":")
    if folder and kind in ("textures", "rainmix"):
        name = f"{kind}:{Path(folder).resolve().name}"  # the same wherever the folder lies
        textures = TextureRain(name, Path(folder))
        textures.layer(16, 16, 0, 0)  # a folder that cannot be used says so now
        return textures if kind == "textures" else RainMix(name, textures)
    if text not in FAMILIES:
        raise UnknownRainError(
            f"no rain family {text!r}: {', '.join(FAMILIES)}, textures:FOLDER or rainmix:FOLDER"
        )
    return FAMILIES[text]


def is_of_another_make(rain: Family) -> bool:
    """Whether a network trained in the generator's ranges has never seen its like."""
    return rain.held_out or isinstance(rain, TextureRain)


def layers_folder(rain: Family) -> Path | None:
    """The folder that its rain is cut from, whatever is made of it then."""
    source = rain.source if isinstance(rain, RainMix) else rain
    return source.folder if isinstance(source, TextureRain) else None


def is_same(rain: Family, other: Family) -> bool:
    """Whether they go by one name, or have a rain layer in common."""
    return rain.name == other.name or _shares_layers(rain, layers_folder(other))


def is_of_recipe(rain: Family, recipe_rain: Mapping[str, Any]) -> bool:
    """The same of the rain of a recipe, as `recipes.describe` has it."""
    folder = recipe_rain.get("source", recipe_rain).get("folder")
    return rain.name == recipe_rain["name"] or _shares_layers(rain, folder and ROOT / folder)


def _shares_layers(rain: Family, folder: Path | None) -> bool:
    own = layers_folder(rain)
    return bool(own and folder and found_in(folder, list_images(own)))


def trainable(text: str) -> Family:
    """As `family`, of those that may be trained on."""
    found = family(text)
    if found.held_out:
        raise UnknownRainError(
            f"{text} is kept for evaluation; train on {', '.join(TRAINABLE)}, "
            "textures:FOLDER or rainmix:FOLDER"
        )
    return found
