"""The survey: what it is taught, and that it learns it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from training.survey import FINDINGS, LEANS_DEG, Survey, SurveyShape, facts, survey_errors
from training.tasks import to_network

from tests.training.conftest import SURVEYED
from training.optimiser import Optimiser
from training.rain.families import MURKY
from training.rain.varied import Fall, Sheet, Streaks
from training.recipes import RECIPES, Recipe
from training.samples import Samples, SurveySamples

DRY = np.full((32, 32, 3), 100, dtype=np.uint8)
WET = DRY + 20
STEEP = Streaks(Fall(60, 1.0, 0.0, 0.5), density=1e-3, brightness=0.5, spread=0.5)
LEANING = Sheet(Fall(30, 2.0, LEANS_DEG[-3], 0.5), threshold=0.5, contrast=1.0, brightness=0.5)


def test_facts_are_shares_of_leans_measures_and_whether_there_is_rain() -> None:
    known = facts([STEEP], WET, DRY)
    shares, measures, is_seen = known[: len(LEANS_DEG)], known[len(LEANS_DEG) : -1], known[-1]
    assert known.shape == (FINDINGS,)
    assert known.dtype == np.float32
    assert shares.sum() == pytest.approx(1)
    assert abs(LEANS_DEG[shares.argmax()]) == min(abs(LEANS_DEG)), "straight down"
    assert measures[0] == pytest.approx(np.log(2))
    assert measures[1] == pytest.approx(0)
    assert measures[4:6].tolist() == [0, 0], "neither a sheet nor hard"
    assert measures[7] == pytest.approx(5 * 20 / 255)
    assert is_seen == 1
    assert facts([STEEP], DRY, DRY)[-1] == 0, "rain that nobody sees is none"


def test_layers_count_by_how_much_is_seen_of_them() -> None:
    faint = replace(STEEP, brightness=0.01)
    both = facts([LEANING, faint], WET, DRY)[: len(LEANS_DEG)]
    assert both.argmax() == len(LEANS_DEG) - 3
    assert both.sum() == pytest.approx(1)
    alike = facts([LEANING, replace(LEANING, fall=STEEP.fall)], WET, DRY)[: len(LEANS_DEG)]
    assert alike[-3] == pytest.approx(alike.max(), rel=0.3)
    assert alike[:7].max() == pytest.approx(alike.max(), rel=0.7)


def test_errors_are_none_for_what_is_so() -> None:
    known = torch.from_numpy(np.stack([facts([STEEP], WET, DRY), facts([STEEP], DRY, DRY)]))
    right = known.clone()
    right[:, : len(LEANS_DEG)] = right[:, : len(LEANS_DEG)].clamp(min=1e-9).log()
    right[:, -1] = 40 * (known[:, -1] - 0.5)
    assert survey_errors(right, known).tolist() == pytest.approx([0, 0], abs=1e-4)
    wrong = right + 1
    wet, dry = survey_errors(wrong, known).tolist()
    assert wet > 7, "each measure is off by one"
    assert dry == pytest.approx(0, abs=1e-4), "without rain only that matters"


def test_findings_are_what_was_asked_for() -> None:
    survey = Survey(SurveyShape(widths=(4, 8), blocks=(1, 1), seen=4)).eval()
    with torch.inference_mode():
        found = survey.findings(torch.rand(3, 3, 16, 24))
    assert found.shape == (3, FINDINGS)
    torch.testing.assert_close(found[:, : len(LEANS_DEG)].sum(dim=1), torch.full((3,), 4.0))
    assert ((found[:, -1] > 0) & (found[:, -1] < 1)).all()


def test_an_overview_can_be_surveyed() -> None:
    surveys = [recipe.survey for recipe in (make() for make in RECIPES.values()) if recipe.survey is not None]
    assert all(survey.look.longest_px % survey.shape.alignment_px == 0 for survey in surveys)


def test_a_survey_is_taught_what_its_windows_were_drawn_with(tiny_recipe: Recipe) -> None:
    recipe = replace(tiny_recipe, survey=SURVEYED)
    samples = SurveySamples(recipe.of_survey())
    dry = Samples(replace(recipe.of_survey(), survey=None, clean_share=1.0))
    for index in range(8):
        window, known = samples[index]
        assert window.shape == (3, SURVEYED.window_px, SURVEYED.window_px)
        assert window.dtype == torch.uint8
        layers = MURKY.layers_of(recipe.seed, index)
        pictures = (window.permute(1, 2, 0).numpy(), dry[index][1].permute(1, 2, 0).numpy())
        np.testing.assert_allclose(known.numpy(), facts(layers, *pictures), rtol=1e-6)


def test_it_can_learn_them(tiny_recipe: Recipe) -> None:
    """Of a dozen windows by heart: far better than the best that is the same for all."""
    samples = SurveySamples(replace(tiny_recipe, survey=SURVEYED).of_survey())
    windows, known = (torch.stack(each) for each in zip(*(samples[i] for i in range(12)), strict=True))
    torch.manual_seed(0)
    survey = Survey(SurveyShape(widths=(8, 16), blocks=(1, 1), seen=16))
    survey.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = Optimiser(survey, learning_rate=5e-3, weight_decay=0.0)
    for _ in range(150):
        survey.zero_grad()
        survey_errors(survey(to_network(windows)), known).mean().backward()
        optimiser.step(5e-3)
    errors = survey_errors(survey(to_network(windows)), known).mean().item()
    always = known.mean(dim=0, keepdim=True).repeat(12, 1)
    always[:, : len(LEANS_DEG)] = always[:, : len(LEANS_DEG)].log()
    always[:, -1] = torch.logit(always[:, -1], eps=1e-3)
    assert errors < 0.5 * survey_errors(always, known).mean().item()
