"""The rain families as one: what holds of every one of them, whatever its make."""

import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from derain.arrays import Image
from derain.errors import DerainError
from derain.images.formats import PNG, WEBP, ImageFormat
from derain.images.header import read_header
from derain.images.plain import encode
from training.commands.rain import main
from training.image_folder import list_images, subset
from training.rain.external import Imgaug, MissingLibraryError
from training.rain.families import (
    FAMILIES,
    HELD_OUT,
    TRAINABLE,
    Family,
    family,
    is_of_recipe,
    is_same,
    trainable,
)
from training.rain.rainmix import RainMix
from training.rain.streaks import LARGE, SMALL
from training.rain.textures import TextureRain
from training.recipes import describe, smoke

AT_HAND = [name for name in FAMILIES if name != "imgaug"]  # whose library cannot be installed beside ours


@pytest.fixture(scope="module")
def textures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images of rain on black: an upright bar of level 200, and one lying down of level 100."""
    folder = tmp_path_factory.mktemp("textures")
    upright, lying = np.zeros((2, 40, 60, 3), dtype=np.uint8)
    upright[:, 20:30] = 200
    lying[10:20] = 100
    (folder / "upright.png").write_bytes(encode(upright, PNG))
    (folder / "lying.png").write_bytes(encode(lying, PNG))
    return folder


@pytest.fixture(params=[*AT_HAND, "textures:", "rainmix:"])
def any_family(request: pytest.FixtureRequest, textures: Path) -> Family:
    name: str = request.param
    return family(f"{name}{textures}" if name.endswith(":") else name)


def test_seed_and_index_decide_the_picture(any_family: Family) -> None:
    grey = np.full((96, 128, 3), 90, dtype=np.uint8)
    numbers = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2**40, 7)]
    first = [any_family.add(grey, *pair) for pair in numbers]
    again = [any_family.add(grey, *pair) for pair in reversed(numbers)][::-1]
    np.testing.assert_array_equal(first, again)
    assert len({rainy.tobytes() for rainy in first}) == len(numbers)


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (70, 41)])
def test_pictures_of_any_size_and_the_background_stays(any_family: Family, shape: tuple[int, int]) -> None:
    background = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    before = background.copy()
    rainy = any_family.add(background, 0, 3)
    assert rainy.shape == background.shape
    assert rainy.dtype == np.uint8
    np.testing.assert_array_equal(background, before)


def test_rain_is_seen_and_lets_see(any_family: Family) -> None:
    black = np.zeros((128, 128, 3), dtype=np.uint8)
    rain = np.stack([any_family.add(black, 0, index) for index in range(8)])
    assert (rain > 10).any(axis=(1, 2, 3)).mean() >= 0.75, "most images are visibly in the rain"
    assert rain.mean() < 128
    assert len(fields(any_family)) > 1, "its parameters are declared"  # type: ignore[arg-type]


def test_what_is_held_out_cannot_be_trained_on() -> None:
    assert set(TRAINABLE) | set(HELD_OUT) == set(FAMILIES)
    assert {"small", "medium", "large", "rainmix"} <= set(TRAINABLE)
    assert {"drizzle", "shower", "downpour", "squall", "albumentations", "imgaug"} == set(HELD_OUT)
    for name in HELD_OUT:
        with pytest.raises(DerainError, match=f"{name} is kept for evaluation"):
            trainable(name)
    assert trainable("large") is LARGE


def test_rain_of_the_same_layers_is_no_other_rain(textures: Path, tmp_path: Path) -> None:
    """Whatever is made of them, and wherever they or copies of them lie."""
    copy, other = tmp_path / "copy", tmp_path / "other"
    shutil.copytree(textures, copy)
    other.mkdir()
    (other / "grey.png").write_bytes(encode(np.full((8, 8, 3), 90, dtype=np.uint8), PNG))
    seen = family(f"textures:{textures}")
    for recipe in (replace(smoke(), rain=family(f"rainmix:{textures}/")), replace(smoke(), rain=seen)):
        described = describe(recipe)["rain"]
        for same in (f"textures:{textures}", f"textures:{textures}/../{textures.name}", f"textures:{copy}"):
            assert is_same(family(same), recipe.rain)
            assert is_of_recipe(family(same), described)
        for another in (f"textures:{other}", "shower", "rainmix"):
            assert not is_same(family(another), recipe.rain)
            assert not is_of_recipe(family(another), described)
    assert not is_of_recipe(seen, describe(smoke())["rain"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("frogs", "no rain family 'frogs': small"),
        ("textures:", "no rain family 'textures:'"),
        ("textures:missing", "missing is not a folder"),
        ("rainmix:missing", "missing is not a folder"),
    ],
)
def test_unknown_rain_is_explained(name: str, words: str) -> None:
    with pytest.raises(DerainError, match=words):
        family(name)


def test_a_missing_library_is_named() -> None:
    try:
        Imgaug().add(np.zeros((32, 32, 3), dtype=np.uint8), 0, 0)
    except MissingLibraryError as error:
        assert "pip install 'derain[evaluation]', which brings a second OpenCV" in str(error)


# Textures and RainMix


def test_textures_are_cut_from_the_pictures(textures: Path) -> None:
    """At one level of gain and of zoom, every cut-out is a window of one of the two bars."""
    rain = TextureRain("bars", textures, zoom=(1, 1), gain=(1, 1), screen_share=0)
    found = set()
    for index in range(40):
        layer = np.rint(rain.layer(20, 20, 0, index) * 255)
        found |= set(np.unique(layer))
        same_in_columns, same_in_rows = (layer == layer[:1]).all(), (layer == layer[:, :1]).all()
        assert same_in_columns if layer.max() == 200 else same_in_rows
    assert found == {0, 100, 200}


def test_a_texture_smaller_than_the_picture_fills_it(textures: Path) -> None:
    layer = TextureRain("bars", textures, zoom=(0.1, 0.1), gain=(1, 1)).layer(160, 120, 0, 1)
    assert layer.shape == (160, 120)
    assert round(layer.max() * 255) in (100, 200)


@pytest.mark.parametrize("shape", [(8, 400), (400, 8), (1, 1)])
def test_textures_may_be_strips(shape: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "strip.png").write_bytes(encode(np.full((*shape, 3), 100, dtype=np.uint8), PNG))
    rain = TextureRain("strip", tmp_path, gain=(1, 1))
    for height, width in [(24, 600), (600, 24), (1, 1)]:
        layer = rain.layer(height, width, 0, 0)
        assert layer.shape == (height, width)
        assert np.unique(np.rint(layer * 255)) == 100


def test_rainmix_without_warps_is_its_source_made_stronger() -> None:
    """Identity chains: k R + (1 - k) R (sum of shares / largest share), nowhere weaker than R."""
    still = RainMix("still", SMALL, warps=(0, 0))
    source, mixed = (rain.layer(64, 64, 0, 0) for rain in (SMALL, still))
    where = (source > 0.02) & (mixed < 1)
    ratio = mixed[where] / source[where]
    assert 1 <= ratio.min() <= ratio.max() <= still.chains
    assert np.ptp(ratio) < 1e-4
    assert not mixed[source == 0].any()


def test_rainmix_bends_streaks() -> None:
    """The paper's narrow range falls within 5 degrees of upright; its mix leans further."""

    def lean(rain: Family) -> float:
        black = np.zeros((128, 128, 3), dtype=np.uint8)
        images = [rain.add(black, 0, index)[..., 0].astype(float) for index in range(12)]
        down, across = ([np.abs(np.diff(p, axis=axis)).mean() for p in images] for axis in (0, 1))
        return float(np.mean(down) / np.mean(across))

    assert lean(RainMix("mix", SMALL)) > 1.15 * lean(SMALL)


