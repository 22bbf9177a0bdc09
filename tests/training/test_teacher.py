"""Learning from a finished model, in the place of clean pictures."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from derain.tiling import QUARTERS
from tests.training.conftest import SURVEYED, TOLD_SHAPE, ExportedModel, surveyed_network
from training.card import write_model_texts
from training.export import export
from training.loop import train
from training.network import SurveyedNetwork
from training.options import read_options
from training.recipes import Recipe
from training.start import Start, start_from
from training.tasks import Deraining, to_network
from training.teacher import Teacher, TeacherError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def told(tiny_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[SurveyedNetwork, Start]:
    """A mean of two that have a survey, and its folder."""
    network, folder = surveyed_network(windows=QUARTERS), tmp_path_factory.mktemp("models") / "told"
    folder.mkdir()
    recipe = replace(tiny_recipe, network=TOLD_SHAPE, survey=SURVEYED, members=2)
    write_model_texts(folder, export(network, recipe, "abc", folder, "told"))
    return network, start_from(folder)


def _batch(scenes: int, patches: int, windows: int = QUARTERS) -> tuple[torch.Tensor, ...]:
    """Windows of each scene, where its patches lie, and these rainy and clean."""
    generator = torch.Generator().manual_seed(3)
    place = 2 * torch.rand(scenes, patches, 2, 4, 6, generator=generator) - 1
    sizes = [(scenes, 3 * windows, 32, 32), *2 * [(scenes, patches, 3, 16, 24)]]
    overview, rainy, clean = (
        torch.randint(0, 256, size, dtype=torch.uint8, generator=generator) for size in sizes
    )
    return overview, place, rainy, clean


@pytest.mark.parametrize("windows", [1, QUARTERS])
def test_it_does_what_the_model_does(told: tuple[SurveyedNetwork, Start], windows: int) -> None:
    network, start = told
    overview, place, rainy, _ = _batch(2, 3, windows)
    patches = to_network(rainy.flatten(0, 1))
    seen = to_network(overview).repeat_interleave(3, dim=0)
    expected = network(patches, seen, place.flatten(0, 1) if windows == QUARTERS else None)
    taught = Teacher(start, CPU, looks_at_windows=True).derain(patches, to_network(overview), place)
    torch.testing.assert_close(taught, expected, atol=1e-5, rtol=0)


def test_what_it_makes_takes_the_place_of_clean_pictures(
    told: tuple[SurveyedNetwork, Start], tiny_recipe: Recipe
) -> None:
    """A network that does what the teacher does has nothing to learn, whatever the clean pictures are."""
    network, start = told
    teacher = Teacher(start, CPU, looks_at_windows=True)
    batch = _batch(2, 3)
    errors = Deraining(network.survey, teacher).errors(network.network, batch, tiny_recipe)
    torch.testing.assert_close(errors, torch.full((2,), 1e-3), atol=1e-4, rtol=0)
    from_clean = Deraining(network.survey).errors(network.network, batch, tiny_recipe)
    assert from_clean.min() > 0.1


def test_a_network_without_a_survey_learns_too(
    exported: ExportedModel, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    """It begins as the teacher, and clean pictures do not draw it away."""
    start = start_from(exported.folder)
    still = replace(tiny_recipe, start=start, teacher=start, average_decay=0.0, weight_decay=0.0)
    taught = train(still, tmp_path / "taught", lambda _: {}).state_dict()
    untaught = train(replace(still, teacher=None), tmp_path / "untaught", lambda _: {}).state_dict()
    before = exported.network.state_dict()
    moved = [
        sum(float((after[name] - weight).square().sum()) for name, weight in before.items())
        for after in (taught, untaught)
    ]
    assert moved[0] < moved[1] / 4


def test_a_teacher_that_looks_at_windows_has_to_be_given_some(
    told: tuple[SurveyedNetwork, Start], tiny_recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(
        TeacherError, match="told has a survey, and the recipe that is to learn from it has none"
    ):
        train(replace(tiny_recipe, teacher=told[1]), tmp_path, lambda _: {})


def test_a_model_of_unknown_making_teaches_nothing(exported: ExportedModel, tmp_path: Path) -> None:
    folder = tmp_path / "foreign"
    folder.mkdir()
    (folder / "model.onnx").write_bytes((exported.folder / "model.onnx").read_bytes())
    manifest = exported.manifest.model_copy(update={"recipe": {}})
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    with pytest.raises(TeacherError, match="foreign does not say how it was trained"):
        Teacher(start_from(folder), CPU, looks_at_windows=False)


def test_option_pins_the_teacher_and_lets_part_of_a_model_be_begun_from(exported: ExportedModel) -> None:
    folder = str(exported.folder)
    recipe = read_options(["smoke", "--from", folder, "--teacher", folder]).recipe
    assert recipe.teacher is not None and recipe.start is not None
    assert recipe.teacher.sha256 == exported.manifest.file.sha256
    assert recipe.start.in_part
    alone = read_options(["smoke", "--from", folder]).recipe
    assert alone.teacher is None and alone.start is not None and not alone.start.in_part
