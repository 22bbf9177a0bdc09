import re
import unicodedata
from pathlib import Path, PurePath

import pytest

from derain.command.names import Namer, is_same_file, name_key
from derain.images.formats import JPEG, PNG, WEBP, ImageFormat

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "pluie-été.jpg") for form in ("NFC", "NFD"))


def named(*places: str, image_format: ImageFormat | None = JPEG) -> list[str]:
    return [str(name) for name in Namer().name_all((PurePath(place), image_format) for place in places)]


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("IMG_1.heic", "IMG_1.heic.jpg"),
        ("b/a.heic", "b/a.heic.jpg"),
        ("2026.11", "2026.11.jpg"),
        ("no suffix", "no suffix.jpg"),
        ("a.JPE", "a.JPE"),
        ("b.jfif", "b.jfif"),
        ("c.mpo", "c.mpo.jpg"),
    ],
)
def test_a_name_says_its_source_and_its_format(place: str, name: str) -> None:
    assert named(place) == [name]


@pytest.mark.parametrize(
    "places",
    [
        ["IMG_1.jpg", "IMG_1.JPG", "img_1.jpg"],
        ["IMG_1.heic", "IMG_1.heic.jpg"],
        ["day/a.jpg", "DAY/a.jpg"],
        ["straße.jpg", "STRASSE.jpg"],
        [COMPOSED, DECOMPOSED],
    ],
)
def test_names_that_some_disk_takes_for_one_are_marked(places: list[str]) -> None:
    """None has the plain one, and each has the same one in whatever company: it may be there already."""
    marks = [re.fullmatch(r".*-[0-9a-f]{8}\.(jpg|JPG)", name) for name in named(*places)]
    assert all(marks)
    assert len({name_key(PurePath(name)) for name in named(*places)}) == len(places)
    assert named(*reversed(places), "other.jpg") == [*reversed(named(*places)), "other.jpg"]
    assert named(*places[:2]) == named(*places)[:2]


def test_a_source_called_like_a_mark() -> None:
    """As of a result that was put among the sources."""
    first, second = named("a.jpg", "A.jpg")
    names = named("a.jpg", "A.jpg", first)
    assert len(set(names)) == 3
    assert first not in names
    assert names[1] == second


def test_a_folder_has_its_name() -> None:
    marked, inside = named("a.heic", "a.heic.jpg/b.jpg")
    assert (marked[:7], inside) == ("a.heic-", "a.heic.jpg/b.jpg")


def test_what_nobody_knows_keeps_its_name() -> None:
    assert named("a.xyz", "b", image_format=None) == ["a.xyz", "b"]


def test_names_are_remembered() -> None:
    namer = Namer()
    for place, image_format, name in [
        ("a.heic", JPEG, r"a.heic.jpg"),
        ("a.jpg", JPEG, r"a.jpg"),
        ("A.heic.JPG", JPEG, r"A.heic-\w{8}.JPG"),
        ("a.png", PNG, r"a.png"),
        ("A.PNG", WEBP, r"A.PNG.webp"),
    ]:
        (found,) = namer.name_all([(PurePath(place), image_format)])
        assert re.fullmatch(name, str(found))


def test_one_file_by_two_paths(tmp_path: Path) -> None:
    file, link = tmp_path / "a.jpg", tmp_path / "b.jpg"
    file.touch()
    link.symlink_to(file)
    assert is_same_file(link, file)
    assert not is_same_file(tmp_path / "A.jpg", file) or (tmp_path / "A.jpg").exists()
