"""The report's numbers, against cells made by hand."""

import csv
from pathlib import Path

import pytest

from derain.manifest import CleanBack, Evaluation
from training.experiments.ablation.cells import Cell, Result
from training.experiments.ablation.report import differences, write_report
from training.experiments.ablation.variants import Variant, list_variants
from training.recipes import ablation

VARIANTS = [v for v in list_variants(ablation()) if v.name in ("reference", "small", "l1", "two-scales")]
COMMAND = "python -m training ablation work"


def scores(name: str, gain: float, removal: float | None = 0.5, clean: float = 40.0) -> Evaluation:
    return Evaluation(
        name=name,
        role="validation",
        pictures=2,
        psnr=None if removal is None else 20 + gain,
        ssim=None,
        input_psnr=None if removal is None else 20,
        removal=removal,
        rain_change=None,
        background_error=None if removal is None else 3.0,
        background_error_50=None,
        clean=CleanBack(images=2, identical=0, below_40=0, below_30=0, worst=None, median_changed=clean),
    )


def cell(variant: Variant, seed: int) -> Cell:
    return Cell(variant.group, variant.name, seed, variant.recipe)


def result(gain: float) -> Result:
    """Two drawn families, the gain their mean, and a set of clean images."""
    drawn = [scores("drawn drizzle", gain - 1), scores("drawn shower", gain + 1)]
    return Result({"commit": "abc", "torch": "2"}, [*drawn, scores("dry", 0, None, 30 + gain)])


GAINS = {
    "reference": (1.0, 1.2),
    "small": (0.4, 0.6),  # each by 0.6 less than its own reference
    "l1": (1.1, 1.1),  # by 0.1 more, and by 0.1 less
    "two-scales": (0.9, 1.05),
}


@pytest.fixture
def done() -> dict[Cell, Result]:
    return {
        cell(variant, seed): result(GAINS[variant.name][seed]) for variant in VARIANTS for seed in range(2)
    }


def rows(page: str, title: str) -> dict[str, list[str]]:
    """Of a table of the page, by the variant's text."""
    table = page.split(f"## {title}\n")[1].split("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return {first: rest for first, *rest in cells}


@pytest.mark.slow
def test_the_page_has_means_ranges_and_differences(done: dict[Cell, Result], tmp_path: Path) -> None:
    write_report(VARIANTS, list(done), done, COMMAND, tmp_path)
    page = (tmp_path / "results.md").read_text()
    assert COMMAND in page
    assert "8 trainings by the recipe `ablation`: 1,500 steps of 16 patches of 64 px, seeds 0, 1." in page
    assert "- commit abc, torch 2" in page
    assert "reference: 210,412 parameters, 8.1 thousand multiply-adds a pixel; two-scales: 89,356" in page
    assert "Not done" not in page
    drawn = rows(page, "Drawn rain")
    texts = {variant.name: variant.text for variant in VARIANTS}
    assert drawn[texts["reference"]][:3] == ["1.10 (1.00 to 1.20)", "", "0.500 (0.500 to 0.500)"]
    assert drawn[texts["small"]][:2] == ["0.50 (0.40 to 0.60)", "-0.60"]
    assert drawn[texts["l1"]][:2] == ["1.10 (1.10 to 1.10)", "+0.00 ≈"]
    assert drawn[texts["small"]][2:4] == ["0.500 (0.500 to 0.500)", "+0.000 ≈"]
    # Clean images have one column.
    assert rows(page, "dry")[texts["small"]] == ["30.50 (30.40 to 30.60)", "-0.60"]
    assert "PSNR gain" not in page.split("## dry")[1]


def test_a_difference_is_clear_beyond_the_spread_of_all_seeds() -> None:
    """Of one sign is not enough: the seeds of the other rows say what one seed can do."""
    values = {
        "reference": {0: 1.0, 1: 1.0},
        "large": {0: 2.0, 1: 2.2},
        "small": {0: 1.02, 1: 1.04},
        "either": {0: 0.8, 1: 1.2},
        "once": {0: 5.0},
        "apart": {7: 5.0},
    }
    found = differences(values, "reference")
    # Variances 0.02, 0.0002 and 0.08: pooled 0.0334, a standard error of 0.129.
    assert {name: each.is_clear for name, each in found.items()} == {
        "large": True,
        "small": False,
        "either": False,
        "once": False,
    }
    assert found["large"].mean == pytest.approx(1.1)
    values["large"] = {0: 1.24, 1: 1.28}
    assert differences(values, "reference")["large"].is_clear, "0.26 is more than two errors of 0.117"
    values["large"] = {0: 1.21, 1: 1.23}
    assert not differences(values, "reference")["large"].is_clear


def test_of_one_seed_nothing_is_clear() -> None:
    (only,) = differences({"reference": {0: 1.0}, "other": {0: 9.0}}, "reference").values()
    assert (only.mean, only.is_clear) == (8.0, False)


@pytest.mark.slow
def test_the_table_has_every_cell(done: dict[Cell, Result], tmp_path: Path) -> None:
    write_report(VARIANTS, list(done), done, COMMAND, tmp_path)
    with (tmp_path / "ablation.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 4 * 2 * 3, "variants, seeds, sets"
    assert {line["role"] for line in lines} == {"validation"}
    (shown,) = (
        line
        for line in lines
        if (line["variant"], line["seed"], line["set"]) == ("small", "1", "drawn shower")
    )
    assert (shown["group"], shown["psnr"], shown["input_psnr"]) == ("rain", "21.6000", "20.0000")
    assert (shown["parameters"], shown["kmac_per_pixel"]) == ("210412", "8.1")
    dry = [line for line in lines if line["set"] == "dry"]
    assert all(line["psnr"] == "" and line["clean_median"] for line in dry)


@pytest.mark.slow
def test_what_is_missing_is_said_and_the_rest_is_written(done: dict[Cell, Result], tmp_path: Path) -> None:
    cells = list(done)
    without = {c: r for c, r in done.items() if c.name not in ("rain-small-seed1", "tricks-l1-seed0")}
    without = {c: r for c, r in without.items() if c.variant != "two-scales"}
    write_report(VARIANTS, cells, without, COMMAND, tmp_path)
    page = (tmp_path / "results.md").read_text()
    missing = "rain-small-seed1, tricks-two-scales-seed0, tricks-two-scales-seed1, tricks-l1-seed0"
    assert f"**Not done**: {missing}." in page
    drawn = rows(page, "Drawn rain")
    texts = {variant.name: variant.text for variant in VARIANTS}
    assert drawn[texts["small"]][:2] == ["0.40 (0.40 to 0.40)", "-0.60 ≈"]
    assert drawn[texts["two-scales"]][:2] == ["–", ""]


@pytest.mark.slow
def test_the_same_cells_give_the_same_files(done: dict[Cell, Result], tmp_path: Path) -> None:
    """In whatever order they were done."""
    write_report(VARIANTS, list(done), done, COMMAND, tmp_path / "one")
    backwards = dict(reversed(done.items()))
    write_report(VARIANTS, list(done), backwards, COMMAND, tmp_path / "other")
    for name in ("results.md", "ablation.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
