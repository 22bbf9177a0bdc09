"""What an ablation found: its table of all cells, and a page with means, differences and their doubt."""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, variance

from derain.files import write_atomically
from derain.manifest import Evaluation
from training.ablation.cells import CROP_PX, DRAWN_PX, MOST_PICTURES, Cell, Result
from training.ablation.variants import GROUPS, Variant
from training.export import kmac_per_pixel
from training.metrics import mean_known
from training.model import DerainModel, ModelShape
from training.rain.drawn import DRAWN

AS_OF_SEEDS = "≈"  # marks a difference that seeds alone may have made
_ERRORS = 2  # standard errors within which it may be theirs

Done = Mapping[Cell, Result]
Values = dict[str, dict[int, float]]  # variant: seed: value


@dataclass(frozen=True)
class Measure:
    """A column."""

    title: str
    digits: int
    value: Callable[[Evaluation], float | None]


def _gain(scores: Evaluation) -> float | None:
    return None if scores.psnr is None or scores.input_psnr is None else scores.psnr - scores.input_psnr


def _clean_median(scores: Evaluation) -> float | None:
    return None if scores.clean is None else scores.clean.median_changed


MEASURES = (
    Measure("PSNR gain, dB", 2, _gain),
    Measure("removal η", 3, lambda scores: scores.removal),
    Measure("E_B", 2, lambda scores: scores.background_error),
    Measure("clean back, dB", 2, _clean_median),
)


@dataclass(frozen=True)
class Difference:
    """From the reference, the mean over seeds, each against the reference of its own seed."""

    mean: float
    is_clear: bool  # more than the seeds make by themselves


