"""The whole model: who learns from whose errors, and what an image is derained with."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import default_collate

from derain.inference.context import context_windows
from tests.conftest import noise
from tests.training.conftest import CONDITIONED_MODEL, TINY_SHAPE, random_model
from training.batches import Batch
from training.estimator import DESCRIPTOR, describe, estimation_errors
from training.losses import patch_errors
from training.model import DerainModel, ModelShape, to_network
from training.recipes import Recipe
from training.samples import Samples


@pytest.fixture(scope="module")
def batch(conditioned_recipe: Recipe) -> Batch:
    samples = Samples(conditioned_recipe)
    return tuple(default_collate([samples[index] for index in range(4)]))


def gradients(model: DerainModel) -> list[float]:
    """The size of each part's."""
    of_parts = ([p.grad for p in part.parameters() if p.grad is not None] for part in model.parts)
    return [sum(float(grad.abs().sum()) for grad in grads) for grads in of_parts]


@pytest.mark.parametrize("learner", [0, 1, 2])
def test_no_part_learns_from_the_errors_of_another(batch: Batch, learner: int) -> None:
    """Nor the estimator from those of the derainers, which are conditioned on what it says."""
    model = random_model(CONDITIONED_MODEL)
    errors = model.errors(batch, "rmse")
    assert errors.shape == (4, 3)
    errors[:, learner].sum().backward()
    assert [size > 0 for size in gradients(model)] == [part == learner for part in range(3)]


def test_errors_are_of_the_estimator_first_and_then_of_each_derainer(batch: Batch) -> None:
    """Which are conditioned on what the estimator says of the scene, not on what is so."""
    model = random_model(CONDITIONED_MODEL)
    rainy, clean, scene, facts = batch
    assert model.estimator is not None
    with torch.inference_mode():
        raw = model.estimator(to_network(scene))
        derained = [network(to_network(rainy), describe(raw)) for network in model.derainer.networks]
        errors = model.errors(batch, "l1")
        other = model.errors((rainy, clean, scene.flip(0), facts), "l1")
    expected = [patch_errors(each, to_network(clean), "l1") for each in derained]
    torch.testing.assert_close(errors, torch.stack([estimation_errors(raw, facts), *expected], dim=1))
    assert (errors - other)[:, 1:].abs().max() > 0


def test_a_model_without_an_estimator_has_errors_of_its_derainers_alone(batch: Batch) -> None:
    model = DerainModel(ModelShape(TINY_SHAPE, members=2))
    rainy, clean = batch[:2]
    rain = patch_errors(to_network(rainy), to_network(clean))
    torch.testing.assert_close(model.errors((rainy, clean), "rmse"), torch.stack([rain, rain], dim=1))
    assert model.descriptor(noise(20, 20)) is None


def test_the_first_weights_do_not_depend_on_how_many_derainers_there_are() -> None:
    made = []
    for members in (1, 3):
        torch.manual_seed(7)
        made.append(DerainModel(replace(CONDITIONED_MODEL, members=members)).state_dict())
    one, three = made
    assert all(torch.equal(weight, three[name]) for name, weight in one.items())
    first, second = (three[f"derainer.members.{number}.head.weight"] for number in (0, 1))
    assert not torch.equal(first, second)


def test_the_descriptor_of_an_image_is_the_mean_over_its_windows() -> None:
    model = random_model(CONDITIONED_MODEL)
    image = noise(70, 100)
    image[:, 50:] //= 8
    windows = context_windows(image, CONDITIONED_MODEL.context_px)
    assert len(windows) == 6
    assert model.estimator is not None
    given = to_network(torch.from_numpy(np.stack(windows)).permute(0, 3, 1, 2))
    with torch.inference_mode():
        each = describe(model.estimator(given))
    found = model.descriptor(image)
    assert found is not None
    torch.testing.assert_close(found, each.mean(dim=0, keepdim=True))
    assert (each[0] - each[1]).abs().max() > 1e-5, "the windows differ"


@pytest.mark.parametrize("size", [(1, 1), (9, 30), (33, 50)])
def test_an_image_of_any_size_is_derained_by_its_descriptor(size: tuple[int, int]) -> None:
    """As the network derains it where the last row and column go on to a multiple of a cell."""
    model = random_model(CONDITIONED_MODEL)
    image = noise(*size)
    derained = model.derain(image)
    assert derained.shape == image.shape
    assert derained.dtype == np.uint8
    missing = [(0, -side % 4) for side in size]
    padded = to_network(
        torch.from_numpy(np.pad(image, [*missing, (0, 0)], mode="edge")[None]).permute(0, 3, 1, 2)
    )
    with torch.inference_mode():
        clean: Tensor = model.derainer(padded, model.descriptor(image))
        other = model.derainer(padded, torch.zeros(1, DESCRIPTOR))
    expected = clean[0, :, : size[0], : size[1]].permute(1, 2, 0).clamp(0, 1).mul(255).numpy()
    np.testing.assert_allclose(derained, expected, rtol=0, atol=0.51)
    assert (clean - other).abs().max() > 1e-4
