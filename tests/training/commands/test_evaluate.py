"""Evaluation: what a model scores, and on which images."""

import csv
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from onnx import helper
from skimage import color, metrics

from derain.arrays import Image
from derain.images.formats import PNG
from derain.images.plain import encode, read_image
from derain.inference.engine import Engine
from derain.manifest import load_manifest
from tests.conftest import scene
from tests.training.conftest import ExportedModel
from tests.training.evaluation.test_external_onnx import one, save
from training.commands.evaluate import main
from training.evaluation.held_out import HeldOut
from training.evaluation.metrics import psnr, tone_fitted_psnr
from training.evaluation.no_reference import score_real
from training.evaluation.pairs import Pair, PairingError
from training.evaluation.scoring import PERFECT_PSNR, evaluate
from training.export.card import write_model_texts
from training.rain.drawn import DOWNPOUR
from training.stats import interval_of_mean


def write(folder: Path, **images: Image) -> Path:
    folder.mkdir(exist_ok=True)
    for name, image in images.items():
        (folder / f"{name}.png").write_bytes(encode(image, PNG))
    return folder


@pytest.fixture
def pair(image: Image) -> Pair:
    return Pair("one", DOWNPOUR.add(image, 0, 0), image)


# Scores


def test_perfect_deraining_removes_all_and_damages_nothing(pair: Pair) -> None:
    scores = evaluate(lambda image: pair.clean, "set", "test", [pair])
    assert (scores.removal, scores.background_error) == (1, 0)
    assert scores.ssim == pytest.approx(1)
    assert scores.psnr == scores.psnr_y == PERFECT_PSNR
    assert scores.pictures == 1


def test_doing_nothing_scores_what_the_input_scores(pair: Pair) -> None:
    scores = evaluate(lambda image: image, "set", "validation", [pair])
    assert (scores.removal, scores.rain_change) == (0, 0)
    assert scores.psnr == scores.input_psnr == pytest.approx(psnr(pair.rainy, pair.clean))
    assert scores.clean is not None
    assert (scores.untouched, scores.clean.identical) == (1, 1)
    assert (scores.name, scores.role) == ("set", "validation")


def test_one_perfect_picture_does_not_blank_the_mean(pair: Pair) -> None:
    other = Pair("two", DOWNPOUR.add(pair.clean, 0, 1), pair.clean)

    def derain(image: Image) -> Image:
        return pair.clean if np.array_equal(image, pair.rainy) else image

    scores = evaluate(derain, "set", "test", [pair, other])
    assert scores.psnr == pytest.approx((PERFECT_PSNR + psnr(other.rainy, other.clean)) / 2)


def test_clean_set_has_clean_scores_alone(pair: Pair) -> None:
    clean = Pair("dry", pair.clean, pair.clean)
    scores = evaluate(lambda image: np.bitwise_xor(image, np.uint8(1)), "dry", "test", [clean])
    assert scores.clean is not None
    assert scores.clean.median_changed == pytest.approx(20 * np.log10(255))  # each value off by one
    assert scores.psnr is scores.ssim is scores.removal is scores.background_error is None


def test_jpeg_is_what_the_network_sees_and_not_what_is_wanted(image: Image, tmp_path: Path) -> None:
    """Doing nothing to clean images is right; to rainy ones it scores what JPEG leaves of them."""
    idle = save(tmp_path / "idle.onnx", one("Identity"))
    clean = scene(64, 96)
    folders = [
        write(tmp_path / name, one=drawn)
        for name, drawn in (("rain", DOWNPOUR.add(clean, 0, 0)), ("clean", clean))
    ]
    table = tmp_path / "scores.json"
    named = ["--pairs", "set", *map(str, folders), "--clean", "dry", str(folders[1])]
    assert main([str(idle), *named, "--jpeg", "20", "--json", str(table)]) == 0
    rainy, dry = json.loads(table.read_text())["sets"]
    assert (rainy["name"], dry["name"]) == ("set as JPEG 20", "dry as JPEG 20")
    _, coded = cv2.imencode(
        ".jpg", read_image(folders[0] / "one.png")[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 20]
    )
    seen = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    assert seen is not None
    assert rainy["psnr"] == pytest.approx(psnr(seen[..., ::-1].astype(np.uint8), clean))
    assert dry["clean"]["identical"] == 1


