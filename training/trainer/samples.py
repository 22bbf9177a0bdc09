"""Training samples: a patch of background, and the same patch in the rain."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from derain.arrays import Image
from training.data.appearance import draw_scale, photograph, resized, tone
from training.data.backgrounds import cut_patch, load_folder
from training.data.dead_leaves import draw_leaves
from training.data.distractors.documents import draw_document
from training.data.distractors.facades import draw_facade
from training.data.distractors.lines import draw_lines
from training.image_folder import BackgroundError, list_images, subset
from training.rain.descriptor import facts
from training.rain.families import Family, layers_folder
from training.rain.mixture import Mixture
from training.rain.varied import Layer, VariedRain
from training.recipes import Recipe
from training.seeding import Purpose, generator

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
        backgrounds = recipe.backgrounds
        if backgrounds.photographs is not None:
            # What is smaller than what is cut is enlarged; beyond four times nothing is left to learn from.
            self.photographs = load_folder(
                backgrounds.photographs,
                backgrounds.photograph_count,
                recipe.seed,
                smallest_px=self._side_px(recipe.course.patch_px) // 4,
            )
        self._drawn_leaves: dict[int, Image] = {}
        if not self.photographs and not backgrounds.leaves_count:
            raise BackgroundError(f"recipe {recipe.name} has neither photographs nor leaves to train on")
        # Tells the images that samples are made of: names, contents and order.
        self.digest = self._digest()

    @property
    def folders(self) -> list[Path]:
        """Where they lie."""
        folders = (self.recipe.backgrounds.photographs, layers_folder(self.recipe.rain))
        return [folder for folder in folders if folder is not None]

    def __len__(self) -> int:
        return self.recipe.course.steps * self.recipe.course.batch

    def __getitem__(self, index: int) -> Tensors:
        recipe, scenes, course = self.recipe, self.recipe.scenes, self.recipe.course
        patch_px = course.patch_px_at(index // course.batch)
        side_px = self._side_px(patch_px)

        # Background and rain at the scale that the rain is drawn at, and then at that of the sample.
        scale = draw_scale(scenes.enlarged_share, scenes.reduced_share, recipe.seed, index)
        rng = generator(Purpose.SAMPLE, recipe.seed, index)
        clean, looks_like_rain = self._background(max(8, round(side_px / scale)), rng, index)
        dry_share = scenes.lookalike_dry_share if looks_like_rain else scenes.dry_share
        rainy = clean if rng.random() < dry_share else recipe.rain.add(clean, recipe.seed, index)
        expected = facts(_layers(recipe.rain, recipe.seed, index), rainy, clean, scale)
        rainy, clean = resized(rainy, side_px), resized(clean, side_px)
        if rng.random() < scenes.camera_share:
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
        backgrounds, scenes, seed = self.recipe.backgrounds, self.recipe.scenes, self.recipe.seed
        from_leaves = not self.photographs or (
            backgrounds.leaves_count and rng.random() < backgrounds.leaves_share
        )
        number = int(rng.integers(backgrounds.leaves_count if from_leaves else len(self.photographs)))
        scene = cut_patch(self._leaves(number) if from_leaves else self.photographs[number], side_px, rng)
        kind, looks_like_rain = rng.random(), True
        if kind < scenes.document_share:
            scene = draw_document(side_px, side_px, seed, index)
        elif (kind := kind - scenes.document_share) < scenes.facade_share:
            scene = draw_facade(scene, seed, index)
        elif kind - scenes.facade_share < scenes.line_share:
            scene = draw_lines(scene, seed, index)
        else:
            looks_like_rain = False
        if rng.random() < scenes.tone_share:
            scene = tone(scene, seed, index)
        return scene, looks_like_rain

    def _leaves(self, number: int) -> Image:
        """Drawn when they are first asked for: a short training needs few of them."""
        if number not in self._drawn_leaves:
            self._drawn_leaves[number] = draw_leaves(self.recipe.backgrounds.leaves, self.recipe.seed, number)
        return self._drawn_leaves[number]

    def _digest(self) -> str:
        backgrounds = self.recipe.backgrounds
        paths: list[Path] = []
        if backgrounds.photographs is not None:
            listed = list_images(backgrounds.photographs)
            paths += subset(listed, backgrounds.photograph_count, self.recipe.seed)
        if (folder := layers_folder(self.recipe.rain)) is not None:
            paths += list_images(folder)
        digest = sha256()
        for path in paths:
            digest.update(sha256(path.name.encode()).digest() + sha256(path.read_bytes()).digest())
        return digest.hexdigest()


def _layers(rain: Family, seed: int, index: int) -> list[Layer] | None:
    """What the rain consists of, where it says so."""
    return rain.layers_of(seed, index) if isinstance(rain, Mixture | VariedRain) else None


def _channels_first(image: Image) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
