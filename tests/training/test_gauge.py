"""The gauge: that it learns, and that a survey with one believes it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training.conftest import SURVEYED
from training.gauge import GAUGE, fit_gauge, kept_gauge
from training.loop import Execution
from training.recipes import Recipe
from training.samples import SurveySamples
from training.survey import BRIGHTER, FINDINGS, Gauge, Survey
from training.tasks import to_network

CPU = torch.device("cpu")
ALONE = Execution(workers=0)


@pytest.fixture
def recipe(tiny_recipe: Recipe) -> Recipe:
    return replace(tiny_recipe, survey=replace(SURVEYED, gauge_windows=240)).of_survey()


def survey() -> Survey:
    torch.manual_seed(0)
    return Survey(SURVEYED.shape).requires_grad_(False).eval()


def test_it_tells_more_of_other_windows_than_their_mean(recipe: Recipe) -> None:
    """Even of a survey with random weights: what it is given as it is says something."""
    given = survey()
    gauge = fit_gauge(given, recipe, ALONE, CPU)
    assert gauge is not None
    samples = SurveySamples(recipe)
    windows, known = (torch.stack(each) for each in zip(*(samples[i] for i in range(90)), strict=True))
    rains = known[:, -1] > 0
    brighter = known[rains, BRIGHTER]
    said = gauge(given.look(to_network(windows[rains])))
    assert (said - brighter).square().mean() < 0.8 * brighter.var()


def test_the_same_survey_and_recipe_have_the_same_gauge(recipe: Recipe) -> None:
    first, second = (fit_gauge(survey(), recipe, ALONE, CPU) for _ in range(2))
    assert first is not None
    assert second is not None
    for name, weight in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], weight)


def test_a_run_that_goes_on_does_not_fit_it_again(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = kept_gauge(tmp_path / "survey", survey(), recipe, ALONE, CPU)
    assert fitted is not None
    with monkeypatch.context() as later:
        later.setattr("training.gauge.fit_gauge", lambda *_given: pytest.fail("fitted again"))
        kept = kept_gauge(tmp_path / "survey", survey(), recipe, ALONE, CPU)
    assert kept is not None
    for name, weight in fitted.state_dict().items():
        assert torch.equal(kept.state_dict()[name], weight)
    another = kept_gauge(tmp_path / "survey", survey(), replace(recipe, seed=5), ALONE, CPU)
    assert another is not None
    assert not torch.equal(another.standard.weight, fitted.standard.weight)
    (tmp_path / "survey" / GAUGE).write_bytes(b"half of")
    again = kept_gauge(tmp_path / "survey", survey(), recipe, ALONE, CPU)
    assert again is not None
    assert torch.equal(again.standard.weight, fitted.standard.weight)


def test_there_is_none_without_rain_or_windows(recipe: Recipe) -> None:
    assert recipe.survey is not None
    none = replace(recipe, survey=replace(recipe.survey, gauge_windows=0))
    assert fit_gauge(survey(), none, ALONE, CPU) is None
    assert fit_gauge(survey(), replace(recipe, clean_share=1.0), ALONE, CPU) is None


def test_a_survey_with_a_gauge_finds_what_it_says_and_all_else_as_before() -> None:
    given, windows = survey(), torch.rand(2, 3, 32, 32)
    before = given.findings(windows)
    given.gauge = Gauge(given.sees).eval()
    after = given.findings(windows)
    torch.testing.assert_close(after[:, BRIGHTER], given.gauge(given.look(windows)))
    others = [place for place in range(FINDINGS) if place != BRIGHTER]
    torch.testing.assert_close(after[:, others], before[:, others])


def test_what_is_far_from_all_that_it_was_fitted_to_is_taken_as_five_deviations() -> None:
    gauge = Gauge(3)
    seen = torch.randn(200, 3) * 7 + 2
    gauge.standardise(seen)
    known = gauge.standard(seen)
    torch.testing.assert_close(known.mean(dim=0), torch.zeros(3), atol=0.02, rtol=0)
    torch.testing.assert_close(known.std(dim=0), torch.ones(3), atol=0.1, rtol=0)
    assert gauge.standard(torch.full((1, 3), 1e6)).tolist() == [[5.0] * 3]


def test_scales_of_voters_are_inverse_to_one_another() -> None:
    gauge = Gauge(2)
    for voter in gauge.voters:
        last = voter[-1]  # type: ignore[index]
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.constant_(last.bias, Gauge.encode(torch.tensor(0.7)).item())
    assert gauge(torch.zeros(1, 2)).item() == pytest.approx(0.7, abs=1e-5)