def write_report(
    variants: Sequence[Variant], cells: Sequence[Cell], done: Done, command: str, folder: Path
) -> None:
    """Writes ablation.csv and results.md to the folder; raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "ablation.csv", _csv(variants, done).encode())
    write_atomically(folder / "results.md", _page(variants, cells, done, command).encode())


def differences(values: Values, reference: str) -> dict[str, Difference]:
    """Of each other variant that shares a seed with the reference.

    Clear is one that has the same sign with every seed and is more than _ERRORS standard errors,
    by the variance over seeds of such differences, pooled over all variants: of two or three seeds
    alone none could be told. Of a single seed nothing is clear.
    """
    of_reference = values.get(reference, {})
    paired = {
        variant: [value - of_reference[seed] for seed, value in seeds.items() if seed in of_reference]
        for variant, seeds in values.items()
        if variant != reference
    }
    several = [pairs for pairs in paired.values() if len(pairs) > 1]
    freedom = sum(len(pairs) - 1 for pairs in several)
    pooled = sum(variance(pairs) * (len(pairs) - 1) for pairs in several) / freedom if freedom else math.inf
    return {
        variant: Difference(
            fmean(pairs),
            len(pairs) > 1
            and (min(pairs) > 0 or max(pairs) < 0)
            and abs(fmean(pairs)) > _ERRORS * math.sqrt(pooled / len(pairs)),
        )
        for variant, pairs in paired.items()
        if pairs
    }


def _csv(variants: Sequence[Variant], done: Done) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ("group", "variant", "seed", "parameters", "kmac_per_pixel", "set", "role", "pictures")
    scores = ("psnr", "input_psnr", "removal", "background_error", "background_error_50")
    writer.writerow((*head, *scores, "clean_median"))
    costs = {variant.name: _cost(variant.recipe.model) for variant in variants}
    for cell in _in_order(variants, done):
        for each in done[cell].evaluations:
            values = (*(getattr(each, score) for score in scores), _clean_median(each))
            shown = ("" if value is None else f"{value:.4f}" for value in values)
            parameters, kmac = costs[cell.variant]
            about = (cell.group or "", cell.variant, cell.seed, parameters, f"{kmac:.1f}")
            writer.writerow((*about, each.name, each.role, each.pictures, *shown))
    return text.getvalue()


def _in_order(variants: Sequence[Variant], done: Done) -> list[Cell]:
    """A variant after the other, its seeds in order."""
    names = [variant.name for variant in variants]
    return sorted(done, key=lambda cell: (names.index(cell.variant), cell.seed))


def _cost(shape: ModelShape) -> tuple[int, float]:
    """Parameters, and thousand multiply-adds a pixel."""
    model = DerainModel(shape)
    return sum(parameter.numel() for parameter in model.parameters()), kmac_per_pixel(model)


# The page


def _page(variants: Sequence[Variant], cells: Sequence[Cell], done: Done, command: str) -> str:
    recipe = variants[0].recipe
    seeds = ", ".join(map(str, sorted({cell.seed for cell in done})))
    sets = _sets(done)
    text = [
        "# What each part of the recipe is worth",
        "",
        f"{len(done)} training{'s' * (len(done) > 1)} by the recipe `{recipe.name}`: {recipe.steps:,} steps "
        f"of {recipe.batch} patches of {recipe.patch_px} px, seeds {seeds}. Each row differs from the "
        "reference in what it says and in nothing else. All numbers are in [ablation.csv](ablation.csv). "
        "Written by",
        "",
        "```text",
        command,
        "```",
        "",
        *_versions(done),
        "",
        "Measured on validation alone. Drawn rain is the mean of "
        f"{', '.join(drawn.name for drawn in DRAWN)}, over pictures that no recipe of this repository trains "
        f"on, shrunk to {DRAWN_PX} px; of each other set {MOST_PICTURES} pictures at most, and of each the "
        f"middle of {CROP_PX} px at most. η is the share of the rain removed, E_B the error off it (0 to "
        '255, less is better), "clean back" the median PSNR of those clean images that came back changed.',
        "",
        *_costs(variants, done),
        *_missing(cells, done),
        "A value is the mean over seeds, with the lowest and the highest. Δ is the difference from the "
        "reference, each seed against its own. "
        f"{AS_OF_SEEDS} marks a Δ that seeds alone may have made: not of one sign with every seed, or within "
        f"{_ERRORS} standard errors by the variance over seeds of all rows together. Of rows that make no "
        "difference about one in twenty goes unmarked.",
    ]
    for title, members in sets.items():
        text += ["", f"## {title}", "", *_table(variants, done, members)]
    return "\n".join(text) + "\n"


def _sets(done: Done) -> dict[str, list[str]]:
    """What has a table of its own: the drawn families together, then each further set."""
    drawn = [f"drawn {drawn.name}" for drawn in DRAWN]
    names = dict.fromkeys(each.name for result in done.values() for each in result.evaluations)
    return {"Drawn rain": drawn} | {name: [name] for name in names if name not in drawn}


def _versions(done: Done) -> list[str]:
    found = {tuple(result.versions.items()) for result in done.values()}
    return [f"- {', '.join(f'{name} {version}' for name, version in sorted(one))}" for one in sorted(found)]


def _costs(variants: Sequence[Variant], done: Done) -> list[str]:
    trained = {cell.variant for cell in done}
    reference = variants[0].recipe.model
    shown = [
        variant
        for variant in variants
        if variant.name in trained and (variant.group is None or variant.recipe.model != reference)
    ]
    costs = [(variant.name, *_cost(variant.recipe.model)) for variant in shown]
    said = "; ".join(
        f"{name}: {parameters:,} parameters, {kmac:.1f} thousand multiply-adds a pixel"
        for name, parameters, kmac in costs
    )
    return [f"Networks: {said}.", ""] if said else []


def _missing(cells: Sequence[Cell], done: Done) -> list[str]:
    missing = [cell.name for cell in cells if cell not in done]
    return [f"**Not done**: {', '.join(missing)}.", ""] if missing else []


def _table(variants: Sequence[Variant], done: Done, members: Sequence[str]) -> list[str]:
    columns = [
        (measure, values)
        for measure in MEASURES
        if (values := _values(done, members, measure))  # clean pictures have no rain to lose
    ]
    deltas = [differences(values, variants[0].name) for _, values in columns]
    lines = [
        f"| variant | {' | '.join(f'{measure.title} | Δ' for measure, _ in columns)} |",
        "|---" * (1 + 2 * len(columns)) + "|",
    ]
    for group in (None, *GROUPS):
        rows = [variant for variant in variants if variant.group == group]
        if group is not None and rows:
            lines.append(f"| *{group}* |" + " |" * 2 * len(columns))
        for variant in rows:
            shown = [
                f"{_shown(values.get(variant.name, {}), measure.digits)} | "
                f"{_signed(delta.get(variant.name), measure.digits)}"
                for (measure, values), delta in zip(columns, deltas, strict=True)
            ]
            lines.append(f"| {variant.text} | {' | '.join(shown)} |")
    return lines


def _values(done: Done, members: Sequence[str], measure: Measure) -> Values:
    """The mean over the sets, of what could be measured."""
    values: Values = {}
    for cell, result in done.items():
        scores = [measure.value(each) for each in result.evaluations if each.name in members]
        mean = mean_known(math.nan if value is None else value for value in scores)
        if not math.isnan(mean):
            values.setdefault(cell.variant, {})[cell.seed] = mean
    return values


def _shown(seeds: Mapping[int, float], digits: int) -> str:
    if not seeds:
        return "–"
    low, mean, high = min(seeds.values()), fmean(seeds.values()), max(seeds.values())
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _signed(difference: Difference | None, digits: int) -> str:
    if difference is None:
        return ""
    return f"{difference.mean:+.{digits}f}{'' if difference.is_clear else f' {AS_OF_SEEDS}'}"
