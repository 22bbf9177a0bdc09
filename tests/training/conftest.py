"""What the training tests share: a picture, a tiny recipe and a tiny exported model."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from torch import nn
from training.survey import Look, Survey, SurveyShape

from derain.arrays import Picture
from derain.manifest import Manifest
from training.backgrounds import Leaves
from training.card import write_model_texts
from training.export import export
from training.network import DerainNetwork, MeanNetwork, NetworkShape, SurveyedNetwork
from training.rain.streaks import RainRange
from training.recipes import Recipe, Surveying

Trained = TypeVar("Trained", bound=nn.Module)

TINY_SHAPE = NetworkShape(width=4, blocks=(1,), dilations=(1,))
TOLD_SHAPE = NetworkShape(width=4, blocks=(1,), dilations=(1,), is_told=True)
SURVEYED = Surveying(
    SurveyShape(widths=(4, 8), blocks=(1, 1), seen=4, hidden=(8, 8)),
    steps=4,
    noticing_steps=4,
    batch=4,
    window_px=32,
    scene_px=48,
)


@dataclass(frozen=True)
class ExportedModel:
    """A model folder, and the network that it was exported from."""

    network: DerainNetwork
    folder: Path
    manifest: Manifest


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def picture() -> Picture:
    """Noise, 40 x 56."""
    return np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


RAIN = RainRange("test", (0.03, 0.05), (1, 2), (6, 10), angle_deg=20, brightness=(0.3, 0.5))


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    """Trains in a second or two, on flat leaves in dense rain."""
    return Recipe(
        name="tiny",
        network=TINY_SHAPE,
        survey=None,
        members=1,
        rain=RAIN,
        early_rain=RAIN,
        photographs=None,
        photograph_count=None,
        leaves=Leaves(complexity=0.0, size_px=112),
        leaves_count=4,
        leaves_share=1.0,
        clean_share=0.0,
        tone_share=0.0,
        line_share=0.0,
        facade_share=0.0,
        camera_share=0.0,
        steps=6,
        batch=4,
        patch_px=16,
        early_share=0.0,
        late_patch_px=16,
        late_share=0.0,
        warmup_steps=2,
        log_every=2,
        validate_every=4,
        checkpoint_every=3,
    )


@pytest.fixture(scope="session")
def exported(tiny_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    """A tiny network that does something, as a model folder. Copy the folder before changing it."""
    network = with_random_weights(DerainNetwork(tiny_recipe.network), seed=1)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    manifest = export(network, tiny_recipe, commit="0" * 40, folder=folder, name="tiny")
    write_model_texts(folder, manifest)
    return ExportedModel(network, folder, manifest)


def surveyed_network(members: int = 2, windows: int = 1) -> SurveyedNetwork:
    """Tiny, and as if it had been trained."""
    networks = [with_random_weights(DerainNetwork(TOLD_SHAPE), seed) for seed in range(members)]
    survey = with_random_weights(Survey(SURVEYED.shape), 9)
    set_log_odds(survey, 1.0)
    return SurveyedNetwork(survey, MeanNetwork(networks), Look(windows)).eval()


def set_log_odds(survey: Survey, log_odds: float) -> None:
    """The survey says so of whether there is rain, whatever it sees."""
    with torch.no_grad():
        survey.notice.weight.zero_()
        survey.notice.bias.fill_(log_odds)


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
