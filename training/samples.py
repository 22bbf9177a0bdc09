"""Training samples: a patch of background, and the same patch in the rain."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from derain.arrays import Picture
from derain.tiling import Span, Tile, place, spread
from training.backgrounds import BackgroundError, cut_patch, draw_leaves, list_pictures, load_folder, subset
from training.camera import photograph
from training.facades import draw_facade
from training.lines import draw_lines
from training.rain.families import Family
from training.rain.rainmix import RainMix
from training.rain.textures import TextureRain
from training.randomness import Purpose, generator
from training.recipes import Recipe
from training.survey import facts
from training.tone import tone

Tensors = tuple[Tensor, ...]


class Samples(Dataset[Tensors]):
    """Sample `index` of a recipe: rainy and clean, both uint8 (3, patch, patch).

    Where there is a survey: windows of a scene for it to see, uint8 (3 x windows, window, window); where
    patches of that scene lie in it, float32 (patches, 2, rows, columns), as `derain.tiling.place` has it; and
    the patches, rainy and clean, uint8 (patches, 3, patch, patch). A function of (seed, index), whichever
    process makes it and whatever was made before.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.photographs: list[Picture] = []
        if recipe.photographs is not None:
            # What is smaller than what is cut is enlarged; beyond four times nothing is left to learn from.
            cut_px = recipe.survey.scene_px if recipe.survey is not None else recipe.patch_px
            self.photographs = load_folder(
                recipe.photographs, recipe.photograph_count, recipe.seed, smallest_px=cut_px // 4
            )
        self._drawn_leaves: dict[int, Picture] = {}
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
        recipe, survey = self.recipe, self.recipe.survey
        patch_px = recipe.patch_px_at(index // recipe.batch)
        if survey is None:
            rainy, clean = self._draw(index, patch_px)
            return _channels_first(rainy), _channels_first(clean)
        scene = self._draw(index, survey.scene_px)
        windows = spread(scene[0], survey.look.windows, survey.window_px, survey.window_px)

        rng = generator(Purpose.PATCHES, recipe.seed, index)
        corners = rng.integers(0, survey.scene_px - patch_px + 1, (survey.patches, 2))
        tiles = [_square(top, left, patch_px) for top, left in corners.tolist()]
        cells = [place(survey.scene_px, survey.scene_px, recipe.network.alignment_px, tile) for tile in tiles]
        places = torch.from_numpy(np.stack(cells))
        rainy_patches, clean_patches = (
            torch.stack([_channels_first(tile.of(side)) for tile in tiles]) for side in scene
        )
        return _channels_first(np.concatenate(windows, axis=2)), places, rainy_patches, clean_patches

    def _draw(self, index: int, side_px: int) -> tuple[Picture, Picture]:
        """A square in the rain and dry."""
        recipe = self.recipe
        rng = generator(Purpose.SAMPLE, recipe.seed, index)
        from_leaves = not self.photographs or (recipe.leaves_count and rng.random() < recipe.leaves_share)
        number = int(rng.integers(recipe.leaves_count if from_leaves else len(self.photographs)))
        clean = cut_patch(self._leaves(number) if from_leaves else self.photographs[number], side_px, rng)
        if rng.random() < recipe.tone_share:
            clean = tone(clean, recipe.seed, index)
        if rng.random() < recipe.line_share:
            clean = draw_lines(clean, recipe.seed, index)
        # Without any, no number is drawn: samples are those that recipes gave before there were façades.
        if recipe.facade_share and rng.random() < recipe.facade_share:
            clean = draw_facade(clean, recipe.seed, index)
        stays_dry = rng.random() < recipe.clean_share
        rain = recipe.rain_at(index // recipe.batch)
        rainy = clean if stays_dry else rain.add(clean, recipe.seed, index)
        if rng.random() < recipe.camera_share:
            rainy, clean = photograph((rainy, clean), recipe.seed, index)
        return rainy, clean

    def _leaves(self, number: int) -> Picture:
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


class SurveySamples(Samples):
    """What a survey learns from: windows in the rain, uint8 (3, window, window), and facts, (FINDINGS,)."""

    def __getitem__(self, index: int) -> Tensors:
        recipe = self.recipe
        assert recipe.survey is not None
        rainy, clean = self._draw(index, recipe.survey.window_px)
        layers = recipe.survey.rain.layers_of(recipe.seed, index)
        return _channels_first(rainy), torch.from_numpy(facts(layers, rainy, clean))


def _square(top: int, left: int, side_px: int) -> Tile:
    rows, columns = (Span(start, start + side_px, start, start + side_px) for start in (top, left))
    return Tile(rows, columns)


def _folder(rain: Family) -> Path | None:
    """Of the layers that the rain is cut from."""
    layers = rain.source if isinstance(rain, RainMix) else rain
    return layers.folder if isinstance(layers, TextureRain) else None


def _channels_first(picture: Picture) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
