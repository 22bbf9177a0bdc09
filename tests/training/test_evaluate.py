"""Evaluation: what a model scores, and on which pictures."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from derain.arrays import Picture
from derain.engine import Engine
from derain.image import PNG, encode, read_picture
from derain.manifest import load_manifest
from tests.conftest import scene
from tests.training.conftest import ExportedModel
from tests.training.test_foreign_network import one, save
from training.card import write_model_texts
from training.evaluate import evaluate, main
from training.measurement import PERFECT_PSNR
from training.metrics import psnr
from training.pairs import Pair, PairingError
from training.rain.drawn import DOWNPOUR
from training.real import score_real


def write(folder: Path, **pictures: Picture) -> Path:
    folder.mkdir(exist_ok=True)
    for name, picture in pictures.items():
        (folder / f"{name}.png").write_bytes(encode(picture, PNG))
    return folder


@pytest.fixture
def pair(picture: Picture) -> Pair:
    return Pair("one", DOWNPOUR.add(picture, 0, 0), picture)


# Scores


def test_perfect_deraining_removes_all_and_damages_nothing(pair: Pair) -> None:
    scores = evaluate(lambda picture: pair.clean, "set", "test", [pair])
    assert (scores.removal, scores.background_error) == (1, 0)
    assert scores.ssim == pytest.approx(1)
    assert scores.psnr == scores.psnr_y == PERFECT_PSNR
    assert scores.pictures == 1


def test_doing_nothing_scores_what_the_input_scores(pair: Pair) -> None:
    scores = evaluate(lambda picture: picture, "set", "validation", [pair])
    assert (scores.removal, scores.rain_change) == (0, 0)
    assert scores.psnr == scores.input_psnr == pytest.approx(psnr(pair.rainy, pair.clean))
    assert scores.clean_psnr == PERFECT_PSNR
    assert (scores.name, scores.role) == ("set", "validation")


def test_one_perfect_picture_does_not_blank_the_mean(pair: Pair) -> None:
    other = Pair("two", DOWNPOUR.add(pair.clean, 0, 1), pair.clean)

    def derain(picture: Picture) -> Picture:
        return pair.clean if np.array_equal(picture, pair.rainy) else picture

    scores = evaluate(derain, "set", "test", [pair, other])
    assert scores.psnr == pytest.approx((PERFECT_PSNR + psnr(other.rainy, other.clean)) / 2)


def test_clean_set_has_a_clean_score_alone(pair: Pair) -> None:
    clean = Pair("dry", pair.clean, pair.clean)
    scores = evaluate(lambda picture: np.bitwise_xor(picture, np.uint8(1)), "dry", "test", [clean])
    assert scores.clean_psnr == pytest.approx(20 * np.log10(255))  # each value off by one
    assert scores.psnr is scores.ssim is scores.removal is scores.background_error is None


def test_jpeg_is_what_the_network_sees_and_not_what_is_wanted(picture: Picture, tmp_path: Path) -> None:
    """Doing nothing to clean pictures is right; to rainy ones it scores what JPEG leaves of them."""
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
        ".jpg", read_picture(folders[0] / "one.png")[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 20]
    )
    seen = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    assert seen is not None
    assert rainy["psnr"] == pytest.approx(psnr(seen[..., ::-1].astype(np.uint8), clean))
    assert dry["clean_psnr"] == PERFECT_PSNR


@pytest.mark.parametrize("quality", ["0", "101", "best"])
def test_jpeg_quality_is_checked(quality: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["models/base", "--jpeg", quality])
    assert quality in capsys.readouterr().err


def test_clean_pictures_do_not_weigh_on_the_rainy_scores(pair: Pair) -> None:
    pairs = [pair, Pair("dry", pair.clean, pair.clean)]
    scores = evaluate(lambda picture: picture, "mixed", "test", pairs)
    assert scores.pictures == 2
    assert scores.psnr == pytest.approx(psnr(pair.rainy, pair.clean))


def test_one_scene_under_several_rains_goes_through_clean_once(pair: Pair) -> None:
    clean_runs = []

    def derain(picture: Picture) -> Picture:
        clean_runs.append(np.array_equal(picture, pair.clean))
        return picture

    other = Pair("two", DOWNPOUR.add(pair.clean, 0, 1), pair.clean)
    scores = evaluate(derain, "scene", "test", [pair, other])
    assert scores.pictures == 2
    assert sum(clean_runs) == 1
    assert scores.clean_psnr == PERFECT_PSNR


def test_same_pictures_give_the_same_evaluation(pair: Pair) -> None:
    first, again = (evaluate(lambda picture: picture, "set", "test", [pair]) for _ in range(2))
    assert first == again, "how long it took is no part of it"


def test_empty_set_is_an_error() -> None:
    with pytest.raises(PairingError, match="nothing has no pictures"):
        evaluate(lambda picture: picture, "nothing", "test", [])


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
    assert shown.out.split()[:2] == ["mine", "dry"]  # how far apart, hangs on how fast it was
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
    assert mine.clean_psnr == dry.clean_psnr is not None
    assert dry.psnr is None
    card = (folder / "README.md").read_text()
    assert f"| mine | test | 1 | {mine.psnr:.2f} / {mine.psnr_y:.2f} | {mine.input_psnr:.2f} / " in card
    assert mine.measured_on is not None
    assert mine.measured_on.startswith("cpu, ")
    assert mine.ms_per_megapixel is not None
    assert mine.ms_per_megapixel > 0
    assert "| dry | test | 1 | – | – |" in card
    assert card.count("| mine |") == 1


@pytest.mark.slow
def test_the_repository_s_own_sets_are_for_validation(exported: ExportedModel, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(exported.folder, folder)
    assert main([str(folder), "--role", "test", "--record"]) == 0
    evaluations = load_manifest(folder).evaluations
    assert {e.role for e in evaluations} == {"validation"}
    assert {e.name for e in evaluations} >= {"drawn squall"}


def test_rain_that_was_trained_on_is_not_recorded(
    exported: ExportedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(exported.folder, folder)
    manifest = load_manifest(folder)
    recipe = manifest.recipe | {"rain": {"name": "small"}}
    write_model_texts(folder, manifest.model_copy(update={"recipe": recipe}))
    before = (folder / "manifest.json").read_bytes()
    sets = [str(folder), "--rain", "small", str(write(tmp_path / "dry", a=scene(20, 20)))]

    assert main([*sets, "--record"]) == 1
    shown = capsys.readouterr()
    assert "small is rain to train on" in shown.err
    assert not shown.out
    assert main(sets) == 0
    assert (folder / "manifest.json").read_bytes() == before


def skimage_scores(derained: Picture, clean: Picture, of_luma: bool) -> tuple[float, float]:
    a, b = (rgb2ycbcr(p)[..., 0] if of_luma else p for p in (derained, clean))
    channel_axis = None if of_luma else -1
    return (
        peak_signal_noise_ratio(b, a, data_range=255),  # type: ignore[no-untyped-call]
        structural_similarity(  # type: ignore[no-untyped-call]
            a,
            b,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
            channel_axis=channel_axis,
        ),
    )


def rained_set(folder: Path, clean: list[Picture]) -> Path:
    for i, picture in enumerate(clean):
        rainy = {f"rain-{i}": DOWNPOUR.add(picture, 0, i), f"norain-{i}": picture}
        write(folder, **rainy)
    return folder


def test_the_command_agrees_with_scikit_image(exported: ExportedModel, tmp_path: Path) -> None:
    folder = rained_set(tmp_path / "set", [scene(40, 60), scene(52, 44)])
    result = tmp_path / "new" / "scores.json"
    assert main([str(exported.folder), "--pairs", "mine", str(folder), "--json", str(result)]) == 0
    (mine,) = json.loads(result.read_text())["sets"]
    engine = Engine(exported.folder, threads=1)
    expected = []
    for i, each in enumerate(mine["each"]):
        rainy, clean = (read_picture(folder / f"{kind}-{i}.png") for kind in ("rain", "norain"))
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
    on_disk = {f"pictures/{path.name}" for path in (tmp_path / "page" / "pictures").iterdir()}
    assert shown == on_disk
    assert len(shown) == 6 * 4 + 3 + 3  # worst and best of eight pairs, the dry one, the real one
    assert "url(" not in page
    assert "@import" not in page
    assert "&lt;mine&gt;" in page
    assert "<mine>" not in page
    (before,) = (name for name in on_disk if name.startswith("pictures/real-0-0-before"))
    assert read_picture(tmp_path / "page" / before).shape == (960, 19, 3)


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


def test_what_cannot_be_scored_is_said(
    exported: ExportedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, dry = str(exported.folder), str(write(tmp_path / "dry", a=scene(20, 20)))
    network = tmp_path / "net" / "theirs.onnx"
    network.parent.mkdir()
    shutil.copy(exported.folder / "model.onnx", network)
    (tmp_path / "file").touch()
    broken = write(tmp_path / "broken", a=scene(20, 20))
    (broken / "b.png").write_bytes(b"no picture")
    for arguments, message in [
        ([str(tmp_path)], "no model at"),
        ([str(tmp_path / "missing.onnx")], "missing.onnx does not exist"),
        ([str(network.parent)], f"name the network: {network}"),
        ([model, "--clean", "dry", str(tmp_path / "missing")], "missing is not a folder"),
        ([model, "--pairs", "mine", dry], "none of the 1 pictures"),
        ([model, "--clean", "dry", dry, "--real", "dry", dry], "two sets are named dry"),
        ([model, "--clean", "dry", dry, "--range", "0..255"], "such options are for ONNX files"),
        ([model, "--rain", "frogs", dry], "no rain family 'frogs'"),
        ([model, "--clean", "dry", dry, "--html", str(tmp_path / "file")], "file"),
        ([model, "--clean", "dry", dry, "--json", str(tmp_path)], "is a folder: name a file"),
        ([model, "--clean", "dry", dry, "--clean", "broken", str(broken)], "b.png: not a picture"),
        ([model, "--clean", "dry", dry, "--real", "broken", str(broken)], "b.png: not a picture"),
        ([model, "--clean", "dry", dry, "--rain", "squall", str(broken)], "b.png: not a picture"),
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
    assert "error: at the picture odd: " in (shown := capsys.readouterr().err)
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
    assert "mine: it spoils clean pictures" in capsys.readouterr().err


def test_a_name_without_a_folder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["models/base", "--pairs", "mine"])
    assert "--pairs takes a name and one or two folders" in capsys.readouterr().err
