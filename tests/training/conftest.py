"""What the training tests share: an image, tiny recipes and tiny exported models."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from torch import nn

from derain.arrays import Image
from derain.images.formats import PNG
from derain.images.plain import encode
from derain.manifest import Manifest
from tests.conftest import scene
from training.data.dead_leaves import Leaves
from training.evaluation.held_out import HeldOut
from training.export.card import write_model_texts
from training.export.onnx import export
from training.model.derain_model import DerainModel, ModelShape
from training.model.rain_estimator import EstimatorShape, RainEstimator
from training.model.unet import NetworkShape
from training.rain.streaks import RainRange
from training.rain.varied import VariedRain
from training.recipes import Backgrounds, Course, Inference, Intervals, Optimization, Recipe, Scenes
from training.trainer.distributed import Processes

Trained = TypeVar("Trained", bound=nn.Module)

TINY_SHAPE = NetworkShape(width=4, blocks=(1,), dilations=(1,))
CONDITIONED_SHAPE = replace(TINY_SHAPE, conditioned=True)
TINY_ESTIMATOR = EstimatorShape(widths=(4, 8), blocks=(1, 1), pooled=4, hidden=(8, 8))
CONDITIONED_MODEL = ModelShape(CONDITIONED_SHAPE, derainers=2, estimator=TINY_ESTIMATOR, context_px=32)

RAIN = RainRange("test", (0.03, 0.05), (1, 2), (6, 10), angle_deg=20, brightness=(0.3, 0.5))
# That says what it was drawn with, which an estimator is to find: streaks that lean far to either side.
TOLD_RAIN = VariedRain(
    "told",
    layers=1,
    angle_deg=50,
    tilt_spread_deg=0,
    length_px=(12, 16),
    sigma_px=(0.6, 0.9),
    brightness=(0.7, 0.95),
    density=(5e-3, 1e-2),
    hard_share=0,
    sheet_share=0,
    veil_share=0,
    gust_share=0,
    fan_share=0,
    lit_share=0,
)


@dataclass(frozen=True)
class ExportedModel:
    """A model folder, and the model that it was exported from."""

    model: DerainModel
    folder: Path
    manifest: Manifest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a model that is exported is slow: torch takes seconds for its first export."""
    for item in items:
        if isinstance(item, pytest.Function) and {"exported", "exported_pair"} & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True, scope="session")
def one_core() -> Iterator[None]:
    """Whatever the machine has: threads that share so little work wait for one another in a spin."""
    import torch._dynamo  # any optimizer does, in a second, which is no test's own

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Processes, "cores", 1)
        torch.set_num_threads(1)
        yield


@pytest.fixture
def image() -> Image:
    """Noise, 40 x 56."""
    return np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    """Trains in a second or two, on flat leaves in dense rain; without an estimator."""
    return Recipe(
        name="tiny",
        model=ModelShape(TINY_SHAPE),
        inference=Inference(dry_below=0.0, longest_px=None),
        rain=RAIN,
        backgrounds=Backgrounds(
            photographs=None,
            photograph_count=None,
            leaves=Leaves(complexity=0.0, size_px=112),
            leaves_count=4,
            leaves_share=1.0,
        ),
        scenes=Scenes(
            line_share=0.0,
            facade_share=0.0,
            document_share=0.0,
            lookalike_dry_share=0.0,
            dry_share=0.0,
            tone_share=0.0,
            camera_share=0.0,
            enlarged_share=0.0,
            reduced_share=0.0,
        ),
        course=Course(steps=6, batch=4, patch_px=16, late_patch_px=16, late_share=0.0),
        optimization=Optimization(warmup_steps=2),
        every=Intervals(log=2, validate=4, checkpoint=3),
    )


def changed(recipe: Recipe, **fields: Any) -> Recipe:
    """The recipe with these fields, of itself or of a section: `steps=3`, `log_every=1`, `rain=RAIN`."""
    for name, value in fields.items():
        section, field = _PLACES[name]
        if section is None:
            recipe = replace(recipe, **{field: value})
        else:
            recipe = replace(recipe, **{section: replace(getattr(recipe, section), **{field: value})})
    return recipe


def _places() -> dict[str, tuple[str | None, str]]:
    """Where each field of a recipe is: its section, and its name there."""
    places: dict[str, tuple[str | None, str]] = {each.name: (None, each.name) for each in fields(Recipe)}
    sections = (Inference, Backgrounds, Scenes, Course, Optimization)
    for section in sections:
        places |= {each.name: (section.__name__.lower(), each.name) for each in fields(section)}
    return places | {f"{each.name}_every": ("every", each.name) for each in fields(Intervals)}


_PLACES = _places()


@pytest.fixture(scope="session")
def conditioned_recipe(tiny_recipe: Recipe) -> Recipe:
    """The same with an estimator and two derainers; a third of the samples are dry."""
    return changed(
        tiny_recipe,
        name="conditioned",
        model=CONDITIONED_MODEL,
        longest_px=64,
        dry_below=-0.25,
        rain=TOLD_RAIN,
        dry_share=1 / 3,
    )


@pytest.fixture(scope="session")
def mixed_recipe(conditioned_recipe: Recipe) -> Recipe:
    """Some of everything that a sample may be."""
    return changed(
        conditioned_recipe,
        line_share=0.2,
        facade_share=0.2,
        document_share=0.2,
        lookalike_dry_share=0.5,
        tone_share=0.5,
        camera_share=0.5,
        enlarged_share=0.4,
        reduced_share=0.2,
        late_patch_px=24,
        late_share=1 / 3,
    )


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> HeldOut:
    """Two small images to score on, where it does not matter which."""
    folder = tmp_path_factory.mktemp("few")
    (folder / "scene.png").write_bytes(encode(scene(96, 128), PNG))
    return HeldOut(folder, leaves=1, longest_px=128)


@pytest.fixture(scope="session")
def exported(tiny_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    """A tiny model that does something, without an estimator. Copy the folder before changing it."""
    return export_tiny(tiny_recipe, tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def exported_pair(conditioned_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    """The same with an estimator, so of two files, which finds rain on every image."""
    return export_tiny(conditioned_recipe, tmp_path_factory.mktemp("models") / "pair")


def export_tiny(recipe: Recipe, folder: Path) -> ExportedModel:
    model = random_model(recipe.model)
    folder.mkdir()
    manifest = export(model, recipe, commit="0" * 40, folder=folder, name=folder.name)
    write_model_texts(folder, manifest)
    return ExportedModel(model, folder, manifest)


def random_model(shape: ModelShape, seed: int = 1) -> DerainModel:
    """As if it had been trained: no layer is zero. An estimator says that there is rain, whatever it sees."""
    model = with_random_weights(DerainModel(shape), seed)
    if model.estimator is not None:
        with torch.no_grad():
            model.estimator.out.weight.mul_(1000)  # else all images would look much alike
        set_log_odds(model.estimator, 1.0)
    return model


def set_log_odds(estimator: RainEstimator, log_odds: float) -> None:
    """The estimator says so of whether there is rain, whatever it sees."""
    with torch.no_grad():
        estimator.out.weight[-1] = 0
        estimator.out.bias[-1] = log_odds


def with_random_weights(network: Trained, seed: int) -> Trained:
    """The network with a last layer that is not zero, as if it had been trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.08 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def figure_texts(svg: Path) -> list[str]:
    """Matplotlib draws letters as shapes, and writes what they say into comments."""
    ElementTree.parse(svg)  # it is whole
    return re.findall(r"<!-- (.*?) -->", svg.read_text(encoding="utf-8"))
