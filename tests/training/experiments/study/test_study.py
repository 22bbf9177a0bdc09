"""The study as its user runs it, with trainings of a few steps."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from derain.images.formats import PNG
from derain.images.plain import encode
from tests.conftest import heed_interrupts
from training.commands.study import main
from training.experiments.study.cells import (
    Category,
    Cell,
    HeldOut,
    StudyError,
    list_cells,
    measure,
    prepare,
    read_results,
)

LEAVES = Category("flat", None, 0.0)
SMALL_STUDY = ["--category", "flat=leaves:0", "--counts", "1", "2", "--seeds", "1", "--steps", "3"]
QUICKLY = ["--test-count", "1", "--unseen", "shower"]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images of noise, wide, high and small."""
    return noise_pictures(tmp_path_factory.mktemp("photographs"), seed=0)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three others."""
    return noise_pictures(tmp_path_factory.mktemp("held-out"), seed=1)


def noise_pictures(folder: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    for index, shape in enumerate([(300, 400, 3), (400, 300, 3), (100, 100, 3)]):
        (folder / f"{index}.png").write_bytes(encode(rng.integers(0, 256, shape, dtype=np.uint8), PNG))
    return folder


@pytest.mark.slow
def test_cells_are_all_that_there_is_to_vary(photographs: Path) -> None:
    """A whole seed after the other; a number that a category has not is left out, `all` is not twice."""
    categories = [Category("photographs", photographs), LEAVES]
    cells = list_cells(categories, [1, 3, 8, None], ["small", "large"], [0, 1])
    first = [(cell.category.name, cell.count, cell.rain) for cell in cells if cell.seed == 0]
    of_one_rain = [("photographs", 1), ("photographs", 3), ("flat", 1), ("flat", 3), ("flat", 8)]
    assert first == [(*one, rain) for rain in ("small", "large") for one in of_one_rain]
    assert [cell.seed for cell in cells] == [0] * 10 + [1] * 10


@pytest.mark.slow
def test_doing_nothing_scores_as_the_input_and_perfection_as_the_clean(photographs: Path) -> None:
    cell = Cell(LEAVES, 1, "medium", 0)
    held_out = HeldOut(("drizzle", "shower"), photographs, count=2)
    black = [np.zeros((64, 64, 3), dtype=np.uint8)]
    for row in measure(cell, lambda image: image, held_out, black):
        assert row.removal == row.rain_change == 0
        assert row.psnr == row.input_psnr
        assert row.background_error == row.input_background_error
        assert row.background_error_50 == row.input_background_error_50 > 0
        assert row.clean_psnr == 100
        assert row.perfect_rain_change > 10


@pytest.mark.slow
def test_a_study_from_nothing_to_its_report(tmp_path: Path, photographs: Path, held_out: Path) -> None:
    work, report = tmp_path / "work", tmp_path / "report"
    command = [str(work), *SMALL_STUDY, *QUICKLY, "--test", str(held_out), "--report", str(report)]
    category = ["--category", f"noise={photographs}"]
    assert main([*command, *category, "--counts", "1", "--jobs", "2"]) == 0
    assert "2 trainings of 3 steps" in (report / "results.md").read_text()

    # The same command again measures nothing anew; one with more in it adds to what there is.
    result = work / "cells" / "flat-1-medium-seed0.json"
    known = result.read_bytes(), result.stat().st_mtime_ns
    assert main(command) == 0
    assert (result.read_bytes(), result.stat().st_mtime_ns) == known
    with (report / "study.csv").open() as file:
        rows = list(csv.DictReader(file))
    cells = [(row["category"], row["count"]) for row in rows]
    assert sorted(cells) == sorted([("flat", "1"), ("flat", "2"), ("noise", "1")] * 2), "of two test rains"
    assert all(float(row["psnr"]) > 0 and row["seed"] == "0" for row in rows)
    page = (report / "results.md").read_text()
    assert "3 trainings of 3 steps" in page
    assert "| (b) | removal of unseen rain falls" in page
    assert "not measured" in page, "wider rain was not trained in"
    for figure in ("removal", "rain-change", "background-error", "trade-off"):
        assert f"({figure}.svg)" in page
        assert "<svg" in (report / f"{figure}.svg").read_text()


@pytest.mark.slow
def test_machines_share_the_cells_and_other_settings_are_refused(
    tmp_path: Path, held_out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = [str(tmp_path), *SMALL_STUDY, *QUICKLY, "--test", str(held_out)]
    assert main([*command, "--share", "2/2"]) == 0
    (cell,) = (tmp_path / "cells").iterdir()
    assert cell.stem == "flat-2-medium-seed0"
    assert main([*command, "--steps", "4", "--counts", "2"]) == 1
    assert "was made with other settings" in capfd.readouterr().err
    assert json.loads(cell.read_text())["settings"]["recipe"]["course"]["steps"] == 3

    # Of a damaged one it is said what to do, and by the report, that cells do not go together.
    other = json.loads(cell.read_text())
    other["settings"]["recipe"]["course"]["steps"] = 4
    (cell.parent / "flat-3-medium-seed0.json").write_text(json.dumps(other))
    with pytest.raises(StudyError, match="with other settings"):
        read_results(tmp_path)
    cell.write_text("{")
    assert main([*command, "--counts", "2"]) == 1
    assert "is damaged, or of another version: remove it" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_study_that_is_stopped_leaves_no_process_behind(
    number: signal.Signals, status: int, tmp_path: Path, held_out: Path
) -> None:
    """As Ctrl+C sends it, to all processes, or as a scheduler does, to the first one alone."""
    with started(tmp_path, held_out) as study:
        wait_for(lambda: both_train(tmp_path))
        if number == signal.SIGINT:
            os.killpg(study.pid, number)
        else:
            study.send_signal(number)
        assert study.wait(60) == status
        text = study.stderr.read().decode() if study.stderr else ""
        assert "Traceback" not in text, text
        wait_for(lambda: not group_is_alive(study.pid))
    assert list(tmp_path.glob("runs/*/checkpoint.pt")), "what was done is not lost"


@pytest.mark.slow
def test_a_cell_whose_process_is_killed_fails_alone(tmp_path: Path, held_out: Path) -> None:
    with started(tmp_path, held_out, "--steps", "20") as study:
        wait_for(lambda: both_train(tmp_path))
        children = Path(f"/proc/{study.pid}/task/{study.pid}/children").read_text().split()
        trainings = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(int(trainings[0]), signal.SIGKILL)
        assert study.wait(300) == 1
        text = study.stderr.read().decode() if study.stderr else ""
    assert "its process ended with status -9; the same command tries again" in text
    assert len(list(tmp_path.glob("cells/*.json"))) == 1


class started:  # noqa: N801
    """A study of two long cells at once, in a process group of its own, which does not outlive the test."""

    def __init__(self, folder: Path, held_out: Path, *options: str) -> None:
        cells = ["--category", "flat=leaves:0", "--counts", "1", "2", "--seeds", "1", "--jobs", "2"]
        command = [sys.executable, "-m", "training", "study", str(folder), *cells, "--steps", "100000"]
        command += [*QUICKLY, "--test", str(held_out), *options]
        self.study = subprocess.Popen(
            command, stderr=subprocess.PIPE, start_new_session=True, preexec_fn=heed_interrupts
        )

    def __enter__(self) -> "subprocess.Popen[bytes]":
        return self.study

    def __exit__(self, *_: object) -> None:
        if group_is_alive(self.study.pid):
            os.killpg(self.study.pid, signal.SIGKILL)
        self.study.wait(60)
        if self.study.stderr:
            self.study.stderr.close()


def both_train(folder: Path) -> bool:
    """They write to TensorBoard as soon as they can be asked to stop."""
    return len(list(folder.glob("runs/*/tensorboard"))) == 2


def group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(is_so: Callable[[], bool], longest_s: float = 120) -> None:
    deadline = time.monotonic() + longest_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# What is refused


def test_pictures_are_not_both_trained_and_tested_on(
    tmp_path: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(tmp_path), "--category", f"noise={photographs}", "--counts", "1"]
    assert main([*command, "--test", str(photographs)]) == 1
    assert "0.png is trained on, and tested on as" in capsys.readouterr().err


def test_a_category_stays_the_same_pictures(tmp_path: Path, photographs: Path, held_out: Path) -> None:
    test = HeldOut(("shower",), tmp_path, count=1)
    (tmp_path / "test.png").write_bytes(encode(np.zeros((8, 8, 3), dtype=np.uint8), PNG))
    prepare(Category("noise", photographs), test, tmp_path / "study")
    prepare(Category("noise", photographs), test, tmp_path / "study")
    with pytest.raises(StudyError, match="category noise was other images before"):
        prepare(Category("noise", held_out), test, tmp_path / "study")
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    (fewer / "0.png").write_bytes((photographs / "0.png").read_bytes())
    with pytest.raises(StudyError, match=r"1\.png is none of .*fewer"):
        prepare(Category("noise", fewer), test, tmp_path / "study")
    (fewer / "0.jpg").write_bytes((photographs / "0.png").read_bytes())
    with pytest.raises(StudyError, match="would both become"):
        prepare(Category("twice", fewer), test, tmp_path / "study")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rain", "frogs"], "no rain family 'frogs'"),
        (["--rain", "shower"], "shower is kept for evaluation"),
        (["--unseen", "frogs"], "no rain family 'frogs'"),
        (["--unseen", "large"], "--unseen large is rain to train in"),
        (["--category", "mine=missing"], "missing is not a folder"),
        (["--category", "a=leaves:0", "--category", "a=leaves:1"], "two categories are named a"),
        (["--test", "missing"], "missing is not a folder"),
    ],
)
def test_what_cannot_be_run_is_an_error(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), *arguments]) == 1
    assert f"error: {words}" in capsys.readouterr().err


@pytest.mark.parametrize("trained_in", ["rainmix:{}", "textures:{}/"])
def test_rain_of_the_training_is_not_unseen_in_another_guise(
    trained_in: str, tmp_path: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rain, unseen = trained_in.format(photographs), f"textures:{photographs}"
    assert main([str(tmp_path), "--rain", "medium", rain, "--unseen", "shower", unseen]) == 1
    assert f"error: --unseen {unseen} is rain to train in, as --rain {rain}" in capsys.readouterr().err


def test_a_category_with_too_few_pictures_for_any_count_is_an_error(
    tmp_path: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), "--category", f"few={photographs}", "--counts", "64"]) == 1
    assert "no category has as many images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--category", "mine"], "'mine' is not NAME=FOLDER"),
        (["--category", "a b=leaves:0"], "is not NAME=FOLDER"),
        (["--category", "mine=leaves:2"], "'2' is not a number from 0 to 1"),
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
