"""Several families at once: each picture has the rain of one of them."""

from dataclasses import dataclass
from typing import ClassVar

from derain.arrays import Picture
from training.rain.streaks import RainRange
from training.rain.varied import VariedRain
from training.randomness import Purpose, generator


@dataclass(frozen=True)
class Mixture:
    name: str
    families: tuple[RainRange | VariedRain, ...]
    shares: tuple[float, ...]  # of the pictures, for each family

    held_out: ClassVar[bool] = False

    def add(self, background: Picture, seed: int, index: int) -> Picture:
        """The background under rain number `index`, uint8 (H, W, 3)."""
        chosen = generator(Purpose.MIXTURE, seed, index).choice(len(self.families), p=self.shares)
        return self.families[chosen].add(background, seed, index)