# The contact sheet


def test_contact_sheet_shows_each_family(tmp_path: Path, image: Image) -> None:
    backgrounds = tmp_path / "backgrounds"
    backgrounds.mkdir()
    (backgrounds / "one.png").write_bytes(encode(image, PNG))
    sheet = tmp_path / "sheet.jpg"
    options = ["--backgrounds", str(backgrounds), "-o", str(sheet), "--cell", "64"]
    assert main(["small", "squall", *options]) == 0
    assert sheet.stat().st_size > 1000


@pytest.mark.parametrize(("suffix", "format_"), [(".png", PNG), (".WEBP", WEBP)])
def test_contact_sheet_is_in_the_format_of_its_name(
    suffix: str, format_: ImageFormat, tmp_path: Path
) -> None:
    sheet = tmp_path / f"sheet{suffix}"
    assert main(["small", "-o", str(sheet), "--cell", "32", "--columns", "1"]) == 0
    assert read_header(sheet.read_bytes()).format == format_


def test_contact_sheet_reads_no_more_backgrounds_than_it_shows(tmp_path: Path, image: Image) -> None:
    backgrounds = tmp_path / "backgrounds"
    backgrounds.mkdir()
    for name in "abc":
        (backgrounds / f"{name}.png").write_bytes(encode(image, PNG))
    _first, *others = subset(list_images(backgrounds), None, seed=0)
    for path in others:
        path.write_bytes(b"no image")
    options = ["--backgrounds", str(backgrounds), "-o", str(tmp_path / "sheet.png"), "--cell", "32"]
    assert main(["small", *options, "--columns", "1"]) == 0
    assert main(["small", *options, "--columns", "2"]) == 1


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("missing/s.jpg", "missing is not a folder"),
        ("", "is a folder: name a file"),
        ("s.pdf", "s.pdf: it can be written as .jpg or .jpeg or "),
    ],
)
def test_contact_sheet_has_its_place_checked_first(
    output: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["small", "-o", str(tmp_path / output), "--backgrounds", "nowhere"]) == 1
    assert said in capsys.readouterr().err


def test_contact_sheet_of_unknown_rain_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["frogs"]) == 1
    assert capsys.readouterr().err.startswith("error: no rain family 'frogs'")
