"""Pairs found in the layouts of the field, and the errors where there is a doubt."""

from pathlib import Path

import numpy as np
import pytest

from derain.errors import ImageError
from derain.images.formats import JPEG, PNG
from derain.images.plain import encode
from training.pairs import PairingError, find_clean, find_pairs, pair_folders


def write(folder: Path, *names: str, width: int = 8) -> Path:
    """Grey pictures with the names given, of which some may be in subfolders."""
    picture = np.full((6, width, 3), 90, dtype=np.uint8)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(picture, PNG if path.suffix == ".png" else JPEG))
    return folder


def pairs_of(folder: Path, *folders: Path) -> dict[str, str]:
    pairing = pair_folders(folder, *folders) if folders else find_pairs(folder)
    root = Path(*folder.parts[: len(folder.parts) - bool(folders)])
    return {str(p.rainy.relative_to(root)): str(p.clean.relative_to(root)) for p in pairing.files}


LAYOUTS = {
    "Rain100 in one folder": {"rain-001.png": "norain-001.png", "rain-002.png": "norain-002.png"},
    "Rain100 in two": {
        "rain/rain-001.png": "norain/norain-001.png",
        "rain/rain-012.png": "norain/norain-012.png",
    },
    "Rain100, clean above": {"rainy/rain-001.png": "norain-001.png", "rainy/rain-002.png": "norain-002.png"},
    "Rain200": {
        "rain/X2/norain-1x2.png": "norain/norain-1.png",
        "rain/X2/norain-2x2.png": "norain/norain-2.png",
    },
    "Rain200 in one folder": {"norain-1x2.png": "norain-1.png", "norain-2x2.png": "norain-2.png"},
    "Rain1400": {
        "rainy_image/1_1.jpg": "ground_truth/1.jpg",
        "rainy_image/1_14.jpg": "ground_truth/1.jpg",
        "rainy_image/14_1.jpg": "ground_truth/14.jpg",
    },
    "SPA": {"rain/000.png": "gt/000gt.png", "rain/001.png": "gt/001gt.png"},
    "SPA in one folder": {"000.png": "000gt.png", "001.png": "001gt.png"},
    "SPA with rain": {"000rain.png": "000gt.png", "001rain.png": "001gt.png"},
    "Rain13k": {"input/1.png": "target/1.png", "input/b.png": "target/b.png"},
    "plain": {"rain/1.png": "clean/1.jpg", "rain/2.png": "clean/2.jpg"},
    "SIRR": {"rain/input1.png": "clean/norain1.png", "rain/input10.png": "clean/norain10.png"},
    "RainDrop": {"data/0_rain.png": "gt/0_clean.png", "data/1_rain.png": "gt/1_clean.png"},
    "Rain12": {"001_in.png": "001_GT.png", "002_in.png": "002_GT.png"},
    "one pair": {"rain.png": "norain.png"},
    "words": {"no_rain_3x2.png": "no_rain_3.png"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layouts_of_the_field_are_found(tmp_path: Path, layout: str) -> None:
    expected = LAYOUTS[layout]
    write(tmp_path, *expected, *expected.values(), ".hidden.png")
    assert pairs_of(tmp_path) == expected


@pytest.mark.parametrize(
    ("rainy", "clean"),
    [
        (("a", "b"), ("a", "b")),
        (("input1", "input2"), ("norain1", "norain2")),
        (("rain-001", "rain-002"), ("1", "2")),
        (("set3_1", "set3_2"), ("set4_1", "set4_2")),
        (("a_1", "b_1"), ("a_1", "b_1")),  # the name goes before the number
    ],
)
def test_two_folders_may_have_any_names(
    tmp_path: Path, rainy: tuple[str, str], clean: tuple[str, str]
) -> None:
    write(tmp_path, *(f"x/{name}.png" for name in rainy), *(f"y/{name}.png" for name in clean))
    expected = {f"x/{r}.png": f"y/{c}.png" for r, c in zip(rainy, clean, strict=True)}
    assert pairs_of(tmp_path / "x", tmp_path / "y") == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "has no pictures: which are rainy"),
        (("a.png", "b.png"), "none of the 2 pictures .* is named as clean"),
        (("norain-1.png",), "none of the 1 pictures .* is named as rainy"),
        (("light/1.png", "heavy/1.png", "clean/1.png"), "has clean/, heavy/, light/: which are rainy"),
        (("rain/1.png", "clean/1.png", "2.png"), r"has clean/, rain/, pictures \(2\.png\): which"),
        (("rain/1.png", "clean/x.png"), r"such as 1\.png with x\.png; known are"),
        (("rain/a/1.png", "rain/b/1.png", "gt/1.png"), "no pictures in .*rain itself; name one of a, b"),
        (("rain/readme.txt", "gt/1.png"), "no pictures in .*rain"),
        (
            ("rain/1.png", "rain/2.png", "rain/3.png", "gt/1.png", "gt/2.png", "gt/4.png"),
            r"2 rainy pictures have their clean one by the same name, but without a partner are 1 rainy "
            r"\(3\.png\) and 1 clean \(4\.png\)",
        ),
        # All fourteen are of scene 1: nothing is said of the other scenes.
        (
            (*(f"rain/1_{i}.png" for i in range(1, 4)), *(f"gt/{i}.png" for i in range(1, 4))),
            r"by the name before the rain's number, but without a partner are 2 clean \(2\.png, 3\.png\)",
        ),
        (("rain/rain_7.png", "gt/day_7.png", "gt/night_7.png"), r"could go with day_7\.png and night_7\.png"),
        (
            ("rain/a_7.png", "rain/b_7.png", "gt/c_7.png"),
            r"a_7\.png and b_7\.png would all go with .*c_7\.png",
        ),
    ],
)
def test_a_doubt_is_an_error_that_names_the_files(
    tmp_path: Path, names: tuple[str, ...], message: str
) -> None:
    write(tmp_path, *names)
    with pytest.raises(PairingError, match=message):
        find_pairs(tmp_path)


