"""What the paper says should come out, written down before it was measured: checks (a) to (e).

Each is decided by fixed numbers on the study's rows, over all seeds, and none is left out of
the report for having failed. "Unseen" is rain of another make than the training generator's;
the rain of a cell's own training is "seen".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev
from typing import Literal

import numpy as np

from training.experiments.study.cells import Row
from training.stats import spearman

Verdict = Literal["held", "failed", "not measured"]

Value = Callable[[Row], float]

FLAT_WITHIN = 0.10  # of removal: what (a) calls flat, between the fewest and the most backgrounds


@dataclass(frozen=True)
class Check:
    letter: str
    claim: str
    verdict: Verdict
    evidence: list[str]  # a line each


def check_all(rows: Sequence[Row]) -> list[Check]:
    """All five. Of two categories, that of fewer compressed bits per pixel is the simpler."""
    rain = main_rain(rows)
    at_main = [row for row in rows if row.rain == rain]
    seen = [row for row in at_main if row.test_rain == row.rain]
    apart = [row for row in at_main if row.unseen]
    simplest = {name: _of_the_most(at_main, name).bits_per_pixel for name in categories(at_main)}
    return [
        _flat_when_seen(seen),
        _falls(apart, "b", "removal of unseen rain falls with the number of backgrounds", removal),
        _falls(apart, "c", "the background's error falls with the number of backgrounds", background_error),
        _wider_is_better([row for row in rows if row.unseen]),
        _simpler_is_better(apart, simplest),
    ]


def removal(row: Row) -> float:
    return row.removal


def background_error(row: Row) -> float:
    """Off the bright rain alone: dense rain leaves few pixels that are free of any."""
    return row.background_error_50


@dataclass(frozen=True)
class Spread:
    """A mean over seeds and test rains, and the standard deviation over seeds (0 of a single one)."""

    mean: float
    deviation: float

    def __format__(self, digits: str) -> str:
        return f"{self.mean:{digits}} ± {self.deviation:{digits}}"


def over_seeds(rows: Sequence[Row], value: Value) -> Spread:
    of_seed = [fmean(value(row) for row in rows if row.seed == seed) for seed in {row.seed for row in rows}]
    return Spread(fmean(of_seed), stdev(of_seed) if len(of_seed) > 1 else 0.0)


def by_count(rows: Sequence[Row], value: Value) -> dict[int, Spread]:
    """For each number of backgrounds, in rising order."""
    counts = sorted({row.count for row in rows})
    return {count: over_seeds([row for row in rows if row.count == count], value) for count in counts}


def main_rain(rows: Sequence[Row]) -> str:
    """The rain that counts and categories are compared in: the paper's `medium`, or what most trained in."""
    rains = [row.rain for row in rows]
    return "medium" if "medium" in rains else max(dict.fromkeys(rains), key=rains.count)


def categories(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.category for row in rows))


def _of_the_most(rows: Sequence[Row], category: str) -> Row:
    """Of a category, a row with as many backgrounds as there are."""
    return max((row for row in rows if row.category == category), key=lambda row: row.count)


def _decide(holds: list[bool]) -> Verdict:
    return "not measured" if not holds else "held" if all(holds) else "failed"


def _flat_when_seen(rows: Sequence[Row]) -> Check:
    """(a) Removal of the rain trained on changes by less than FLAT_WITHIN in every category."""
    evidence, holds = [], []
    for category in categories(rows):
        means = by_count([row for row in rows if row.category == category], removal)
        if len(means) < 2:
            continue
        (fewest, at_fewest), *_, (most, at_most) = means.items()
        holds.append(abs(at_most.mean - at_fewest.mean) < FLAT_WITHIN)
        evidence.append(f"{category}: η {at_fewest:.2f} at n = {fewest}, {at_most:.2f} at n = {most}")
    claim = f"removal of the rain trained on is flat in n (within {FLAT_WITHIN:.2f})"
    return Check("a", claim, _decide(holds), evidence)


def _falls(rows: Sequence[Row], letter: str, claim: str, value: Value) -> Check:
    """(b), (c) The rank correlation with n, each cell a point, is negative in every category."""
    evidence, holds = [], []
    for category in categories(rows):
        own = [row for row in rows if row.category == category]
        cells = sorted({(row.count, row.seed) for row in own})
        means = [fmean(value(row) for row in own if (row.count, row.seed) == cell) for cell in cells]
        rho = spearman([count for count, _ in cells], means)
        if np.isnan(rho):
            continue
        holds.append(rho < 0)
        (fewest, at_fewest), *_, (most, at_most) = by_count(own, value).items()
        evidence.append(
            f"{category}: Spearman ρ {rho:+.2f} over {len(cells)} cells; "
            f"{at_fewest:.2f} at n = {fewest}, {at_most:.2f} at n = {most}"
        )
    return Check(letter, claim, _decide(holds), evidence)


def _wider_is_better(rows: Sequence[Row]) -> Check:
    """(d) At the most backgrounds, the wider of the paper's ranges removes more of unseen rain."""
    evidence, holds = [], []
    for category in categories(rows):
        own = [row for row in rows if row.category == category]
        by_rain = {name: [row for row in own if row.rain == name] for name in ("small", "medium", "large")}
        by_rain = {name: found for name, found in by_rain.items() if found}
        if len(by_rain) < 2:
            continue
        shared = set.intersection(*({row.count for row in found} for found in by_rain.values()))
        if not shared:
            continue
        means = {name: by_count(found, removal)[max(shared)] for name, found in by_rain.items()}
        values = [spread.mean for spread in means.values()]
        holds.append(all(narrow < wide for narrow, wide in pairwise(values)))
        shown = ", ".join(f"{value:.2f} trained in {name}" for name, value in means.items())
        evidence.append(f"{category} at n = {max(shared)}: η {shown}")
    claim = "wider rain lifts removal of unseen rain at the most backgrounds"
    return Check("d", claim, _decide(holds), evidence)


def _simpler_is_better(rows: Sequence[Row], complexity: dict[str, float]) -> Check:
    """(e) At equal n, removal of unseen rain falls with the complexity of the category, on average over n."""
    evidence, rhos = [], []
    for count in sorted({row.count for row in rows}):
        at_count = [row for row in rows if row.count == count and row.category in complexity]
        names = sorted(categories(at_count), key=lambda name: complexity[name])
        if len(names) < 3:
            continue
        means = [over_seeds([row for row in at_count if row.category == name], removal) for name in names]
        rho = spearman([complexity[name] for name in names], [spread.mean for spread in means])
        if np.isnan(rho):
            continue
        rhos.append(rho)
        shown = ", ".join(f"{name} {value:.2f}" for name, value in zip(names, means, strict=True))
        evidence.append(f"n = {count}: ρ {rho:+.2f}; simplest first: {shown}")
    holds = [fmean(rhos) < 0] if rhos else []
    claim = "at equal n, simpler categories remove more of unseen rain"
    return Check("e", claim, _decide(holds), evidence)
