"""Whether there is rain at all: that a survey learns it last, once, and of all else nothing anew."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training.notice import LEARNT, learn_to_notice
from training.survey import Look, Survey
from training.tasks import to_network

from tests.training.conftest import SURVEYED, set_log_odds, with_random_weights
from training import notice
from training.logistic import Values
from training.loop import Execution
from training.recipes import Recipe
from training.samples import SurveySamples

HERE = Execution(workers=0)


@pytest.fixture(scope="module")
def recipe(tiny_recipe: Recipe) -> Recipe:
    """Two hundred windows: of rain on flat leaves, which a random survey can see."""
    return replace(tiny_recipe, survey=replace(SURVEYED, noticing_steps=50, look=Look(longest_px=64)))


@pytest.fixture(scope="module")
def learnt(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Survey, Path]:
    survey, folder = unlearnt(), tmp_path_factory.mktemp("run") / "survey"
    learn_to_notice(survey, recipe, folder, HERE)
    return survey, folder


def unlearnt() -> Survey:
    survey = with_random_weights(Survey(SURVEYED.shape), 9)
    set_log_odds(survey, 0)
    return survey


def test_it_tells_rain_from_none_in_windows_that_it_has_not_seen(
    learnt: tuple[Survey, Path], recipe: Recipe
) -> None:
    survey, _ = learnt
    samples = SurveySamples(replace(recipe.of_noticing(), seed=1))
    windows, facts = (torch.stack(each) for each in zip(*(samples[i] for i in range(160)), strict=True))
    with torch.inference_mode():
        _, log_odds = survey.look(to_network(windows))
    is_rainy = facts[:, -1] > 0
    assert 0.2 < is_rainy.float().mean() < 0.6, "half are dry, and of the rain some cannot be seen"
    above = (log_odds[is_rainy][:, None] > log_odds[~is_rainy]).float().mean()
    assert above > 0.65


def test_what_it_is_taught_with_is_new_to_it_and_of_the_model_s_size(recipe: Recipe) -> None:
    of_survey, of_noticing = recipe.of_survey(), recipe.of_noticing()
    assert of_noticing.steps - 50 == of_survey.steps
    windows, _ = SurveySamples(of_noticing)[0]
    assert windows.shape[1:] == (64, 64)


def test_all_else_stays_as_it_was(learnt: tuple[Survey, Path]) -> None:
    ours, before = learnt[0].state_dict(), unlearnt().state_dict()
    changed = {name for name, weight in ours.items() if not torch.equal(weight, before[name])}
    assert changed == {"notice.weight", "notice.bias"}


def test_the_same_is_learnt_once(
    learnt: tuple[Survey, Path], recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its folder it comes the second time; not of other weights, another recipe, or a torn file."""
    first, folder = learnt
    asked: list[int] = []
    windows: Callable[..., tuple[Values, Values]] = notice._windows

    def counted(*arguments: object) -> tuple[Values, Values]:
        asked.append(1)
        return windows(*arguments)

    monkeypatch.setattr(notice, "_windows", counted)
    again = unlearnt()
    learn_to_notice(again, recipe, folder, HERE)
    assert not asked
    assert torch.equal(again.notice.weight, first.notice.weight)

    stored = (folder / LEARNT).read_bytes()
    other = with_random_weights(Survey(SURVEYED.shape), 8)
    set_log_odds(other, 0)
    learn_to_notice(other, recipe, folder, HERE)
    learn_to_notice(unlearnt(), replace(recipe, seed=5), folder, HERE)
    (folder / LEARNT).write_bytes(stored[:100])
    learn_to_notice(unlearnt(), recipe, folder, HERE)
    assert len(asked) == 3
    assert (folder / LEARNT).stat().st_size == len(stored)


def test_of_windows_that_are_all_alike_nothing_is_learnt(recipe: Recipe, tmp_path: Path) -> None:
    assert recipe.survey is not None
    survey = unlearnt()
    few = replace(recipe, batch=1, survey=replace(recipe.survey, batch=1, noticing_steps=1))
    learn_to_notice(survey, few, tmp_path, HERE)
    assert not survey.notice.weight.any()
    with torch.inference_mode():
        assert survey.look(torch.rand(2, 3, 32, 32))[1].tolist() == [0, 0]
    assert json.loads((tmp_path / LEARNT).read_text())["bias"] == 0
