"""The ablation as its user runs it, with trainings of a few steps."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from derain.images.formats import PNG
from derain.images.plain import encode
from tests.training.conftest import changed
from training.commands import ablation as command
from training.evaluation.held_out import HeldOut
from training.evaluation.pairs import Pair, PairFiles, find_clean, find_pairs
from training.evaluation.sets import ImageSet
from training.experiments.ablation.cells import (
    Cell,
    OwnSet,
    check_apart,
    known,
    measure_sets,
    own_set,
    read_done,
    run_cell,
)
from training.experiments.ablation.variants import AblationError, Variant
from training.experiments.grid import GridError
from training.rain.drawn import DRAWN
from training.recipes import Recipe
from training.trainer.distributed import Processes


@pytest.fixture
def one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring is on one small image a family, so that it takes no time."""
    made = HeldOut.sets

    def fewer(held_out: HeldOut) -> Iterator[tuple[str, list[Pair]]]:
        for name, pairs in made(replace(held_out, longest_px=96)):
            yield name, pairs[:1]

    monkeypatch.setattr(HeldOut, "sets", fewer)


def noise_pairs(folder: Path, count: int, side_px: int = 40) -> Path:
    rng = np.random.default_rng(0)
    for kind in ("rain", "clean"):
        (folder / kind).mkdir(parents=True)
        for index in range(count):
            image = rng.integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)
            (folder / kind / f"{index}.png").write_bytes(encode(image, PNG))
    return folder


@pytest.mark.slow
def test_a_set_is_measured_in_part(tmp_path: Path) -> None:
    """Spread over it, and of each image the middle."""
    files = find_pairs(noise_pairs(tmp_path, 30, side_px=400)).files
    own = own_set(ImageSet("mine", "validation", files))
    assert [pair.rainy.stem for pair in own.files] == [pair.rainy.stem for pair in files[::3]]
    pair, whole = own.cases[0].read(), files[0].read()
    np.testing.assert_array_equal(pair.rainy, whole.rainy[40:360, 40:360])
    np.testing.assert_array_equal(pair.clean, whole.clean[40:360, 40:360])


def test_doing_nothing_gains_nothing(one_picture: None, tmp_path: Path) -> None:
    pairs = noise_pairs(tmp_path, 2)
    sets = [
        own_set(ImageSet("mine", "validation", find_pairs(pairs).files)),
        own_set(ImageSet("dry", "validation", find_clean(pairs / "clean"))),
    ]
    *drawn, mine, dry = measure_sets(lambda image: image, sets)
    assert [each.name for each in drawn] == [f"drawn {rain.name}" for rain in DRAWN]
    for each in (*drawn, mine):
        assert each.role == "validation"
        assert (each.psnr, each.removal) == (each.input_psnr, 0)
        assert each.clean is not None and each.clean.identical == each.clean.images
    assert dry.clean is not None
    assert (dry.psnr, dry.pictures, dry.clean.identical) == (None, 2, 2)