@pytest.mark.parametrize("quality", ["0", "101", "best"])
def test_jpeg_quality_is_checked(quality: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["models/base", "--jpeg", quality])
    assert quality in capsys.readouterr().err


def test_clean_pictures_do_not_weigh_on_the_rainy_scores(pair: Pair) -> None:
    pairs = [pair, Pair("dry", pair.clean, pair.clean)]
    scores = evaluate(lambda image: image, "mixed", "test", pairs)
    assert scores.pictures == 2
    assert scores.psnr == pytest.approx(psnr(pair.rainy, pair.clean))


def test_one_scene_under_several_rains_goes_through_clean_once(pair: Pair) -> None:
    clean_runs = []

    def derain(image: Image) -> Image:
        clean_runs.append(np.array_equal(image, pair.clean))
        return image

    other = Pair("two", DOWNPOUR.add(pair.clean, 0, 1), pair.clean)
    scores = evaluate(derain, "scene", "test", [pair, other])
    assert scores.pictures == 2
    assert sum(clean_runs) == 1
    assert scores.clean is not None and scores.clean.images == 1


def test_same_pictures_give_the_same_evaluation(pair: Pair) -> None:
    first, again = (evaluate(lambda image: image, "set", "test", [pair]) for _ in range(2))
    assert first == again, "how long it took is no part of it"


def test_empty_set_is_an_error() -> None:
    with pytest.raises(PairingError, match="nothing has no images"):
        evaluate(lambda image: image, "nothing", "test", [])


# The command


