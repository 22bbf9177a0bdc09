"""The study's checks, on made-up rows whose answer is known."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st

from training.experiments.study.cells import Row
from training.experiments.study.checks import by_count, check_all, removal
from training.stats import spearman

ROW = Row(
    category="faces",
    count=8,
    rain="medium",
    seed=0,
    test_rain="shower",
    psnr=25.0,
    ssim=0.8,
    removal=0.5,
    rain_change=20.0,
    background_error=10.0,
    background_error_50=10.0,
    clean_psnr=30.0,
    input_psnr=20.0,
    input_background_error=2.0,
    input_background_error_50=8.0,
    perfect_rain_change=40.0,
    bits_per_pixel=1.0,
    gradient_energy=10.0,
    looks=20.0,
    distinct=8.0,
    kilobytes=30.0,
)
SIMPLEST_FIRST = ("faces", "animals", "cities")


def as_the_paper_says() -> list[Row]:
    """Unseen removal and error fall with n and with complexity, rise with the range; seen removal is flat."""
    rows = []
    for rank, category in enumerate(SIMPLEST_FIRST):
        for step, count in enumerate((8, 16, 32)):
            for gain, rain in enumerate(("medium", "small", "large")):
                wider = {"small": -0.1, "medium": 0.0, "large": 0.1}[rain]
                for seed in (0, 1):
                    slacking = 0.7 - 0.1 * step - 0.05 * rank + wider + 0.001 * seed
                    row = replace(ROW, category=category, count=count, rain=rain, seed=seed)
                    row = replace(row, background_error_50=12.0 - step - 0.1 * gain)
                    row = replace(row, bits_per_pixel=1.0 + rank)
                    rows.append(replace(row, removal=slacking))
                    rows.append(replace(row, test_rain=rain, removal=0.9 - 0.01 * step))
    # More cells were trained in medium than in the others: what counts are compared in.
    return [row for row in rows if row.rain == "medium" or row.count == 32]


def verdicts(rows: list[Row]) -> dict[str, str]:
    return {check.letter: check.verdict for check in check_all(rows)}


def test_rows_as_the_paper_says_pass_every_check() -> None:
    assert verdicts(as_the_paper_says()) == dict.fromkeys("abcde", "held")


@pytest.mark.parametrize(
    ("letter", "spoil"),
    [
        ("a", lambda row: replace(row, removal=0.9 - 0.02 * row.count) if not row.unseen else row),
        ("b", lambda row: replace(row, removal=1 - row.removal) if row.rain == "medium" else row),
        ("c", lambda row: replace(row, background_error_50=20 - row.background_error_50)),
        ("d", lambda row: replace(row, removal=0.9) if row.rain == "small" else row),
        ("e", lambda row: replace(row, removal=row.removal + 0.2 * (row.category == "cities"))),
    ],
)
def test_rows_that_contradict_it_fail(letter: str, spoil: Callable[[Row], Row]) -> None:
    assert verdicts([spoil(row) for row in as_the_paper_says()])[letter] == "failed"


def test_one_category_that_contradicts_is_enough_to_fail() -> None:
    """And its numbers are in the evidence."""
    rows = [
        replace(row, removal=row.count / 100) if row.category == "animals" and row.unseen else row
        for row in as_the_paper_says()
    ]
    check = check_all(rows)[1]
    assert check.verdict == "failed"
    assert (
        "animals: Spearman ρ +1.00 over 6 cells; 0.08 ± 0.00 at n = 8, 0.32 ± 0.00 at n = 32"
        in check.evidence
    )


def test_what_was_not_run_is_not_measured() -> None:
    one_cell = [ROW, replace(ROW, test_rain="medium")]
    assert verdicts(one_cell) == dict.fromkeys("abcde", "not measured")


def test_unseen_is_any_rain_but_the_cells_own() -> None:
    assert ROW.unseen
    assert not replace(ROW, test_rain="medium").unseen


def test_spread_is_over_seeds_of_the_means_over_rains() -> None:
    """Two rains each of seeds 0 and 1: means 0.4 and 0.6, whose deviation is 0.2 / sqrt(2)."""
    numbers = ((8, 0, 0.3), (16, 0, 0.2), (16, 0, 0.6), (16, 1, 0.5), (16, 1, 0.7))
    rows = [replace(ROW, count=n, seed=seed, removal=r) for n, seed, r in numbers]
    means = by_count(rows, removal)
    assert list(means) == [8, 16]
    found = [number for count in (8, 16) for number in (means[count].mean, means[count].deviation)]
    assert found == pytest.approx([0.3, 0, 0.5, 0.2 / np.sqrt(2)])
    assert f"{means[16]:.2f}" == "0.50 ± 0.14"


@pytest.mark.slow  # SciPy takes half a second to load
@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=30))
def test_spearman_is_scipys(points: list[tuple[int, int]]) -> None:
    x, y = (list(map(float, values)) for values in zip(*points, strict=True))
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert np.isnan(spearman(x, y))
    else:
        assert spearman(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)
