"""The rain estimator: what it is to find, what is made small for it, and that it learns to find it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, kl_divergence
from torch.nn.functional import gaussian_nll_loss
from torch.utils.data import default_collate

from tests.training.conftest import (
    CONDITIONED_SHAPE,
    RAIN,
    TINY_ESTIMATOR,
    TOLD_RAIN,
    changed,
    with_random_weights,
)
from training.model.derain_model import DerainModel, ModelShape, to_network
from training.model.rain_estimator import RainEstimator, describe, estimation_errors
from training.rain.descriptor import ANGLES_DEG, DESCRIPTOR, FACTS, facts
from training.rain.varied import Fall, Layer, Sheet, Streaks
from training.recipes import RECIPES, Recipe, smoke
from training.trainer.optimizer import Optimizer
from training.trainer.samples import Samples

ANGLES, MEASURES = len(ANGLES_DEG), 8
DRY = np.full((32, 32, 3), 100, dtype=np.uint8)
WET = DRY + 20
STEEP = Streaks(Fall(60, 1.0, 0.0, 0.5), density=1e-3, brightness=0.5, spread=0.5)
LEANING = Sheet(Fall(30, 2.0, ANGLES_DEG[-3], 0.5), threshold=0.5, contrast=1.0, brightness=0.5)


def of(layers: list[Layer] | None, scale: float = 1.0) -> Tensor:
    return torch.from_numpy(facts(layers, WET, DRY, scale))


def test_facts_are_shares_of_angles_measures_and_whether_there_is_rain() -> None:
    known = facts([STEEP], WET, DRY)
    shares, measures = known[:ANGLES], known[ANGLES : ANGLES + MEASURES]
    assert known.shape == (FACTS,)
    assert known.dtype == np.float32
    assert shares.sum() == pytest.approx(1)
    assert abs(ANGLES_DEG[shares.argmax()]) == min(abs(ANGLES_DEG)), "straight down"
    assert measures[0] == pytest.approx(np.log(2))
    assert measures[1] == pytest.approx(0)
    assert measures[2] == pytest.approx(0)
    assert measures[3] == pytest.approx(np.log10(STEEP.cover))
    assert measures[4:6].tolist() == [0, 0], "neither a sheet nor hard"
    assert measures[6] == pytest.approx(np.log10(STEEP.mean))
    assert measures[7] == pytest.approx(5 * 20 / 255)
    assert known[-2:].tolist() == [1, 1], "rain, and it is known what it was drawn with"
    assert facts([STEEP], DRY, DRY)[-2] == 0, "rain that nobody sees is none"


def test_hard_streaks_and_sheets_are_told_apart() -> None:
    hard = replace(STEEP, hardness=4.0)
    for layer, sheet, bars in ((LEANING, 1, 0), (hard, 0, 1)):
        assert facts([layer], WET, DRY)[ANGLES + 4 : ANGLES + 6].tolist() == [sheet, bars]


def test_layers_count_by_how_much_is_seen_of_them() -> None:
    faint = replace(STEEP, brightness=0.01)
    both = facts([LEANING, faint], WET, DRY)[:ANGLES]
    assert both.argmax() == ANGLES - 3
    assert both.sum() == pytest.approx(1)
    alike = facts([LEANING, replace(LEANING, fall=STEEP.fall)], WET, DRY)[:ANGLES]
    assert alike[-3] == pytest.approx(alike.max(), rel=0.3)
    assert alike[:7].max() == pytest.approx(alike.max(), rel=0.7)


@pytest.mark.parametrize("scale", [0.6, 3.0])
def test_streaks_are_as_much_longer_and_wider_as_the_image_is_enlarged(scale: float) -> None:
    """And nothing else of them is different: not where they lean, nor how much they cover."""
    gained = of([STEEP, LEANING], scale) - of([STEEP, LEANING])
    expected = torch.zeros(FACTS)
    expected[ANGLES : ANGLES + 2] = np.log(scale)
    torch.testing.assert_close(gained, expected)


def test_of_rain_without_layers_it_is_known_that_it_is_there_and_how_bright() -> None:
    known = of(None)
    assert known[-2:].tolist() == [1, 0]
    assert known[ANGLES + MEASURES - 1] == pytest.approx(5 * 20 / 255)
    assert not known[: ANGLES + MEASURES - 1].any()


@pytest.mark.parametrize("layers", [None, [STEEP]])
@pytest.mark.parametrize("rainy", [WET, DRY])
def test_what_is_not_known_teaches_nothing(layers: list[Layer] | None, rainy: np.ndarray) -> None:
    """Of rain without layers but its brightness, of no rain but that there is none."""
    expected = torch.from_numpy(facts(layers, rainy, DRY))[None]
    raw = torch.full((1, DESCRIPTOR), 0.3, requires_grad=True)
    estimation_errors(raw, expected).sum().backward()
    assert raw.grad is not None
    taught = (raw.grad[0] != 0).tolist()
    drawn, brighter = [rainy is WET and layers is not None], [rainy is WET]
    measures = (MEASURES - 1) * drawn + brighter
    assert taught == [*(ANGLES * drawn), *measures, *measures, True]


def test_errors_are_those_of_textbook_formulas() -> None:
    """With beta-NLL as Seitzer et al. have it: the likelihood by torch, times a variance to the half."""
    noise = torch.Generator().manual_seed(1)
    raw = torch.randn(5, DESCRIPTOR, generator=noise, dtype=torch.float64)
    expected = of([STEEP, LEANING])[None].double().repeat(5, 1)
    expected[:, ANGLES : ANGLES + MEASURES] += torch.randn(5, MEASURES, generator=noise, dtype=torch.float64)
    shares, measures = expected[:, :ANGLES], expected[:, ANGLES : ANGLES + MEASURES]
    means, log_sigmas = raw[:, ANGLES:-1].split(MEASURES, dim=1)
    variances = (2 * log_sigmas).exp()
    surprises = gaussian_nll_loss(means, measures, variances, eps=0, reduction="none") * variances**0.5
    divergence = kl_divergence(Categorical(probs=shares), Categorical(logits=raw[:, :ANGLES]))
    doubt = -torch.sigmoid(raw[:, -1]).log()
    errors = estimation_errors(raw, expected)
    torch.testing.assert_close(errors, divergence + surprises.sum(dim=1) + doubt, check_dtype=False)


def test_a_mean_is_drawn_to_what_is_so_by_its_distance_in_deviations() -> None:
    """What beta = 0.5 makes of the likelihood's gradient; a deviation's is scaled as well."""
    expected = of([STEEP])[None]
    raw = torch.zeros(1, DESCRIPTOR)
    raw[0, ANGLES : ANGLES + MEASURES] = expected[0, ANGLES : ANGLES + MEASURES] + 1.5
    raw[0, ANGLES + MEASURES : -1] = np.log(0.5)
    raw.requires_grad_()
    estimation_errors(raw, expected).sum().backward()
    assert raw.grad is not None
    of_means, of_log_sigmas = raw.grad[0, ANGLES:-1].split(MEASURES)
    assert of_means.tolist() == pytest.approx([1.5 / 0.5] * MEASURES)
    assert of_log_sigmas.tolist() == pytest.approx([0.5 * (1 - (1.5 / 0.5) ** 2)] * MEASURES, rel=1e-4)


def test_a_descriptor_is_shares_measures_their_deviations_and_a_probability() -> None:
    raw = torch.rand(3, DESCRIPTOR)  # within all bounds
    raw[0, ANGLES + MEASURES : -1] = 100
    raw[1, ANGLES + MEASURES : -1] = -100
    found = describe(raw)
    assert found.shape == (3, DESCRIPTOR)
    torch.testing.assert_close(found[:, :ANGLES], 4 * raw[:, :ANGLES].softmax(dim=1))
    torch.testing.assert_close(found[:, ANGLES : ANGLES + MEASURES], raw[:, ANGLES : ANGLES + MEASURES])
    assert found[:2, ANGLES + MEASURES : -1].unique().tolist() == [-4, 2], "no certainty is boundless"
    torch.testing.assert_close(found[2, ANGLES + MEASURES : -1], raw[2, ANGLES + MEASURES : -1])
    torch.testing.assert_close(found[:, -1], 1 / (1 + (-raw[:, -1]).exp()))


@pytest.mark.parametrize("size", [(4, 4), (8, 20), (40, 32)])
def test_an_estimator_takes_any_size_and_each_image_by_itself(size: tuple[int, int]) -> None:
    estimator = with_random_weights(RainEstimator(TINY_ESTIMATOR), seed=0)
    images = torch.rand(3, 3, *size)
    with torch.inference_mode():
        raw = estimator(images)
        assert raw.shape == (3, DESCRIPTOR)
        torch.testing.assert_close(estimator(images[1:2]), raw[1:2])
    assert not torch.allclose(raw[0], raw[1])


@pytest.mark.parametrize("recipe", [make() for make in RECIPES.values()], ids=list(RECIPES))
def test_windows_and_scenes_are_whole_cells(recipe: Recipe) -> None:
    shape = recipe.model
    assert shape.network.conditioned == (shape.estimator is not None)
    if shape.estimator is not None:
        sides = {
            max(shape.context_px, side) for side in (recipe.course.patch_px, recipe.course.late_patch_px)
        }
        assert not [side for side in sides if side % shape.estimator.alignment_px]


def test_what_is_estimated_is_what_the_rain_was_drawn_with(conditioned_recipe: Recipe) -> None:
    samples = Samples(conditioned_recipe)
    foreign = Samples(changed(conditioned_recipe, rain=RAIN))
    for index in range(8):
        _, _, scene, known = samples[index]
        layers = TOLD_RAIN.layers_of(conditioned_recipe.seed, index)
        expected = facts(layers, WET, DRY)
        assert known.shape == (FACTS,)
        assert scene.shape == (3, 32, 32)
        drawn = slice(0, ANGLES + MEASURES - 1)
        np.testing.assert_array_equal(known[drawn], expected[drawn])
        assert known[-1] == 1
        assert foreign[index][3][-1] == 0, "the paper's generator does not say"


@pytest.mark.slow
def test_it_learns_which_way_rain_falls_and_whether_there_is_any(
    conditioned_recipe: Recipe,
) -> None:
    """In seconds, at the size of the recipe `smoke`, of rain on scenes that it has not seen."""
    shape = ModelShape(CONDITIONED_SHAPE, estimator=smoke().model.estimator, context_px=48)
    recipe = changed(conditioned_recipe, model=shape, leaves_count=16, dry_share=0.25, steps=200)
    samples, others = Samples(recipe), Samples(changed(recipe, seed=1))
    learnt = default_collate([samples[index] for index in range(640)])
    _, _, scenes, known = default_collate([others[index] for index in range(160)])
    torch.manual_seed(0)
    model = DerainModel(shape).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = Optimizer(model, 5e-3, weight_decay=0.0)
    for step in range(128):
        model.zero_grad()
        batch = tuple(each.roll(-32 * step, dims=0)[:32] for each in learnt)
        model.errors(batch, "rmse").mean(dim=0).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.estimator.parameters(), recipe.optimization.gradient_clip)
        optimizer.step(5e-3)
    with torch.inference_mode():
        found = describe(model.estimator(to_network(scenes)))
    is_rain = known[:, -2] > 0
    angles = torch.from_numpy(ANGLES_DEG).float()
    true, estimated = (shares[is_rain, :ANGLES] @ angles for shares in (known, found))
    leans = true.abs() > 10
    assert leans.sum() > 60
    right = (true.sign() == estimated.sign())[leans].float().mean()
    likelier = (found[is_rain, -1][:, None] > found[~is_rain, -1]).float().mean()
    assert right > 0.85, "half of them by chance"
    assert likelier > 0.85
