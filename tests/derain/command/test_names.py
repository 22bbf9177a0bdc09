import unicodedata
from pathlib import Path, PurePath

import pytest

from derain.command.names import Namer, is_same_file
from derain.images.formats import JPEG, PNG, WEBP, ImageFormat

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "pluie-été.jpg") for form in ("NFC", "NFD"))


def named(*places: str, image_format: ImageFormat | None = JPEG) -> list[str]:
    return [str(name) for name in Namer().name_all((PurePath(place), image_format) for place in places)]


@pytest.mark.parametrize(
    ("places", "names"),
    [
        (["IMG_1.heic"], ["IMG_1.jpg"]),
        (["IMG_1.heic", "IMG_1.jpg"], ["IMG_1.heic.jpg", "IMG_1.jpg"]),
        (["IMG_1.jpg", "img_1.HEIC"], ["IMG_1.jpg", "img_1.HEIC.jpg"]),
        (["IMG_1.heic", "IMG_1.png"], ["IMG_1.heic.jpg", "IMG_1.png.jpg"]),
        (["IMG_1.heic", "IMG_1.jpg", "IMG_1.heic.jpg"], ["IMG_1.heic-2.jpg", "IMG_1.jpg", "IMG_1.heic.jpg"]),
        (["IMG_1.jpg", "IMG_1.JPG", "img_1.jpg"], ["IMG_1.jpg", "IMG_1-2.JPG", "img_1-3.jpg"]),
        (["day/a.heic", "DAY/a.jpg"], ["day/a.heic.jpg", "DAY/a.jpg"]),
        (["a.jpg", "b/a.heic"], ["a.jpg", "b/a.jpg"]),
        (["a.heic", "a.jpg/b.jpg"], ["a.heic.jpg", "a.jpg/b.jpg"]),  # the second needs a folder
        (["straße.jpg", "STRASSE.jpg"], ["straße.jpg", "STRASSE-2.jpg"]),
        ([COMPOSED, DECOMPOSED], [COMPOSED, f"{DECOMPOSED.removesuffix('.jpg')}-2.jpg"]),
        (["2026.11", "no suffix"], ["2026.11.jpg", "no suffix.jpg"]),
        (["a.JPE", "b.jfif", "c.mpo"], ["a.JPE", "b.jfif", "c.jpg"]),
    ],
)
def test_each_has_a_name_of_its_own_on_any_disk(places: list[str], names: list[str]) -> None:
    assert named(*places) == names


def test_what_nobody_knows_keeps_its_name() -> None:
    assert named("a.xyz", "b", image_format=None) == ["a.xyz", "b"]


def test_names_are_remembered() -> None:
    namer = Namer()
    for place, image_format, name in [
        ("a.heic", JPEG, "a.jpg"),
        ("a.jpg", JPEG, "a-2.jpg"),
        ("a.png", PNG, "a.png"),
        ("A.PNG", WEBP, "A.webp"),
    ]:
        assert namer.name_all([(PurePath(place), image_format)]) == [PurePath(name)]


def test_one_file_by_two_paths(tmp_path: Path) -> None:
    file, link = tmp_path / "a.jpg", tmp_path / "b.jpg"
    file.touch()
    link.symlink_to(file)
    assert is_same_file(link, file)
    assert not is_same_file(tmp_path / "A.jpg", file) or (tmp_path / "A.jpg").exists()