@pytest.mark.slow
def test_a_cell_that_is_done_is_known_and_no_other(
    one_picture: None, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    own = OwnSet("mine", tuple(find_pairs(noise_pairs(tmp_path / "pairs", 1)).files))
    cell = Cell(None, "reference", 0, changed(tiny_recipe, steps=2))
    assert known(cell, [own], tmp_path) is None
    with pytest.raises(AblationError, match="nothing is done yet"):
        read_done([cell], [own], tmp_path)
    result = run_cell(cell, [own], "abc", tmp_path)
    assert known(cell, [own], tmp_path) == result
    assert read_done([cell], [own], tmp_path) == {cell: result}
    assert result.versions["commit"] == "abc"
    (path,) = (tmp_path / "cells").iterdir()
    assert json.loads(path.read_text())["settings"]["recipe"]["optimization"]["optimizer"] == "muon"

    # The same images may lie elsewhere; other settings, other sets and a damaged file are refused.
    moved = (tmp_path / "pairs").rename(tmp_path / "moved")
    again = OwnSet("mine", tuple(find_pairs(moved).files))
    assert known(cell, [again], tmp_path) == result
    for other, sets in ((replace(cell, recipe=changed(cell.recipe, steps=3)), [again]), (cell, [])):
        with pytest.raises(GridError, match="was made with other settings"):
            known(other, sets, tmp_path)
    path.write_text("{")
    with pytest.raises(GridError, match="is damaged, or of another version: remove it"):
        known(cell, [again], tmp_path)


@pytest.mark.slow
def test_a_cell_keeps_to_one_core(
    one_picture: None, tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are trained beside it, and threads that are more than cores wait for one another in a spin."""
    monkeypatch.setattr(Processes, "cores", 2)
    try:
        run_cell(Cell(None, "reference", 0, changed(tiny_recipe, steps=1)), [], "abc", tmp_path)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(1)


def test_pictures_are_not_both_trained_and_measured_on(tiny_recipe: Recipe, tmp_path: Path) -> None:
    pairs = noise_pairs(tmp_path, 1)
    cell = Cell("backgrounds", "mine-1", 0, changed(tiny_recipe, photographs=pairs / "clean"))
    check_apart([cell], [])
    path = pairs / "clean" / "0.png"
    with pytest.raises(AblationError, match=r"0\.png is trained on, and measured on as"):
        check_apart([cell], [OwnSet("dry", (PairFiles(path, path),))])


@pytest.mark.slow
def test_an_ablation_from_nothing_to_its_report(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One variant cannot be trained: the others go on, and the same command tries again."""

    def variants(reference: Recipe, photographs: Path | None) -> list[Variant]:
        rate = 1.0 if photographs else 1e30
        broken = changed(reference, learning_rate=rate * 1e-3)
        return [
            Variant(None, "reference", "the reference", reference),
            Variant("tricks", "broken", "broken", broken),
        ]

    monkeypatch.setattr(command, "reference_recipe", lambda: tiny_recipe)
    monkeypatch.setattr(command, "list_variants", variants)
    work, report = tmp_path / "work", tmp_path / "report"
    pairs = noise_pairs(tmp_path / "pairs", 2)
    words = [str(work), "--seeds", "1", "--pairs", "mine", str(pairs), "--report", str(report)]
    assert command.main([*words, "--jobs", "2"]) == 1
    assert "tricks-broken-seed0: the " in capfd.readouterr().err
    page = (report / "results.md").read_text()
    assert "1 training by the recipe `tiny`" in page
    assert "**Not done**: tricks-broken-seed0" in page
    assert f"python -m training ablation .../work --seeds 1 --pairs mine .../{pairs.name} --report" in page
    assert "## mine" in page

    # What is done stays as it is; what failed is tried again.
    result = work / "cells" / "reference-seed0.json"
    before = result.read_bytes(), result.stat().st_mtime_ns
    for left in (work / "runs" / "tricks-broken-seed0").glob("checkpoint*"):
        left.unlink()
    assert command.main([*words, "--photographs", str(pairs / "clean")]) == 0
    assert (result.read_bytes(), result.stat().st_mtime_ns) == before
    assert "Not done" not in (report / "results.md").read_text()


# What is refused


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--photographs", "missing"], "missing is not a folder"),
        (["--clean", "dry", "missing"], "missing is not a folder"),
        (["--pairs", "a", "missing"], "missing is not a folder"),
    ],
)
def test_what_cannot_be_run_is_an_error(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([str(tmp_path), *arguments]) == 1
    assert f"error: {words}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "frogs"], "invalid choice: 'frogs'"),
        (["--pairs", "mine"], "--pairs takes a name and one or two folders"),
        (["--seeds", "0"], "no whole number of 1 or more"),
    ],
)
def test_bad_arguments_are_explained(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.main([str(tmp_path), *arguments])
    assert words in capsys.readouterr().err
