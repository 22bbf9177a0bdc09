"""Contact sheets: what is on them, where, and how small."""

from pathlib import Path

import numpy as np
import pytest

from derain.arrays import Image
from derain.images.formats import PNG
from derain.images.plain import encode, read_image
from derain.inference.engine import Engine
from tests.conftest import noise, scene
from tests.training.conftest import ExportedModel
from training.pictures import shrink
from training.sheet import main

CELL_PX, GAP_PX, LABEL_PX = 40, 4, 20


def write(path: Path, picture: Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(picture, PNG))


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Two in the folder, one of them upright, and one below it."""
    write(tmp_path / "photographs" / "a.png", noise(60, 80))
    write(tmp_path / "photographs" / "b.png", scene(80, 60))
    write(tmp_path / "photographs" / "evening" / "c.png", scene(20, 30))
    return tmp_path / "photographs"


def test_each_is_derained_whole_and_made_small_after_that(
    exported: ExportedModel, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.png"
    arguments = [str(photographs), "-m", str(exported.folder), "-o", str(sheet), "--cell", str(CELL_PX)]
    assert main([*arguments, "--columns", "2"]) == 0
    assert capsys.readouterr().out == f"{sheet}: a.png to evening/c.png\n"
    shown = read_image(sheet)

    # Two rows, as high as the upright one and the small one.
    assert shown.shape == (2 * (LABEL_PX + GAP_PX) + CELL_PX + 20, 4 * CELL_PX + 3 * GAP_PX, 3)
    engine = Engine(exported.folder, threads=1)
    second = LABEL_PX + CELL_PX + GAP_PX + LABEL_PX
    for name, top, left in (
        ("a.png", LABEL_PX, 0),
        ("b.png", LABEL_PX, 2 * (CELL_PX + GAP_PX)),
        ("evening/c.png", second, 0),
    ):
        rainy = read_image(photographs / name)
        for picture, right in ((rainy, left), (engine.derain(rainy), left + CELL_PX + GAP_PX)):
            small = shrink(picture, CELL_PX)
            height, width = small.shape[:2]
            np.testing.assert_array_equal(shown[top : top + height, right : right + width], small)
            assert (shown[top : top + height, right + width : right + CELL_PX] == 255).all()
    engine.close()
    for top in (0, second - LABEL_PX):
        assert (shown[top : top + LABEL_PX, :CELL_PX] < 128).any(), "there is a label"


def test_what_does_not_fit_goes_onto_the_next(
    exported: ExportedModel, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "sheet.jpg"
    arguments = [str(photographs), str(photographs / "evening"), "-m", str(exported.folder)]
    assert main([*arguments, "-o", str(output), "--columns", "1", "--rows", "3"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path / 'sheet-1.jpg'}: photographs/a.png to photographs/evening/c.png",
        f"{tmp_path / 'sheet-2.jpg'}: evening/c.png to evening/c.png",
    ]
    assert sorted(path.name for path in tmp_path.glob("*.jpg")) == ["sheet-1.jpg", "sheet-2.jpg"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{tmp}/nowhere"], "nowhere is not a folder"),
        (["{tmp}/empty"], "no pictures in"),
        (["{tmp}/broken"], "broken/a.png: not an image"),
        (["{tmp}/photographs", "-o", "sheet.pdf"], "it can be written as .jpg"),
    ],
)
def test_mistakes_are_said_in_one_line(
    arguments: list[str],
    said: str,
    photographs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no picture")
    assert main([argument.format(tmp=tmp_path) for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