def test_folders_that_cannot_be_paired(tmp_path: Path) -> None:
    rainy = write(tmp_path / "x", "1.png")
    with pytest.raises(PairingError, match="missing is not a folder"):
        pair_folders(rainy, tmp_path / "missing")
    with pytest.raises(PairingError, match="missing is not a folder"):
        find_pairs(tmp_path / "missing")
    with pytest.raises(PairingError, match="named as rainy and as clean"):
        pair_folders(rainy, tmp_path / "x")
    with pytest.raises(PairingError, match=r"no pictures in .*empty"):
        (tmp_path / "empty").mkdir()
        find_clean(tmp_path / "empty")


def test_sizes_and_headers_are_looked_at_before_anything_runs(tmp_path: Path) -> None:
    write(tmp_path / "x", "1.png")
    write(tmp_path / "y", "1.png", width=9)
    with pytest.raises(PairingError, match=r"x/1\.png and .*y/1\.png are not of one size: 8 x 6 and 9 x 6"):
        pair_folders(tmp_path / "x", tmp_path / "y")
    (tmp_path / "y" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ImageError, match=r"y/1\.png"):
        pair_folders(tmp_path / "x", tmp_path / "y")


def test_sizes_that_agree_only_when_turned_are_not_one_size(tmp_path: Path) -> None:
    write(tmp_path / "x", "1.png")
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "1.png").write_bytes(encode(np.zeros((8, 6, 3), dtype=np.uint8), PNG))
    (files,) = pair_folders(tmp_path / "x", tmp_path / "y").files
    with pytest.raises(PairingError, match="8 x 6 and 6 x 8"):
        files.read()


def test_clean_pictures_pair_with_themselves(tmp_path: Path) -> None:
    (files,) = find_clean(write(tmp_path, "a.png"))
    pair = files.read()
    assert pair.name == "a"
    assert pair.rainy is pair.clean
