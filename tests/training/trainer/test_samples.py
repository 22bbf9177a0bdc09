"""Training samples."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from derain.images.formats import PNG
from derain.images.plain import encode
from tests.training.conftest import RAIN, TOLD_RAIN, changed
from training.data.appearance import draw_scale
from training.image_folder import BackgroundError
from training.rain.descriptor import ANGLES_DEG, FACTS
from training.recipes import RECIPES, Recipe
from training.trainer.samples import Samples


def with_share(recipe: Recipe, name: str, share: float) -> Recipe:
    return changed(recipe, **{name: share})


def places_of(patch: Tensor, scene: Tensor) -> list[tuple[int, int]]:
    """Where in the scene the patch is, to the last level."""
    side_px = patch.shape[-1]
    windows = scene.unfold(1, side_px, 1).unfold(2, side_px, 1)  # (3, rows, columns, side, side)
    is_there = (windows == patch[:, None, None]).flatten(3).all(dim=3).all(dim=0)
    return [(top, left) for top, left in is_there.nonzero().tolist()]


def test_sample_is_a_function_of_its_index(tiny_recipe: Recipe) -> None:
    one, other = Samples(tiny_recipe), Samples(tiny_recipe)
    forwards = [one[index] for index in range(len(one))]
    backwards = [other[index] for index in reversed(range(len(other)))]
    assert len(one) == tiny_recipe.course.steps * tiny_recipe.course.batch
    for (rainy, clean), (rainy_again, clean_again) in zip(forwards, reversed(backwards), strict=True):
        assert torch.equal(rainy, rainy_again)
        assert torch.equal(clean, clean_again)
        assert rainy.shape == clean.shape == (3, tiny_recipe.course.patch_px, tiny_recipe.course.patch_px)
        assert rainy.dtype == clean.dtype == torch.uint8
        assert (rainy >= clean).all()
    assert len({rainy.numpy().tobytes() for rainy, _ in forwards}) == len(forwards)


def test_scene_and_facts_are_a_function_of_the_index_too(mixed_recipe: Recipe) -> None:
    """Whatever kind of sample it is, and whatever was made before it."""
    one, other = Samples(mixed_recipe), Samples(mixed_recipe)
    forwards = [one[index] for index in range(len(one))]
    for index in reversed(range(len(other))):
        again = other[index]
        assert all(torch.equal(*each) for each in zip(forwards[index], again, strict=True))
        rainy, clean, scene, facts = again
        side_px = 24 if index >= 16 else 16
        assert rainy.shape == clean.shape == (3, side_px, side_px)
        assert scene.shape == (3, 32, 32)
        assert rainy.dtype == clean.dtype == scene.dtype == torch.uint8
        assert (facts.shape, facts.dtype) == ((FACTS,), torch.float32)


def test_seed_decides_the_samples(mixed_recipe: Recipe) -> None:
    samples, others = Samples(mixed_recipe), Samples(changed(mixed_recipe, seed=1))
    for ours, theirs in zip(samples[0], others[0], strict=True):
        assert not torch.equal(ours, theirs)


def test_patches_are_cut_from_the_scene_that_the_estimator_sees(mixed_recipe: Recipe) -> None:
    samples = Samples(mixed_recipe)
    corners = set()
    for index in range(len(samples)):
        rainy, _, scene, _ = samples[index]
        places = places_of(rainy, scene)
        assert places, index
        corners.add(places[0])
    assert len(corners) > 0.5 * len(samples)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_dry_samples_are_their_clean_ones(mixed_recipe: Recipe, share: float) -> None:
    """To the last level, whatever was done to them: noise, JPEG, another light and another scale.

    Of dense rain on what is no white page, where nobody could see it.
    """
    shares: dict[str, Any] = {"dry_share": share, "lookalike_dry_share": share, "document_share": 0.0}
    samples = Samples(changed(mixed_recipe, rain=RAIN, late_share=0.0, steps=50, **shares))
    made = [samples[index] for index in range(len(samples))]
    is_dry = np.array([bool(torch.equal(rainy, clean)) for rainy, clean, _, _ in made])
    says_so = np.array([facts[-2].item() == 0 for *_, facts in made])
    assert is_dry.mean() == pytest.approx(share, abs=0.1 if share < 1 else 0)
    assert (is_dry == says_so).mean() > 0.97, "rain may fall beside the patch"


@pytest.mark.slow
def test_lookalikes_are_dry_more_often(mixed_recipe: Recipe) -> None:
    """As often as it says of them, and the others as often as it says of those."""
    alone = changed(mixed_recipe, steps=25, line_share=0.0, facade_share=0.0, document_share=0.0)
    for share in ("line_share", "facade_share", "document_share"):
        recipe = changed(with_share(alone, share, 1.0), lookalike_dry_share=1.0, dry_share=0.0)
        samples = Samples(recipe)
        assert all(torch.equal(*samples[index][:2]) for index in range(len(samples)))
    others = Samples(changed(alone, lookalike_dry_share=1.0, dry_share=0.0))
    assert np.mean([others[index][3][-2].item() for index in range(len(others))]) > 0.9


def test_shares_of_what_looks_like_rain_are_of_all_samples(mixed_recipe: Recipe) -> None:
    """None is counted twice: a document is no façade as well."""
    samples = Samples(changed(mixed_recipe, line_share=0.1, facade_share=0.3, document_share=0.2))
    kinds = Counter(samples._background(32, np.random.default_rng(index), index)[1] for index in range(300))
    assert kinds[True] / 300 == pytest.approx(0.6, abs=0.09)


@pytest.mark.parametrize("shares", [(1.0, 0.0), (0.0, 1.0)], ids=["enlarged", "reduced"])
def test_facts_are_of_the_streaks_as_they_are_seen(
    conditioned_recipe: Recipe, shares: tuple[float, float]
) -> None:
    """They are as much longer and wider as the scene is then; the rest of what they are is the same."""
    enlarged, reduced = shares
    plain = Samples(conditioned_recipe)
    resized = Samples(changed(conditioned_recipe, enlarged_share=enlarged, reduced_share=reduced))
    drawn = slice(0, len(ANGLES_DEG) + 7)
    for index in range(6):
        gained = (resized[index][3] - plain[index][3])[drawn]
        expected = torch.zeros_like(gained)
        scale = draw_scale(enlarged, reduced, conditioned_recipe.seed, index)
        expected[len(ANGLES_DEG) : len(ANGLES_DEG) + 2] = np.log(scale)
        torch.testing.assert_close(gained, expected, rtol=1e-4, atol=1e-5)


def test_streaks_of_an_enlarged_scene_are_wide(conditioned_recipe: Recipe) -> None:
    """Across them the rain changes as much more slowly as the scene was enlarged."""
    steep = replace(TOLD_RAIN, angle_deg=5, density=(2e-2, 3e-2))
    recipe = changed(conditioned_recipe, rain=steep, dry_share=0.0, patch_px=64, late_patch_px=64)

    def sharpness(enlarged: float, reduced: float) -> float:
        samples = Samples(changed(recipe, enlarged_share=enlarged, reduced_share=reduced))
        rains = [samples[index][0].float() - samples[index][1] for index in range(20)]
        return float(np.mean([rain.diff(dim=2).abs().mean() / rain.std() for rain in rains]))

    reduced, plain, enlarged = sharpness(0.0, 1.0), sharpness(0.0, 0.0), sharpness(1.0, 0.0)
    assert reduced > 1.1 * plain
    assert plain > 1.4 * enlarged


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_leaves_share_is_cut_from_leaves(tiny_recipe: Recipe, tmp_path: Path, share: float) -> None:
    """The photograph is black and white noise: no patch of flat leaves is nearly as rough."""
    noise = 255 * np.random.default_rng(0).integers(0, 2, (32, 32, 3), dtype=np.uint8)
    (tmp_path / "noise.png").write_bytes(encode(noise, PNG))
    samples = Samples(changed(tiny_recipe, photographs=tmp_path, leaves_share=share))
    roughness = [float(samples[index][1].float().diff(dim=2).abs().mean()) for index in range(100)]
    from_leaves = np.mean(np.array(roughness) < 30)
    assert from_leaves == pytest.approx(share, abs=0.15 if share == 0.5 else 0)


def test_late_patches_are_larger(tiny_recipe: Recipe) -> None:
    """6 steps of 4 patches: the last third is 8 of them."""
    samples = Samples(changed(tiny_recipe, late_patch_px=24, late_share=1 / 3))
    assert [samples[index][0].shape[-1] for index in range(len(samples))] == [16] * 16 + [24] * 8


def test_a_patch_larger_than_the_context_is_the_scene(conditioned_recipe: Recipe) -> None:
    samples = Samples(changed(conditioned_recipe, patch_px=48, late_patch_px=48))
    rainy, _, scene, _ = samples[0]
    assert torch.equal(rainy, scene)


def test_tone_lookalikes_and_the_camera_change_rainy_and_clean_alike(tiny_recipe: Recipe) -> None:
    plain = Samples(changed(tiny_recipe, dry_share=1.0, lookalike_dry_share=1.0))
    for name in ("tone_share", "line_share", "facade_share", "document_share", "camera_share"):
        toned = Samples(with_share(plain.recipe, name, 1.0))
        pairs = [toned[index] for index in range(len(plain))]
        assert all(torch.equal(*pair) for pair in pairs)
        # Some lines run beside the patch, and some cameras take no notice.
        others = [not torch.equal(pair[1], plain[index][1]) for index, pair in enumerate(pairs)]
        assert np.mean(others) > 0.4, name


def test_no_backgrounds_at_all_is_an_error(tiny_recipe: Recipe) -> None:
    with pytest.raises(BackgroundError, match="tiny has neither photographs nor leaves"):
        Samples(changed(tiny_recipe, leaves_count=0))


def test_too_small_a_picture_is_refused_by_name(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """A patch of 16 px may be enlarged from 4 px, not from less."""
    recipe = changed(tiny_recipe, photographs=tmp_path)
    (tmp_path / "smallish.png").write_bytes(encode(np.zeros((4, 50, 3), dtype=np.uint8), PNG))
    assert Samples(recipe)[0][0].shape == (3, 16, 16)
    (tmp_path / "icon.png").write_bytes(encode(np.zeros((50, 3, 3), dtype=np.uint8), PNG))
    with pytest.raises(BackgroundError, match=r"icon\.png is 3 x 50 pixels: .* 4 a side is the least"):
        Samples(recipe)


@pytest.mark.parametrize("name", RECIPES)
def test_shares_of_every_recipe_are_shares(name: str) -> None:
    recipe = RECIPES[name]()
    lookalikes = recipe.scenes.line_share + recipe.scenes.facade_share + recipe.scenes.document_share
    assert 0 <= lookalikes < 1
    assert 0 <= recipe.scenes.enlarged_share + recipe.scenes.reduced_share < 1
    assert recipe.backgrounds.photographs is not None or recipe.backgrounds.leaves_count
