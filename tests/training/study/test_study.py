"""The study as its user runs it, with trainings of a few steps."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from derain.image import PNG, encode
from training.study.__main__ import main
from training.study.cells import Category, Cell, HeldOut, list_cells, measure

LEAVES = Category("flat", None, 0.0)
SMALL_STUDY = ["--category", "flat=leaves:0", "--counts", "1", "2", "--seeds", "1", "--steps", "3"]
QUICKLY = ["--test-count", "1", "--unseen", "shower"]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures of noise, wide, high and small."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for index, shape in enumerate([(300, 400, 3), (400, 300, 3), (100, 100, 3)]):
        (folder / f"{index}.png").write_bytes(encode(rng.integers(0, 256, shape, dtype=np.uint8), PNG))
    return folder


def test_cells_are_all_that_there_is_to_vary(photographs: Path) -> None:
    """A whole seed after the other; a number that a category has not is left out, `all` is not twice."""
    categories = [Category("photographs", photographs), LEAVES]
    cells = list_cells(categories, [1, 3, 8, None], ["small", "large"], [0, 1])
    first = [(cell.category.name, cell.count, cell.rain) for cell in cells if cell.seed == 0]
    of_one_rain = [("photographs", 1), ("photographs", 3), ("flat", 1), ("flat", 3), ("flat", 8)]
    assert first == [(*one, rain) for rain in ("small", "large") for one in of_one_rain]
    assert [cell.seed for cell in cells] == [0] * 10 + [1] * 10


def test_doing_nothing_scores_as_the_input_and_perfection_as_the_clean(photographs: Path) -> None:
    cell = Cell(LEAVES, 1, "medium", 0)
    held_out = HeldOut(("medium", "shower"), photographs, count=2)
    for row in measure(cell, lambda picture: picture, held_out):
        assert row.removal == row.rain_change == 0
        assert row.psnr == row.input_psnr
        assert row.background_error == row.input_background_error
        assert row.background_error_50 == row.input_background_error_50 > 0
        assert row.clean_psnr == 100
        assert row.perfect_rain_change > 10


@pytest.mark.slow
def test_a_study_from_nothing_to_its_report(tmp_path: Path, photographs: Path) -> None:
    work, report = tmp_path / "work", tmp_path / "report"
    command = [str(work), *SMALL_STUDY, *QUICKLY, "--test", str(photographs), "--report", str(report)]
    category = ["--category", f"noise={photographs}"]
    assert main([*command, *category, "--jobs", "2"]) == 0
    with (report / "study.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 2, "categories, numbers, test rains"
    assert {(row["category"], row["count"]) for row in rows} == {
        (c, n) for c in ("flat", "noise") for n in "12"
    }
    assert all(float(row["psnr"]) > 0 and row["seed"] == "0" for row in rows)
    page = (report / "results.md").read_text()
    assert "4 trainings of 3 steps" in page
    assert "| (b) | removal of unseen rain falls" in page
    assert "not measured" in page, "wider rain was not trained in"
    for figure in ("removal", "rain-change", "background-error", "trade-off"):
        assert f"({figure}.svg)" in page
        assert "<svg" in (report / f"{figure}.svg").read_text()

    # The same command again measures nothing anew; one with more in it adds to what there is.
    result = work / "cells" / "flat-1-medium-seed0.json"
    known = result.read_bytes(), result.stat().st_mtime_ns
    assert main([*command, "--counts", "1", "3"]) == 0
    assert (result.read_bytes(), result.stat().st_mtime_ns) == known
    assert "5 trainings of 3 steps" in (report / "results.md").read_text()


@pytest.mark.slow
def test_machines_share_the_cells_and_other_settings_are_refused(
    tmp_path: Path, photographs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = [str(tmp_path), *SMALL_STUDY, *QUICKLY, "--test", str(photographs)]
    assert main([*command, "--share", "2/2"]) == 0
    assert [path.stem for path in (tmp_path / "cells").iterdir()] == ["flat-2-medium-seed0"]
    assert main([*command, "--steps", "4", "--counts", "2"]) == 1
    assert "was made with other settings" in capfd.readouterr().err
    known = json.loads((tmp_path / "cells" / "flat-2-medium-seed0.json").read_text())
    assert known["settings"]["recipe"]["steps"] == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rain", "frogs"], "no rain family 'frogs'"),
        (["--rain", "shower"], "shower is kept for evaluation"),
        (["--unseen", "frogs"], "no rain family 'frogs'"),
        (["--category", "mine=missing"], "missing is not a folder"),
        (["--test", "missing"], "missing is not a folder"),
    ],
)
def test_what_cannot_be_run_is_an_error(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), *arguments]) == 1
    assert f"error: {words}" in capsys.readouterr().err


def test_a_category_with_too_few_pictures_for_any_count_is_an_error(
    tmp_path: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), "--category", f"few={photographs}", "--counts", "64"]) == 1
    assert "no category has as many pictures" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--category", "mine"], "'mine' is not NAME=FOLDER"),
        (["--category", "a b=leaves:0"], "is not NAME=FOLDER"),
        (["--category", "mine=leaves:2"], "the complexity of leaves is 0 to 1"),
        (["--counts", "0"], "no whole number of 1 or more"),
        (["--share", "3/2"], "'3/2' is not a share"),
    ],
)
def test_bad_arguments_are_explained(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path), *arguments])
    assert words in capsys.readouterr().err
