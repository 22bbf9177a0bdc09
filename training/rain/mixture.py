"""Several families at once: each image has the rain of one of them."""

from dataclasses import dataclass
from typing import ClassVar

from derain.arrays import Image
from training.rain.varied import Layer, VariedRain
from training.seeding import Purpose, generator


@dataclass(frozen=True)
class Mixture:
    name: str
    families: tuple[VariedRain, ...]
    shares: tuple[float, ...]  # of the images, for each family

    held_out: ClassVar[bool] = False

    def add(self, background: Image, seed: int, index: int) -> Image:
        """The background under rain number `index`, uint8 (H, W, 3)."""
        return self.family_of(seed, index).add(background, seed, index)

    def layers_of(self, seed: int, index: int) -> list[Layer]:
        """What the rain of `add` consists of."""
        return self.family_of(seed, index).layers_of(seed, index)

    def family_of(self, seed: int, index: int) -> VariedRain:
        """The one whose rain image `index` has."""
        chosen = generator(Purpose.MIXTURE, seed, index).choice(len(self.families), p=self.shares)
        return self.families[chosen]
