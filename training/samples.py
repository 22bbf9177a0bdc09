"""Training samples: a patch of background, and the same patch in the rain."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from derain.arrays import Picture
from training.backgrounds import BackgroundError, cut_patch, draw_leaves, list_pictures, load_folder, subset
from training.camera import photograph
from training.lines import draw_lines
from training.rain.families import Family
from training.rain.rainmix import RainMix
from training.rain.textures import TextureRain
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
        # Tells the pictures that samples are made of: names, contents and order.
        self.digest = self._digest()

    @property
    def folders(self) -> list[Path]:
        """Where they lie."""
        folders = (self.recipe.photographs, _folder(self.recipe.rain))
        return [folder for folder in folders if folder is not None]

    def __len__(self) -> int:
        return self.recipe.steps * self.recipe.batch

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        recipe = self.recipe
        rng = generator(Purpose.SAMPLE, recipe.seed, index)
        from_leaves = not self.photographs or (self.leaves and rng.random() < recipe.leaves_share)
        pictures = self.leaves if from_leaves else self.photographs
        step = index // recipe.batch
        clean = cut_patch(pictures[rng.integers(len(pictures))], recipe.patch_px_at(step), rng)
        if rng.random() < recipe.line_share:
            clean = draw_lines(clean, recipe.seed, index)
        stays_dry = rng.random() < recipe.clean_share
        rainy = clean if stays_dry else recipe.rain_at(step).add(clean, recipe.seed, index)
        if rng.random() < recipe.camera_share:
            rainy, clean = photograph((rainy, clean), recipe.seed, index)
        return _channels_first(rainy), _channels_first(clean)

    def _digest(self) -> str:
        recipe = self.recipe
        paths: list[Path] = []
        if recipe.photographs is not None:
            paths += subset(list_pictures(recipe.photographs), recipe.photograph_count, recipe.seed)
        if (folder := _folder(recipe.rain)) is not None:
            paths += list_pictures(folder)
        digest = sha256()
        for path in paths:
            digest.update(sha256(path.name.encode()).digest() + sha256(path.read_bytes()).digest())
        return digest.hexdigest()


def _folder(rain: Family) -> Path | None:
    """Of the layers that the rain is cut from."""
    layers = rain.source if isinstance(rain, RainMix) else rain
    return layers.folder if isinstance(layers, TextureRain) else None


def _channels_first(picture: Picture) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
