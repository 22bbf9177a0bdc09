"""Training samples: a patch of background, and the same patch in the rain."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from derain.arrays import Image
from training.backgrounds import BackgroundError, cut_patch, draw_leaves, list_pictures, load_folder, subset
from training.camera import photograph
from training.documents import draw_document
from training.estimator import facts
from training.facades import draw_facade
from training.lines import draw_lines
from training.rain.families import Family
from training.rain.mixture import Mixture
from training.rain.rainmix import RainMix
from training.rain.textures import TextureRain
from training.rain.varied import Layer, VariedRain
from training.randomness import Purpose, generator
from training.recipes import Recipe
from training.resampling import draw_scale, resized
from training.tone import tone

Tensors = tuple[Tensor, ...]


class Samples(Dataset[Tensors]):
    """Sample `index` of a recipe: rainy and clean, both uint8 (3, patch, patch).

    Where there is an estimator, the rainy scene that they are cut from too, uint8 (3, scene, scene), and what
    is to be estimated of it, (FACTS,). A function of (seed, index), whichever process makes it and whatever
    was made before.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.photographs: list[Image] = []
        if recipe.photographs is not None:
            # What is smaller than what is cut is enlarged; beyond four times nothing is left to learn from.
            self.photographs = load_folder(
                recipe.photographs,
                recipe.photograph_count,
                recipe.seed,
                smallest_px=self._side_px(recipe.patch_px) // 4,
            )
        self._drawn_leaves: dict[int, Image] = {}
        if not self.photographs and not recipe.leaves_count:
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

    def __getitem__(self, index: int) -> Tensors:
        recipe = self.recipe
        patch_px = recipe.patch_px_at(index // recipe.batch)
        side_px = self._side_px(patch_px)

        # Background and rain at the scale that the rain is drawn at, and then at that of the sample.
        scale = draw_scale(recipe.enlarged_share, recipe.reduced_share, recipe.seed, index)
        rng = generator(Purpose.SAMPLE, recipe.seed, index)
        clean, looks_like_rain = self._background(max(8, round(side_px / scale)), rng, index)
        dry_share = recipe.lookalike_dry_share if looks_like_rain else recipe.dry_share
        rainy = clean if rng.random() < dry_share else recipe.rain.add(clean, recipe.seed, index)
        expected = facts(_layers(recipe.rain, recipe.seed, index), rainy, clean, scale)
        rainy, clean = resized(rainy, side_px), resized(clean, side_px)
        if rng.random() < recipe.camera_share:
            rainy, clean = photograph((rainy, clean), recipe.seed, index)

        top, left = rng.integers(0, side_px - patch_px + 1, 2)
        inside = slice(top, top + patch_px), slice(left, left + patch_px)
        patches = [_channels_first(side[inside]) for side in (rainy, clean)]
        if recipe.model.estimator is None:
            return tuple(patches)
        return *patches, _channels_first(rainy), torch.from_numpy(expected)

    def _side_px(self, patch_px: int) -> int:
        """Of the scene that is drawn."""
        model = self.recipe.model
        return patch_px if model.estimator is None else max(model.context_px, patch_px)

    def _background(self, side_px: int, rng: np.random.Generator, index: int) -> tuple[Image, bool]:
        """A square without rain, and whether something in it looks like some."""
        recipe = self.recipe
        from_leaves = not self.photographs or (recipe.leaves_count and rng.random() < recipe.leaves_share)
        number = int(rng.integers(recipe.leaves_count if from_leaves else len(self.photographs)))
        scene = cut_patch(self._leaves(number) if from_leaves else self.photographs[number], side_px, rng)
        kind, looks_like_rain = rng.random(), True
        if kind < recipe.document_share:
            scene = draw_document(side_px, side_px, recipe.seed, index)
        elif (kind := kind - recipe.document_share) < recipe.facade_share:
            scene = draw_facade(scene, recipe.seed, index)
        elif kind - recipe.facade_share < recipe.line_share:
            scene = draw_lines(scene, recipe.seed, index)
        else:
            looks_like_rain = False
        if rng.random() < recipe.tone_share:
            scene = tone(scene, recipe.seed, index)
        return scene, looks_like_rain

    def _leaves(self, number: int) -> Image:
        """Drawn when they are first asked for: a short training needs few of them."""
        if number not in self._drawn_leaves:
            self._drawn_leaves[number] = draw_leaves(self.recipe.leaves, self.recipe.seed, number)
        return self._drawn_leaves[number]

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


def _layers(rain: Family, seed: int, index: int) -> list[Layer] | None:
    """What the rain consists of, where it says so."""
    return rain.layers_of(seed, index) if isinstance(rain, Mixture | VariedRain) else None


def _folder(rain: Family) -> Path | None:
    """Of the layers that the rain is cut from."""
    layers = rain.source if isinstance(rain, RainMix) else rain
    return layers.folder if isinstance(layers, TextureRain) else None


def _channels_first(picture: Image) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
