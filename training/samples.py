"""Training samples: a patch of background, and the same patch in the rain."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from derain.arrays import Picture
from training.backgrounds import BackgroundError, cut_patch, draw_leaves, load_folder
from training.randomness import Purpose, generator
from training.recipes import Recipe


class Samples(Dataset[tuple[Tensor, Tensor]]):
    """Sample `index` of a recipe: rainy and clean, both uint8 (3, patch, patch).

    A function of (seed, index), whichever process makes it and whatever was made before.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.photographs: list[Picture] = []
        if recipe.photographs is not None:
            # What is smaller than a patch is enlarged; beyond four times nothing is left to learn from.
            self.photographs = load_folder(
                recipe.photographs, recipe.photograph_count, recipe.seed, smallest_px=recipe.patch_px // 4
            )
        self.leaves = [draw_leaves(recipe.leaves, recipe.seed, i) for i in range(recipe.leaves_count)]
        if not self.photographs and not self.leaves:
            raise BackgroundError(f"recipe {recipe.name} has neither photographs nor leaves to train on")

    def __len__(self) -> int:
        return self.recipe.steps * self.recipe.batch

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        recipe = self.recipe
        rng = generator(Purpose.SAMPLE, recipe.seed, index)
        from_leaves = not self.photographs or (self.leaves and rng.random() < recipe.leaves_share)
        pictures = self.leaves if from_leaves else self.photographs
        clean = cut_patch(pictures[rng.integers(len(pictures))], recipe.patch_px, rng)
        rain = recipe.rain_at(index // recipe.batch)
        stays_dry = rng.random() < recipe.clean_share
        rainy = clean if stays_dry else rain.add(clean, recipe.seed, index)
        return _channels_first(rainy), _channels_first(clean)


def _channels_first(picture: Picture) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
