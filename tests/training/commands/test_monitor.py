"""What a failure is, and that the fit and its measures are right, by independent answers."""

import json
from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy

from derain.arrays import Image
from derain.images.formats import PNG
from derain.images.plain import encode
from derain.manifest import MANIFEST_NAME, load_manifest
from derain.monitor import WEIGHTS, Features, monitor
from tests.conftest import scene, write_model
from training.commands.monitor import main
from training.evaluation.monitor.calibration import Judged, cross_validated, evidence, failed, fit, treatments
from training.evaluation.monitor.report import measure_set
from training.evaluation.pairs import Pair
from training.evaluation.sets import ImageSet
from training.stats import auc, roc

CLEAN = scene(64, 96)


def rained(levels: int) -> Image:
    """Upright streaks, so many levels brighter than what is behind them."""
    rainy = CLEAN.copy()
    rainy[:, ::6] = np.minimum(rainy[:, ::6].astype(int) + levels, 255)
    return rainy


def halfway(image: Image, share: float) -> Image:
    return np.asarray(cv2.addWeighted(image, 1 - share, CLEAN, share, 0), dtype=np.uint8)


def test_a_failure_is_rain_that_was_worth_removing_and_stayed() -> None:
    heavy, faint = Pair("heavy", rained(100), CLEAN), Pair("faint", rained(12), CLEAN)
    assert failed(heavy.rainy, heavy)
    assert failed(halfway(heavy.rainy, 0.4), heavy)
    assert not failed(halfway(heavy.rainy, 0.6), heavy)
    assert not failed(CLEAN, heavy)
    assert not failed(faint.rainy, faint)
    assert not failed(255 - CLEAN, Pair("clean", CLEAN, CLEAN))


def test_the_networks_that_a_model_is_made_into() -> None:
    heavy = Pair("heavy", rained(100), CLEAN)
    found = {each.network: failed(each.derained, heavy) for each in treatments(heavy, lambda _: CLEAN)}
    assert found == {"the model": False, "idle": True, "weak": True, "perfect": False, "most": False}


def judged(count: int) -> list[Judged]:
    """Failures by a known law of two of the signs, with chance in it."""
    rng = np.random.default_rng(1)
    names = [field.name for field in fields(Features)]
    cases = []
    for i in range(count):
        signs = Features(**dict(zip(names, rng.normal(0, 2, len(names)).tolist(), strict=True)))
        chance = 1 / (1 + np.exp(-(1.5 * signs.lines - signs.removed - 0.5)))
        cases.append(Judged(f"{i // 2}", "the model", signs, True, bool(rng.random() < chance)))
    return cases


def test_the_fit_finds_the_law_behind() -> None:
    weights = fit(judged(4000))
    expected = dict.fromkeys(weights, 0.0) | {"lines": 1.5, "removed": -1.0, "bias": -0.5}
    assert weights == pytest.approx(expected, abs=0.15)


def test_cross_validation_has_not_seen_the_answer() -> None:
    """Where outcomes are chance, a fit to few images knows them, and none of those left out."""
    rng = np.random.default_rng(2)
    cases = [replace(case, failed=bool(rng.random() < 0.5)) for case in judged(60)]
    outcome = [case.failed for case in cases]
    assert auc(evidence(fit(cases), cases), outcome) > 0.6
    assert auc(cross_validated(cases), outcome) < 0.6


@pytest.mark.slow  # SciPy takes half a second to load
def test_auc_is_the_rank_test() -> None:
    rng = np.random.default_rng(3)
    outcome = rng.random(200) < 0.3
    scores = np.round(rng.normal(0, 1, 200) + outcome, 1)  # with ties
    tested = scipy.stats.mannwhitneyu(scores[outcome], scores[~outcome]).statistic
    assert auc(scores, outcome.tolist()) == pytest.approx(tested / outcome.sum() / (~outcome).sum())
    false_alarms, found = roc(scores.tolist(), outcome.tolist())
    assert np.trapezoid(found, false_alarms) == pytest.approx(auc(scores, outcome.tolist()))
    assert np.isnan(auc(scores, [False] * 200))


def test_a_report_judges_what_the_service_does() -> None:
    clean = scene(300, 420)
    rainy = clean.copy()
    rainy[:20, ::6] = 255  # streaks at the upper border alone, which is not looked at
    rainy[200:, ::9] = 255
    sets = ImageSet("mine", "test", [Pair("one", rainy, clean)])

    def derain(image: Image) -> Image:
        return np.asarray(cv2.medianBlur(image, 3), dtype=np.uint8)

    judged = measure_set(sets, {"median": derain})
    scores = {each.network: each.score for each in judged}
    assert scores["the model"] == monitor(rainy, derain(rainy), derain).probability
    assert scores["idle"] == monitor(rainy, rainy, lambda image: image).probability


@pytest.mark.slow
def test_a_report_of_pairs_and_clean_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_model(tmp_path / "model")
    for folder, image in (("rain", rained(100)), ("clean", CLEAN)):
        (tmp_path / "pairs" / folder).mkdir(parents=True)
        for name in ("1.png", "2.png"):
            (tmp_path / "pairs" / folder / name).write_bytes(encode(image, PNG))
    sets = ["--pairs", "mine", str(tmp_path / "pairs"), "--clean", "dry", str(tmp_path / "pairs" / "clean")]
    figure = tmp_path / "roc.svg"
    assert main(["report", str(model), *sets, "-o", str(figure), "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    assert "| mine | idle | 2 | 2 | – |" in printed
    assert "| dry | idle | 2 |" in printed
    assert "<svg" in figure.read_text()


def test_a_fit_writes_the_weights_that_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for i in range(5):
        (photographs / f"{i}.png").write_bytes(encode(np.roll(scene(120, 160), 20 * i, axis=1), PNG))
    monkeypatch.setattr("training.commands.monitor.PHOTOGRAPHS", photographs)
    fitted = tmp_path / "fitted.json"
    model = write_model(tmp_path / "model")
    assert main(["fit", str(model), "-o", str(fitted), "--threads", "1"]) == 0
    written, shipped = json.loads(fitted.read_text()), json.loads(WEIGHTS.read_text())
    assert written.keys() == shipped.keys()
    assert written["weights"].keys() == shipped["weights"].keys()
    assert written["judged"] == 5 * (2 + 3 * 5)
    assert 0 < written["failures"] < written["judged"]


@pytest.mark.parametrize(
    ("output", "words"),
    [("docs/monitoring/", "docs/monitoring is a folder: name a file"), ("roc.pdf", "as .svg or .png")],
)
def test_where_a_report_cannot_go_is_said_first(
    output: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path), "--clean", "dry", str(tmp_path), "-o", output]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words"), [("tiny", "tiny: idle, weak, tiny, tiny"), ("weak", "weak: idle, ")]
)
def test_networks_of_one_name_are_not_reported_for_one_another(
    name: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, other = write_model(tmp_path / "model"), write_model(tmp_path / "other", channels=5)
    manifest = load_manifest(other).model_copy(update={"name": name})
    (other / MANIFEST_NAME).write_text(manifest.model_dump_json())
    dry = tmp_path / "dry"
    dry.mkdir()
    (dry / "one.png").write_bytes(encode(CLEAN, PNG))
    arguments = [str(model), "--other", str(other), "--clean", "dry", str(dry), "--threads", "1"]
    assert main(["report", *arguments]) == 1
    said = capsys.readouterr()
    assert f"two networks are named {words}" in said.err
    assert not said.out


def test_a_report_of_nothing_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["report", "models/base"])
    assert stopped.value.code == 2
    assert "name a set" in capsys.readouterr().err