def test_recorded_scores_are_in_manifest_and_card(
    exported: ExportedModel, pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(exported.folder, folder)
    rainy, clean = write(tmp_path / "mine", a=pair.rainy), write(tmp_path / "dry", a=pair.clean)
    sets = [str(folder), "--pairs", "mine", str(rainy), str(clean), "--clean", "dry", str(clean)]

    assert main(sets) == 0
    shown = capsys.readouterr()
    assert "mine" in shown.out.split("Clean images")[0] and "dry" in shown.out.split("Clean images")[1]
    assert "mine: 1 pair, matched by the same name" in shown.err
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
    assert mine.clean is not None and dry.clean is not None
    assert mine.clean.median_changed == dry.clean.median_changed is not None
    assert (dry.psnr, dry.gain) == (None, None)
    assert mine.psnr is not None and mine.gain is not None and mine.tone_fitted_gain is not None
    assert mine.gain.mean == pytest.approx(mine.psnr - psnr(pair.rainy, pair.clean))
    card = (folder / "README.md").read_text()
    assert f"| mine | test | 1 | {mine.psnr:.2f} / {mine.psnr_y:.2f} | {mine.input_psnr:.2f} / " in card
    assert mine.measured_on is not None
    assert mine.measured_on.startswith("cpu, ")
    assert mine.ms_per_megapixel is not None
    assert mine.ms_per_megapixel > 0
    assert f"| {mine.gain.mean:+.2f} | {mine.tone_fitted_gain.mean:+.2f} | " in card
    assert f"| dry | test | 1 | 0 | {dry.clean.below_40} | {dry.clean.below_30} | " in card
    assert card.count("| mine |") == 2, "a row of each table"


@pytest.mark.slow
def test_the_repository_s_own_sets_are_for_validation(
    exported: ExportedModel, few: HeldOut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.commands.evaluate.HELD_OUT", few)
    folder = tmp_path / "model"
    shutil.copytree(exported.folder, folder)
    assert main([str(folder), "--role", "test", "--record"]) == 0
    evaluations = load_manifest(folder).evaluations
    assert {e.role for e in evaluations} == {"validation"}
    assert {e.name for e in evaluations} >= {"drawn squall"}


def of_recipe(exported: ExportedModel, folder: Path, **recipe: Any) -> Path:
    """The model, copied to the folder, as if it had been trained by such a recipe."""
    shutil.copytree(exported.folder, folder)
    manifest = load_manifest(folder)
    write_model_texts(folder, manifest.model_copy(update={"recipe": manifest.recipe | recipe}))
    return folder


def test_rain_that_was_trained_on_is_not_recorded(
    exported: ExportedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = of_recipe(exported, tmp_path / "model", rain={"name": "small"})
    before = (folder / "manifest.json").read_bytes()
    sets = [str(folder), "--rain", "small", str(write(tmp_path / "dry", a=scene(20, 20)))]

    assert main([*sets, "--record"]) == 1
    shown = capsys.readouterr()
    assert "small is rain to train on" in shown.err
    assert not shown.out
    assert main(sets) == 0
    assert (folder / "manifest.json").read_bytes() == before


def test_rain_of_layers_that_were_trained_on_is_not_recorded(
    exported: ExportedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    streaks = write(tmp_path / "streaks", a=scene(20, 20))
    rain = {"name": "rainmix:streaks", "source": {"name": "rainmix:streaks", "folder": str(streaks)}}
    folder = of_recipe(exported, tmp_path / "model", rain=rain)
    dry = write(tmp_path / "dry", a=scene(20, 24))
    assert main([str(folder), "--rain", f"textures:{streaks}", str(dry), "--record"]) == 1
    assert "textures:streaks is rain to train on" in capsys.readouterr().err


def test_images_that_were_trained_on_are_not_recorded(
    exported: ExportedModel,
    few: HeldOut,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever is made of them, and where copies lie; the repository's own ones as well."""
    monkeypatch.setattr("training.commands.evaluate.HELD_OUT", few)
    photographs = write(tmp_path / "photographs", a=scene(40, 56))
    backgrounds = exported.manifest.recipe["backgrounds"] | {"photographs": str(photographs)}
    folder = of_recipe(exported, tmp_path / "model", backgrounds=backgrounds)
    before = (folder / "manifest.json").read_bytes()
    copy = write(tmp_path / "copy", b=scene(40, 56), other=scene(44, 40))
    rained = rained_set(tmp_path / "set", [scene(40, 56)])
    named = (
        ["--clean", "dry", str(copy), "--jpeg", "80"],
        ["--rain", "shower", str(copy), "--enlarge", "2"],
        ["--pairs", "mine", str(rained)],
    )
    for arguments in named:
        assert main([str(folder), *arguments, "--record"]) == 1
        assert (
            f"is among the images of {photographs}, which {folder} was trained on" in capsys.readouterr().err
        )
    assert (folder / "manifest.json").read_bytes() == before
    shutil.copy(few.photographs / "scene.png", photographs)
    assert main([str(folder), "--record"]) == 1
    assert f"{few.photographs / 'scene.png'} is among the images" in capsys.readouterr().err
    # Without truth there is nothing to record.
    real = ["--real", "mine", str(copy)]
    assert main([str(folder), *real, "--record"]) == 0


def skimage_scores(derained: Image, clean: Image, of_luma: bool) -> tuple[float, float]:
    a, b = (color.rgb2ycbcr(p)[..., 0] if of_luma else p for p in (derained, clean))
    channel_axis = None if of_luma else -1
    return (
        metrics.peak_signal_noise_ratio(b, a, data_range=255),  # type: ignore[no-untyped-call]
        metrics.structural_similarity(  # type: ignore[no-untyped-call]
            a,
            b,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
            channel_axis=channel_axis,
        ),
    )


def rained_set(folder: Path, clean: list[Image]) -> Path:
    for i, image in enumerate(clean):
        rainy = {f"rain-{i}": DOWNPOUR.add(image, 0, i), f"norain-{i}": image}
        write(folder, **rainy)
    return folder


@pytest.mark.slow
def test_the_command_agrees_with_scikit_image(exported: ExportedModel, tmp_path: Path) -> None:
    folder = rained_set(tmp_path / "set", [scene(40, 60), scene(52, 44)])
    result = tmp_path / "new" / "scores.json"
    assert main([str(exported.folder), "--pairs", "mine", str(folder), "--json", str(result)]) == 0
    (mine,) = json.loads(result.read_text())["sets"]
    engine = Engine(exported.folder, threads=1)
    expected = []
    for i, each in enumerate(mine["each"]):
        rainy, clean = (read_image(folder / f"{kind}-{i}.png") for kind in ("rain", "norain"))
        derained = engine.derain(rainy)
        expected.append(
            [*skimage_scores(derained, clean, of_luma=False), *skimage_scores(derained, clean, of_luma=True)]
        )
        got = [each["psnr"], each["ssim"], each["psnr_y"], each["ssim_y"]]
        assert each["name"] == f"rain-{i}"
        assert got == pytest.approx(expected[-1], abs=1e-4)
        assert each["input_psnr"] == pytest.approx(skimage_scores(rainy, clean, of_luma=False)[0], abs=1e-4)
    engine.close()
    means = [mine["psnr"], mine["ssim"], mine["psnr_y"], mine["ssim_y"]]
    assert means == pytest.approx(list(np.mean(expected, axis=0)), abs=1e-4)


def test_a_model_scores_the_same_as_a_strangers_file(exported: ExportedModel, tmp_path: Path) -> None:
    folder = rained_set(tmp_path / "set", [scene(40, 60)])
    outputs: list[Path] = []
    for model in ([str(exported.folder)], [str(exported.folder / "model.onnx"), "--multiple", "4"]):
        outputs.append(tmp_path / f"{len(outputs)}.json")
        assert main([*model, "--pairs", "mine", str(folder), "--json", str(outputs[-1])]) == 0
    ours, theirs = (json.loads(path.read_text()) for path in outputs)
    assert "float32 NCHW RGB in 0..1" in theirs["network"]
    for scores in (ours, theirs):
        for measured in (scores["sets"][0], scores["sets"][0]["each"][0]):
            measured.pop("ms", measured.pop("ms_per_megapixel", None))
    assert theirs["sets"] == ours["sets"]


def test_rain_is_made_over_clean_pictures(exported: ExportedModel, tmp_path: Path) -> None:
    folder = write(tmp_path / "dry", a=scene(40, 60), b=scene(44, 48))
    result = tmp_path / "scores.json"
    arguments = [str(exported.folder), "--rain", DOWNPOUR.name, str(folder), "--json", str(result)]
    assert main(arguments) == 0
    first = json.loads(result.read_text())["sets"][0]
    assert first["name"] == f"{DOWNPOUR.name} on dry"
    assert [each["input_psnr"] < 40 for each in first["each"]] == [True, True]
    assert main(arguments) == 0
    again = json.loads(result.read_text())["sets"][0]
    assert again["psnr"] == first["psnr"]


# The page


class Links(HTMLParser):
    """Whatever a page loads or points to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "iframe", "object")
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]


def test_the_page_has_all_it_shows_beside_it(exported: ExportedModel, tmp_path: Path) -> None:
    pairs = rained_set(tmp_path / "set", [scene(40, 60 + i) for i in range(8)])
    dry, real = write(tmp_path / "dry", a=scene(40, 60)), write(tmp_path / "street", b=scene(1000, 20))
    sets = ["--pairs", "<mine>", str(pairs), "--clean", "dry", str(dry), "--real", "street", str(real)]
    assert main([str(exported.folder), *sets, "--html", str(tmp_path / "page")]) == 0
    page = (tmp_path / "page" / "index.html").read_text()
    links = Links()
    links.feed(page)
    shown = {link for link in links.found if link != "data:,"}
    on_disk = {f"images/{path.name}" for path in (tmp_path / "page" / "images").iterdir()}
    assert shown == on_disk
    assert len(shown) == 6 * 4 + 3 + 3  # worst and best of eight pairs, the dry one, the real one
    assert "url(" not in page
    assert "@import" not in page
    assert "&lt;mine&gt;" in page
    assert "<mine>" not in page
    (before,) = (name for name in on_disk if name.startswith("images/real-0-0-before"))
    assert read_image(tmp_path / "page" / before).shape == (960, 19, 3)


def test_real_photographs_need_no_truth(
    exported: ExportedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "street", a=scene(40, 60))
    result = tmp_path / "scores.json"
    assert main([str(exported.folder), "--real", "street", str(folder), "--json", str(result)]) == 0
    assert "streaks" in capsys.readouterr().out
    scores = json.loads(result.read_text())
    assert scores["sets"] == []
    (street,) = scores["real"]
    engine = Engine(exported.folder, threads=1)
    expected = score_real(engine.derain(scene(40, 60)), scene(40, 60))
    engine.close()
    assert street["removed"] == pytest.approx(expected.removed)
    assert street["each"][0]["streaks"] == pytest.approx(expected.streaks)


# Sizes


def darker(path: Path, levels: int) -> Path:
    """A network that takes so many levels from everything."""
    node = helper.make_node("Sub", ["rainy", "levels"], ["clean"])
    return save(path, [node], constants={"levels": levels / 255})


def darkened(image: Image, levels: int) -> Image:
    """What `darker` makes of it."""
    return image - np.minimum(image, np.uint8(levels))


def lit_set(folder: Path, levels: dict[str, int]) -> list[Pair]:
    """Pairs in a folder, each brighter by so many levels in some stripes."""
    pairs: list[Pair] = []
    for name, brighter in levels.items():
        clean = scene(24, 36 + len(pairs))
        rainy = clean.copy()
        rainy[:, ::3] += np.minimum(np.uint8(brighter), 255 - rainy[:, ::3])
        write(folder, **{f"rain-{name}": rainy, f"norain-{name}": clean})
        pairs.append(Pair(f"rain-{name}", rainy, clean))
    return pairs


def scores_of(arguments: list[str], result: Path) -> Any:
    assert main([*arguments, "--json", str(result)]) == 0
    return json.loads(result.read_text())


def enlarged(image: Image, times: int) -> Image:
    larger = cv2.resize(image, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC)
    return np.asarray(larger, dtype=np.uint8)


def gain_of(pair: Pair, levels: int, times: int = 1) -> float:
    """Of `darker`, both sides enlarged before."""
    rainy, clean = enlarged(pair.rainy, times), enlarged(pair.clean, times)
    return psnr(darkened(rainy, levels), clean) - psnr(rainy, clean)


def test_enlarged_pairs_are_scored_beside_what_they_were(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = darker(tmp_path / "darker.onnx", 10)
    pairs = lit_set(tmp_path / "set", {"a": 60, "b": 90})
    sets = ["--pairs", "mine", str(tmp_path / "set"), "--clean", "dry", str(tmp_path / "set")]
    found = scores_of([str(network), *sets, "--enlarge", "2", "3"], tmp_path / "scores.json")["sets"]
    assert [each["name"] for each in found] == ["mine", "mine ×2", "mine ×3", "dry"]
    gains = [float(np.mean([gain_of(pair, 10, times) for pair in pairs])) for times in (1, 2, 3)]
    assert gains[0] > 0.5
    assert [each["gain"]["mean"] for each in found[:3]] == pytest.approx(gains, abs=1e-6)
    kept = [each["gain_kept"] for each in found]
    assert kept == [None, pytest.approx(gains[1] / gains[0]), pytest.approx(gains[2] / gains[0]), None]
    assert found[2]["each"][0]["pixels"] == 9 * pairs[0].clean[..., 0].size
    assert [each["kind"] for each in found] == ["mine", None, None, None], "sizes are no kinds"
    (line,) = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("mine ×3") and "+" in line
    ]
    assert line.endswith(f"  {gains[2] / gains[0]:.2f}")


def test_nothing_is_kept_of_what_was_no_gain(tmp_path: Path) -> None:
    network = darker(tmp_path / "darker.onnx", 10)
    lit_set(tmp_path / "set", {"a": 5})
    arguments = [str(network), "--pairs", "mine", str(tmp_path / "set"), "--enlarge", "2"]
    first, larger = scores_of(arguments, tmp_path / "scores.json")["sets"]
    assert first["gain"]["mean"] < 0 > larger["gain"]["mean"]
    assert larger["gain_kept"] is None


def test_enlarged_pairs_are_saved_as_jpeg_after_that(tmp_path: Path) -> None:
    network = darker(tmp_path / "darker.onnx", 10)
    (pair,) = lit_set(tmp_path / "set", {"a": 90})
    arguments = [str(network), "--pairs", "mine", str(tmp_path / "set"), "--enlarge", "2", "--jpeg", "80"]
    first, larger = scores_of(arguments, tmp_path / "scores.json")["sets"]
    assert (first["name"], larger["name"]) == ("mine as JPEG 80", "mine ×2 as JPEG 80")
    assert larger["gain_kept"] == pytest.approx(larger["gain"]["mean"] / first["gain"]["mean"])
    _, coded = cv2.imencode(".jpg", enlarged(pair.rainy, 2)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    seen = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    assert seen is not None
    expected = psnr(seen[..., ::-1].astype(np.uint8), enlarged(pair.clean, 2))
    assert larger["input_psnr"] == pytest.approx(expected)


@pytest.mark.parametrize("times", ["1", "0", "17", "nan", "big"])
def test_how_much_to_enlarge_is_checked(times: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["models/base", "--enlarge", "3", times])
    assert f"'{times}' is not a number above 1, up to 16" in capsys.readouterr().err


def test_what_would_be_too_large_is_said_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = darker(tmp_path / "darker.onnx", 10)
    flat = np.full((600, 700, 3), 90, dtype=np.uint8)
    folder = write(tmp_path / "set", **{"rain-a": flat + np.uint8(9), "norain-a": flat})
    assert main([str(network), "--pairs", "mine", str(folder), "--enlarge", "2", "16"]) == 1
    shown = capsys.readouterr()
    assert "rain-a.png enlarged 16 times has 108 megapixels; at most 64 are scored" in shown.err
    assert not shown.out


# Kinds


def test_sets_of_one_kind_count_once_in_the_mean_over_kinds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = darker(tmp_path / "darker.onnx", 10)
    levels = {"road/day": {"a": 60, "b": 5}, "road/night": {"a": 90}, "field": {"a": 40, "b": 70, "c": 30}}
    pairs = {name: lit_set(tmp_path / name.replace("/", "-"), of) for name, of in levels.items()}
    sets = [word for name in pairs for word in ("--pairs", name, str(tmp_path / name.replace("/", "-")))]
    kinds = scores_of([str(network), *sets], tmp_path / "scores.json")["kinds"]
    gains = {name: [gain_of(pair, 10) for pair in of] for name, of in pairs.items()}
    road = (np.mean(gains["road/day"]) + np.mean(gains["road/night"])) / 2
    field = np.mean(gains["field"])
    assert kinds["gain"] == pytest.approx((road + field) / 2)
    assert {kind: each["gain"] for kind, each in kinds["each"].items()} == pytest.approx(
        {"road": road, "field": field}
    )
    assert kinds["worst"]["kind"] == ("road" if road < field else "field")
    harmed = sum(gain < -0.3 for own in gains.values() for gain in own)
    assert (kinds["harmed"], kinds["rainy"], kinds["untouched"]) == (harmed, 6, 0)
    assert harmed == 1
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["road:", "2", "sets", "3"] in [row[:4] for row in rows]
    (last,) = [row for row in rows if row[:4] == ["mean", "of", "2", "kinds"]]
    worst = min(("road", road), ("field", field), key=lambda kind: kind[1])
    assert last[4:] == ["6", f"{(road + field) / 2:+.2f}", f"{worst[1]:+.2f}", worst[0], "1", "0"]


def test_a_tone_that_was_changed_is_counted_tone_fitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = darker(tmp_path / "darker.onnx", 10)
    (toned,), (plain,) = (lit_set(tmp_path / name, {"a": 60}) for name in ("toned", "plain"))
    sets = ["--pairs", "toned", str(tmp_path / "toned"), "--pairs", "plain", str(tmp_path / "plain")]
    kinds = scores_of([str(network), *sets, "--tone-changed", "toned"], tmp_path / "scores.json")["kinds"]
    fitted = [tone_fitted_psnr(image, toned.clean) for image in (toned.rainy, darkened(toned.rainy, 10))]
    assert kinds["each"]["toned"]["gain"] == pytest.approx(fitted[1] - fitted[0])
    assert kinds["each"]["plain"]["gain"] == pytest.approx(gain_of(plain, 10))
    assert "toned*" in capsys.readouterr().out
    assert main([str(network), *sets, "--tone-changed", "frogs"]) == 1
    assert "--tone-changed names 'frogs'; kinds of rain are toned, plain" in capsys.readouterr().err


def test_rain_made_over_images_of_ones_own_is_of_its_family_s_kind(tmp_path: Path) -> None:
    network = darker(tmp_path / "darker.onnx", 10)
    folder = str(write(tmp_path / "dry", a=scene(40, 60)))
    rains = [word for name in ("squall", "shower", "small") for word in ("--rain", name, folder)]
    kinds = scores_of([str(network), *rains], tmp_path / "scores.json")["kinds"]
    assert {kind: len(each["sets"]) for kind, each in kinds["each"].items()} == {"drawn": 2, "small": 1}


@pytest.mark.slow
def test_the_repository_s_own_sets_are_one_kind_beside_those_named(
    few: HeldOut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.commands.evaluate.HELD_OUT", few)
    network = save(tmp_path / "idle.onnx", one("Identity"))
    lit_set(tmp_path / "set", {"a": 60})
    found = scores_of([str(network), "--own", "--pairs", "mine", str(tmp_path / "set")], tmp_path / "s.json")
    drawn = found["kinds"]["each"]["drawn"]
    assert drawn["sets"] == [f"drawn {name}" for name in ("drizzle", "shower", "downpour", "squall")]
    assert drawn["untouched"] == drawn["rainy"] == found["kinds"]["untouched"] - 1
    assert found["kinds"]["gain"] == 0


# Several models


def test_models_are_compared_with_the_first_on_the_same_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    networks = [str(darker(tmp_path / f"{levels}.onnx", levels)) for levels in (5, 10, 20)]
    levels = {name: 30 + 12 * number for number, name in enumerate("abcdef")}
    pairs = {name: lit_set(tmp_path / name, levels) for name in ("road", "field")}
    sets = [word for name in pairs for word in ("--pairs", name, str(tmp_path / name))]
    table, page = tmp_path / "new" / "scores.csv", tmp_path / "page"
    arguments = [*networks, *sets, "--csv", str(table), "--html", str(page)]
    found = scores_of(arguments, tmp_path / "scores.json")

    assert [each["model"] for each in found["models"]] == networks
    assert [each["sets"][0]["gain"]["mean"] for each in found["models"]] == pytest.approx(
        [np.mean([gain_of(pair, levels) for pair in pairs["road"]]) for levels in (5, 10, 20)]
    )
    known = [
        interval_of_mean([gain_of(pair, levels) - gain_of(pair, 5) for pair in pairs["road"]])
        for levels in (10, 20)
    ]
    for interval, each in zip(known, found["differences"], strict=True):
        assert each["first"] == networks[0]
        assert each["sets"]["road"] == pytest.approx(vars(interval), abs=1e-6)
        assert each["kinds"]["mean"] == pytest.approx(interval.mean, abs=1e-6)
        assert each["kinds"]["low"] < each["kinds"]["mean"] < each["kinds"]["high"]

    shown = capsys.readouterr().out
    rows = [line for line in shown.split("\n\n")[1].splitlines() if line.startswith("road")]
    assert [row.split()[1] for row in rows] == networks
    assert rows[1].endswith(f"{known[0].mean:+.2f} ({known[0].low:.2f} to {known[0].high:.2f})")
    assert "difference" in shown

    with table.open() as file:
        lines = list(csv.DictReader(file))
    assert [line["name"] for line in lines] == 3 * ["road", "field", "mean of 2 kinds"]
    (second,) = [line for line in lines if (line["model"], line["name"]) == (networks[1], "road")]
    road = found["models"][1]["sets"][0]
    assert float(second["gain_mean"]) == pytest.approx(road["gain"]["mean"])
    assert second["gain_worst_name"] == road["gain"]["worst"]["name"]
    assert float(second["difference_low"]) == pytest.approx(known[0].low, abs=1e-6)
    assert lines[0]["difference"] == "", "the first differs from nothing"

    (links := Links()).feed((page / "index.html").read_text())
    files = [link.rpartition("/")[2] for link in links.found if link.startswith("images/0-0-")]
    in_a_row = [f"0-0-{kind}.jpg" for kind in ("before", "model-0", "model-1", "model-2", "clean")]
    assert list(dict.fromkeys(files)) == in_a_row
    derained = read_image(page / "images" / "0-0-model-2.jpg").astype(int)
    before = read_image(page / "images" / "0-0-before.jpg").astype(int)
    assert (before - derained).mean() == pytest.approx(20, abs=1.5)


def test_models_are_recorded_each(exported: ExportedModel, tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        shutil.copytree(exported.folder, folder)
    lit_set(tmp_path / "set", {"a": 60, "b": 80})
    pairs = ["--pairs", "mine", str(tmp_path / "set"), "--enlarge", "2"]
    assert main([*map(str, folders), *pairs, "--record"]) == 0
    recorded = [load_manifest(folder).evaluations for folder in folders]
    assert [each.name for each in recorded[0]] == ["mine", "mine ×2"]
    assert recorded[0][0].kind == "mine"
    for ours, theirs in zip(*recorded, strict=True):
        assert (ours.gain, ours.clean, ours.untouched) == (theirs.gain, theirs.clean, theirs.untouched)


def test_a_model_folder_and_a_stranger_s_file_compare(exported: ExportedModel, tmp_path: Path) -> None:
    """What is said of how to feed it is meant for the file alone."""
    lit_set(tmp_path / "set", {"a": 60})
    models = [str(exported.folder), str(exported.folder / "model.onnx")]
    arguments = [*models, "--multiple", "4", "--pairs", "mine", str(tmp_path / "set")]
    (difference,) = scores_of(arguments, tmp_path / "scores.json")["differences"]
    assert difference["sets"]["mine"] == {"mean": 0, "low": None, "high": None}, "of one image alone"


def test_what_cannot_be_compared_is_said(
    exported: ExportedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lit_set(tmp_path / "set", {"a": 60})
    model, pairs = str(exported.folder), ["--pairs", "mine", str(tmp_path / "set")]
    network = str(darker(tmp_path / "darker.onnx", 10))
    for arguments, message in [
        ([model, model], f"{model} is named twice"),
        ([model, str(tmp_path / "no.onnx")], "no.onnx does not exist"),
        ([model, network, "--record"], "darker.onnx has no manifest to --record in"),
        ([model, network, "--csv", str(tmp_path)], "is a folder: name a file"),
        ([model, str(tmp_path)], f"{tmp_path} is no model folder"),
    ]:
        assert main([*arguments, *pairs]) == 1
        shown = capsys.readouterr()
        assert message in shown.err.splitlines()[-1]
        assert not shown.out


@pytest.mark.parametrize("name", ["/night", "road/", "/"])
def test_a_kind_needs_a_name_and_so_does_its_set(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["models/base", "--pairs", name, "folder"])
    assert (
        f"--pairs takes a NAME or KIND/NAME, neither of them empty, not '{name}'" in capsys.readouterr().err
    )


# Mistakes


def test_what_cannot_be_scored_is_said(
    exported: ExportedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, dry = str(exported.folder), str(write(tmp_path / "dry", a=scene(20, 20)))
    network = tmp_path / "net" / "theirs.onnx"
    network.parent.mkdir()
    shutil.copy(exported.folder / "model.onnx", network)
    (tmp_path / "file").touch()
    broken = write(tmp_path / "broken", a=scene(20, 20))
    (broken / "b.png").write_bytes(b"no image")
    for arguments, message in [
        ([str(tmp_path)], "no model at"),
        ([str(tmp_path / "missing.onnx")], "missing.onnx does not exist"),
        ([str(network.parent)], f"name the network: {network}"),
        ([model, "--clean", "dry", str(tmp_path / "missing")], "missing is not a folder"),
        ([model, "--pairs", "mine", dry], "none of the 1 images"),
        ([model, "--clean", "dry", dry, "--real", "dry", dry], "two sets are named dry"),
        ([model, "--clean", "dry", dry, "--range", "0..255"], "such options are for ONNX files"),
        ([model, "--rain", "frogs", dry], "no rain family 'frogs'"),
        ([model, "--clean", "dry", dry, "--html", str(tmp_path / "file")], "file"),
        ([model, "--clean", "dry", dry, "--json", str(tmp_path)], "is a folder: name a file"),
        ([model, "--clean", "dry", dry, "--clean", "broken", str(broken)], "b.png: not a"),
        ([model, "--clean", "dry", dry, "--real", "broken", str(broken)], "b.png: not a"),
        ([model, "--clean", "dry", dry, "--rain", "squall", str(broken)], "b.png: not a"),
        ([str(network), "--clean", "dry", dry, "--record"], "no manifest to --record in"),
        ([str(network), "--clean", "dry", dry, "--layout", "NHWC"], "it is not NHWC"),
    ]:
        assert main(arguments) == 1
        shown = capsys.readouterr()
        assert message in shown.err.splitlines()[-1]
        assert not shown.out


def test_an_error_names_the_picture(
    exported: ExportedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "dry", first=scene(20, 20), odd=scene(22, 20))
    assert main([str(exported.folder / "model.onnx"), "--clean", "dry", str(folder)]) == 1
    assert "error: at the image odd: " in (shown := capsys.readouterr().err)
    assert "--multiple" in shown


def test_a_network_that_behaves_as_if_fed_wrongly_is_doubted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, folder = tmp_path / "theirs.onnx", rained_set(tmp_path / "set", [scene(40, 60)])
    save(network, one("Identity"))
    assert main([str(network), "--pairs", "mine", str(folder)]) == 0
    assert "mine: it changes next to nothing" in capsys.readouterr().err
    save(network, one("Sqrt"))
    assert main([str(network), "--pairs", "mine", str(folder)]) == 0
    assert "mine: it spoils clean images" in capsys.readouterr().err


def test_a_name_without_a_folder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["models/base", "--pairs", "mine"])
    assert "--pairs takes a name and one or two folders" in capsys.readouterr().err
