"""Evaluation: what a model scores, and on which pictures."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from derain.arrays import Picture
from derain.image import PNG, encode
from derain.manifest import load_manifest
from tests.training.conftest import ExportedModel
from training.evaluate import PERFECT_PSNR, Pair, PairingError, evaluate, main, read_clean, read_pairs
from training.metrics import psnr
from training.rain.drawn import DOWNPOUR


def write(folder: Path, **pictures: Picture) -> Path:
    folder.mkdir(exist_ok=True)
    for name, picture in pictures.items():
        (folder / f"{name}.png").write_bytes(encode(picture, PNG))
    return folder


def grey(level: int, side_px: int = 16) -> Picture:
    return np.full((side_px, side_px, 3), level, dtype=np.uint8)


@pytest.fixture
def pair(picture: Picture) -> Pair:
    return Pair("one", DOWNPOUR.add(picture, 0, 0), picture)


# Scores


def test_perfect_deraining_removes_all_and_damages_nothing(pair: Pair) -> None:
    scores = evaluate(lambda picture: pair.clean, "set", "test", [pair])
    assert (scores.removal, scores.background_error) == (1, 0)
    assert scores.ssim == pytest.approx(1)
    assert scores.psnr is None, "infinite, which JSON cannot say"
    assert scores.pictures == 1


def test_doing_nothing_scores_what_the_input_scores(pair: Pair) -> None:
    scores = evaluate(lambda picture: picture, "set", "validation", [pair])
    assert (scores.removal, scores.rain_change) == (0, 0)
    assert scores.psnr == scores.input_psnr == pytest.approx(psnr(pair.rainy, pair.clean))
    assert scores.clean_psnr == PERFECT_PSNR
    assert (scores.name, scores.role) == ("set", "validation")


def test_clean_set_has_a_clean_score_alone(pair: Pair) -> None:
    clean = Pair("dry", pair.clean, pair.clean)
    scores = evaluate(lambda picture: np.bitwise_xor(picture, np.uint8(1)), "dry", "test", [clean])
    assert scores.clean_psnr == pytest.approx(20 * np.log10(255))  # each value off by one
    assert scores.psnr is scores.ssim is scores.removal is scores.background_error is None


def test_clean_pictures_do_not_weigh_on_the_rainy_scores(pair: Pair) -> None:
    pairs = [pair, Pair("dry", pair.clean, pair.clean)]
    scores = evaluate(lambda picture: picture, "mixed", "test", pairs)
    assert scores.pictures == 2
    assert scores.psnr == pytest.approx(psnr(pair.rainy, pair.clean))


def test_empty_set_is_an_error() -> None:
    with pytest.raises(PairingError, match="nothing has no pictures"):
        evaluate(lambda picture: picture, "nothing", "test", [])


# Folders


@pytest.mark.parametrize(
    ("rainy_names", "clean_names"),
    [
        (("a", "b"), ("a", "b")),
        (("input1", "input2"), ("norain1", "norain2")),
        (("rain-001", "rain-002"), ("1", "2")),
        (("set3_1", "set3_2"), ("set4_1", "set4_2")),
        (("a_1", "b_1"), ("a_1", "b_1")),  # the name goes before the number
    ],
)
def test_pairs_go_by_name_or_by_number(
    tmp_path: Path, rainy_names: tuple[str, str], clean_names: tuple[str, str]
) -> None:
    rainy = write(tmp_path / "rainy", **dict(zip(rainy_names, (grey(110), grey(120)), strict=True)))
    clean = write(tmp_path / "clean", **dict(zip(clean_names, (grey(10), grey(20)), strict=True)))
    pairs = list(read_pairs(rainy, clean))
    assert [pair.name for pair in pairs] == list(rainy_names)
    assert [(pair.rainy[0, 0, 0], pair.clean[0, 0, 0]) for pair in pairs] == [(110, 10), (120, 20)]


def test_folders_that_do_not_pair_say_why(tmp_path: Path) -> None:
    rainy = write(tmp_path / "rainy", a=grey(1))
    with pytest.raises(PairingError, match="missing is not a folder"):
        list(read_pairs(rainy, tmp_path / "missing"))
    empty = write(tmp_path / "empty")
    with pytest.raises(PairingError, match=r"no pictures in .*empty"):
        list(read_clean(empty))
    with pytest.raises(PairingError, match=r"a\.png has no clean partner in .*, by name or by number"):
        list(read_pairs(rainy, write(tmp_path / "other", b=grey(1))))
    with pytest.raises(PairingError, match=r"a\.png and .*a\.png are not of one size"):
        list(read_pairs(rainy, write(tmp_path / "larger", a=grey(1, side_px=17))))


def test_number_that_two_clean_pictures_share_is_refused(tmp_path: Path) -> None:
    rainy = write(tmp_path / "rainy", rain_7=grey(1))
    clean = write(tmp_path / "clean", day_7=grey(2), night_7=grey(3))
    with pytest.raises(PairingError, match=r"rain_7\.png could go with day_7\.png and night_7\.png"):
        list(read_pairs(rainy, clean))


def test_clean_folder_pairs_pictures_with_themselves(tmp_path: Path) -> None:
    (pair,) = read_clean(write(tmp_path / "clean", a=grey(7)))
    assert pair.name == "a"
    assert pair.rainy is pair.clean


# The command


def test_recorded_scores_are_in_manifest_and_card(
    exported: ExportedModel, pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(exported.folder, folder)
    rainy, clean = write(tmp_path / "mine", a=pair.rainy), write(tmp_path / "dry", a=pair.clean)
    sets = [str(folder), "--pairs", "mine", str(rainy), str(clean), "--clean", "dry", str(clean)]

    assert main(sets) == 0
    assert "| mine | test | 1 |" in capsys.readouterr().out
    assert not load_manifest(folder).evaluations, "nothing was asked to be recorded"

    assert main([*sets, "--role", "validation", "--record"]) == 0
    assert main([*sets, "--record"]) == 0  # takes the place of the first
    manifest = load_manifest(folder)
    assert [(e.name, e.role, e.pictures) for e in manifest.evaluations] == [
        ("mine", "test", 1),
        ("dry", "test", 1),
    ]
    mine, dry = manifest.evaluations
    assert mine.input_psnr == pytest.approx(psnr(pair.rainy, pair.clean))
    assert mine.clean_psnr == dry.clean_psnr is not None
    assert dry.psnr is None
    card = (folder / "README.md").read_text()
    assert f"| mine | test | 1 | {mine.psnr:.2f} | {mine.input_psnr:.2f} |" in card
    assert "| dry | test | 1 | – | – |" in card
    assert card.count("| mine |") == 1


def test_what_cannot_be_scored_is_said(
    exported: ExportedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 1
    assert "error: no model at" in capsys.readouterr().err
    assert main([str(exported.folder), "--clean", "dry", str(tmp_path / "missing")]) == 1
    assert "missing is not a folder" in capsys.readouterr().err
