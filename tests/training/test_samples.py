"""Training samples."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training.survey import Look

from derain.image import PNG, encode
from derain.tiling import QUARTERS, spread
from tests.training.conftest import SURVEYED
from training.backgrounds import BackgroundError
from training.rain.varied import VARIED
from training.recipes import Recipe
from training.samples import Samples


def test_sample_is_a_function_of_its_index(tiny_recipe: Recipe) -> None:
    one, other = Samples(tiny_recipe), Samples(tiny_recipe)
    forwards = [one[index] for index in range(len(one))]
    backwards = [other[index] for index in reversed(range(len(other)))]
    assert len(one) == tiny_recipe.steps * tiny_recipe.batch
    for (rainy, clean), (rainy_again, clean_again) in zip(forwards, reversed(backwards), strict=True):
        assert torch.equal(rainy, rainy_again)
        assert torch.equal(clean, clean_again)
        assert rainy.shape == clean.shape == (3, tiny_recipe.patch_px, tiny_recipe.patch_px)
        assert rainy.dtype == clean.dtype == torch.uint8
        assert (rainy >= clean).all()
    assert len({rainy.numpy().tobytes() for rainy, _ in forwards}) == len(forwards)


def test_seed_decides_the_samples(tiny_recipe: Recipe) -> None:
    assert not torch.equal(Samples(tiny_recipe)[0][0], Samples(replace(tiny_recipe, seed=1))[0][0])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_clean_share_stays_dry(tiny_recipe: Recipe, share: float) -> None:
    samples = Samples(replace(tiny_recipe, clean_share=share))
    pairs = [samples[index] for index in range(200)]
    dry = np.mean(
        [torch.equal(*pair) for pair in pairs if pair[1].float().mean() < 250]
    )  # rain on white is white
    assert dry == pytest.approx(share, abs=0.12 if 0 < share < 1 else 0)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_leaves_share_is_cut_from_leaves(tiny_recipe: Recipe, tmp_path: Path, share: float) -> None:
    """The photograph is black and white noise: no patch of flat leaves is nearly as rough."""
    noise = 255 * np.random.default_rng(0).integers(0, 2, (32, 32, 3), dtype=np.uint8)
    (tmp_path / "noise.png").write_bytes(encode(noise, PNG))
    samples = Samples(replace(tiny_recipe, photographs=tmp_path, leaves_share=share))
    roughness = [float(samples[index][1].float().diff(dim=2).abs().mean()) for index in range(100)]
    from_leaves = np.mean(np.array(roughness) < 30)
    assert from_leaves == pytest.approx(share, abs=0.15 if share == 0.5 else 0)


def test_late_patches_are_larger(tiny_recipe: Recipe) -> None:
    """6 steps of 4 patches: the last third is 8 of them."""
    samples = Samples(replace(tiny_recipe, late_patch_px=24, late_share=1 / 3))
    assert [samples[index][0].shape[-1] for index in range(len(samples))] == [16] * 16 + [24] * 8


def test_early_rain_comes_first(tiny_recipe: Recipe) -> None:
    """6 steps of 4 patches: the first third is 8 of them."""
    samples = Samples(replace(tiny_recipe, early_rain=VARIED, early_share=1 / 3))
    early, rain = Samples(replace(tiny_recipe, rain=VARIED)), Samples(tiny_recipe)
    for index in range(len(samples)):
        expected = (early if index < 2 * tiny_recipe.batch else rain)[index]
        assert torch.equal(samples[index][0], expected[0])


def test_tone_lines_and_the_camera_change_rainy_and_clean_alike(tiny_recipe: Recipe) -> None:
    plain = Samples(replace(tiny_recipe, clean_share=1.0))
    changed = Samples(replace(plain.recipe, tone_share=1.0, line_share=1.0, camera_share=1.0))
    pairs = [changed[index] for index in range(len(plain))]
    assert all(torch.equal(*pair) for pair in pairs)
    # Some lines run beside the patch, and some cameras take no notice.
    others = [not torch.equal(pair[1], plain[index][1]) for index, pair in enumerate(pairs)]
    assert np.mean(others) > 0.8


def test_no_backgrounds_at_all_is_an_error(tiny_recipe: Recipe) -> None:
    with pytest.raises(BackgroundError, match="tiny has neither photographs nor leaves"):
        Samples(replace(tiny_recipe, leaves_count=0))


def test_too_small_a_picture_is_refused_by_name(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """A patch of 16 px may be enlarged from 4 px, not from less."""
    recipe = replace(tiny_recipe, photographs=tmp_path)
    (tmp_path / "smallish.png").write_bytes(encode(np.zeros((4, 50, 3), dtype=np.uint8), PNG))
    assert Samples(recipe)[0][0].shape == (3, 16, 16)
    (tmp_path / "icon.png").write_bytes(encode(np.zeros((50, 3, 3), dtype=np.uint8), PNG))
    with pytest.raises(BackgroundError, match=r"icon\.png is 3 x 50 pixels: .* 4 a side is the least"):
        Samples(recipe)


@pytest.mark.parametrize("windows", [1, QUARTERS])
def test_patches_are_cut_from_the_scene_that_is_surveyed(tiny_recipe: Recipe, windows: int) -> None:
    survey = replace(SURVEYED, patches=3, look=Look(windows))
    samples = Samples(replace(tiny_recipe, survey=survey, late_patch_px=24, late_share=1 / 3))
    # The same rain as on a patch of the scene's size.
    whole = Samples(replace(samples.recipe, survey=None, patch_px=survey.scene_px, late_share=0.0))
    for index in range(len(samples)):
        overview, place, rainy, clean = samples[index]
        side_px = 24 if index >= 16 else 16
        assert rainy.shape == clean.shape == (3, 3, side_px, side_px)
        assert {each.dtype for each in (overview, rainy, clean)} == {torch.uint8}
        scene = whole[index][0]
        seen = spread(scene.permute(1, 2, 0).numpy(), windows, survey.window_px, survey.window_px)
        assert torch.equal(overview, torch.from_numpy(np.concatenate(seen, axis=2)).permute(2, 0, 1))
        for patch, cells in zip(rainy, place, strict=True):
            # The middle of the first cell of 4 px says where the patch was cut.
            top, left = ((cells[:, 0, 0] + 1) * survey.scene_px / 2 - 2).round().int().tolist()
            assert torch.equal(scene[:, top : top + side_px, left : left + side_px], patch)
            assert cells.shape == (2, side_px // 4, side_px // 4)
