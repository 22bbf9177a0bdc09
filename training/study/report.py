"""What a study found: its table, its figures, and a page that says which checks held."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path
from statistics import fmean, stdev

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter
from tqdm import tqdm

from derain.arrays import Picture
from derain.image import write_atomically
from training.backgrounds import Leaves, draw_leaves, load_folder
from training.charts import GREY, write_figure
from training.complexity import Complexity, set_complexity
from training.study.cells import BACKGROUND_PX, Category, Result, Row, prepared
from training.study.checks import background_error, check_all, main_rain, removal, spearman

Value = Callable[[Row], float]
Sets = dict[tuple[str, int], Complexity]  # backgrounds by category and number


@dataclass(frozen=True)
class Measure:
    """A column of the table, and what doing nothing and doing everything right would score."""

    file: str
    label: str
    value: Value
    of_input: Value
    of_clean: Value


MEASURES = (
    Measure("removal", "rain removal η", removal, lambda _: 0.0, lambda _: 1.0),
    Measure(
        "rain-change",
        "E_R, change on the rain",
        lambda row: row.rain_change,
        lambda _: 0.0,
        lambda row: row.perfect_rain_change,
    ),
    Measure(
        "background-error",
        "E_B, error off the rain",
        background_error,
        lambda row: row.input_background_error_50,
        lambda _: 0.0,
    ),
)


def write_report(results: Sequence[Result], work: Path, folder: Path) -> None:
    """Writes study.csv, results.md and the figures to `folder`; `work` is where the study ran."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [row for result in results for row in result.rows]
    write_atomically(folder / "study.csv", _csv(rows).encode())
    main = [row for row in rows if row.rain == main_rain(rows)]
    for measure in MEASURES:
        write_figure(folder / f"{measure.file}.svg", 9, 3.8, partial(_by_count, main, measure))
    write_figure(folder / "trade-off.svg", 5.5, 4.5, partial(_trade_off, main))
    complexity = _complexities(results, work)
    write_atomically(folder / "results.md", _page(results, rows, complexity).encode())


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Row))
    for row in rows:
        writer.writerow(f"{v:.4f}" if isinstance(v, float) else v for v in astuple(row))
    return text.getvalue()


# Figures


def _by_count(rows: Sequence[Row], measure: Measure, figure: Figure) -> None:
    """The measure against n, a line a category, on rain that was trained on and on rain that was not."""
    seen, unseen = figure.subplots(1, 2, sharey=True)
    sides = [
        (seen, "the rain trained on", [row for row in rows if row.test_rain == row.rain]),
        (unseen, "rain never trained on", [row for row in rows if row.unseen]),
    ]
    for axes, title, own in sides:
        for category in _categories(own):
            _line(axes, category, [row for row in own if row.category == category], measure.value)
        for name, value in (("input", measure.of_input), ("clean", measure.of_clean)):
            level = fmean(value(row) for row in own)
            axes.axhline(level, color=GREY, linestyle=":", linewidth=1)
            place = (0.99, level)
            axes.annotate(
                name, place, xycoords=axes.get_yaxis_transform(), color=GREY, ha="right", va="bottom"
            )
        axes.set(title=title, xlabel="backgrounds to train on, n", xscale="log")
        axes.set_xticks(sorted({row.count for row in own}))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
        axes.tick_params(axis="x", labelrotation=60)
    seen.set_ylabel(measure.label)
    figure.legend(*unseen.get_legend_handles_labels(), loc="outside right upper")


def _line(axes: Axes, category: str, rows: Sequence[Row], value: Value) -> None:
    counts, means, spreads = [], [], []
    for count in sorted({row.count for row in rows}):
        mean, spread = _over_seeds([row for row in rows if row.count == count], value)
        counts.append(count)
        means.append(mean)
        spreads.append(spread)
    axes.errorbar(counts, means, spreads, label=category, capsize=2, elinewidth=0.8)


def _trade_off(rows: Sequence[Row], figure: Figure) -> None:
    """What removing more costs: each point is one n of one category, on rain never trained on."""
    axes = figure.subplots()
    unseen = [row for row in rows if row.unseen]
    for category in _categories(unseen):
        own = [row for row in unseen if row.category == category]
        at_count = [[row for row in own if row.count == n] for n in sorted({row.count for row in own})]
        points = [[_over_seeds(some, value)[0] for some in at_count] for value in (removal, background_error)]
        axes.plot(*points, label=category)
        axes.annotate(f"{own[0].count}", (points[0][0], points[1][0]), color=GREY, fontsize="small")
    axes.set(xlabel="rain removal η (more is better)", ylabel="E_B, error off the rain (less is better)")
    axes.legend()


# The page


def _page(results: Sequence[Result], rows: Sequence[Row], complexity: Sets) -> str:
    rain = main_rain(rows)
    main = [row for row in rows if row.rain == rain]
    simplest = {
        category: _bits(complexity[category, max(n for name, n in complexity if name == category)])
        for category in _categories(main)
    }
    checks = check_all(rows, simplest)
    recipe = results[0].settings["recipe"]
    seeds = ", ".join(str(seed) for seed in sorted({row.seed for row in rows}))
    unseen = list(dict.fromkeys(row.test_rain for row in rows if row.unseen))
    text = [
        "# Results",
        "",
        f"{len(results)} trainings of {recipe['steps']:,} steps of {recipe['batch']} patches of "
        f"{recipe['patch_px']} px, seeds {seeds}; written by `python -m training.study`. All numbers are in "
        "[study.csv](study.csv).",
        "",
        f"Tested on {len(results[0].settings['held_out']['pictures'])} pictures that none was trained on. "
        f"Unseen rain: {', '.join(unseen)}.",
        "",
        "## Checks",
        "",
        "Fixed before the measurements, in [checks.py](../../training/study/checks.py).",
        "",
        "| check | claim | verdict |",
        "|---|---|---|",
        *(f"| ({check.letter}) | {check.claim} | **{check.verdict}** |" for check in checks),
        "",
    ]
    for check in checks:
        text += [f"**({check.letter})** {check.claim}: {check.verdict}.", ""]
        text += [*(f"- {line}" for line in check.evidence), ""]
    text += ["## Figures", "", f"Trained in `{rain}`; bars are one standard deviation over seeds.", ""]
    text += [f"![{m.label} against the number of backgrounds]({m.file}.svg)\n" for m in MEASURES]
    text += ["![Background error against removal](trade-off.svg)", ""]
    text += ["## Numbers", "", f"Trained in `{rain}`, mean ± standard deviation over seeds.", ""]
    text += [*_table(main), "", *_prediction(main, complexity)]
    return "\n".join(text) + "\n"


def _table(rows: Sequence[Row]) -> list[str]:
    head = "| backgrounds | n | η seen | η unseen | E_R unseen | E_B unseen | clean back |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for category in _categories(rows):
        own = [row for row in rows if row.category == category]
        for count in sorted({row.count for row in own}):
            at_count = [row for row in own if row.count == count]
            seen = [row for row in at_count if row.test_rain == row.rain]
            unseen = [row for row in at_count if row.unseen]
            cells = (
                (seen, removal, 2),
                (unseen, removal, 2),
                (unseen, lambda row: row.rain_change, 1),
                (unseen, background_error, 1),
                (unseen, lambda row: row.clean_psnr, 1),
            )
            shown = " | ".join(_shown(some, value, digits) for some, value, digits in cells)
            lines.append(f"| {category} | {count} | {shown} |")
    return lines


def _shown(rows: Sequence[Row], value: Value, digits: int) -> str:
    mean, spread = _over_seeds(rows, value)
    return f"{mean:.{digits}f} ± {spread:.{digits}f}"


def _prediction(rows: Sequence[Row], complexity: Sets) -> list[str]:
    """Which measure of the backgrounds' complexity goes with the removal of unseen rain."""
    sets = [key for key in complexity if any((row.category, row.count) == key for row in rows)]
    unseen = [[row for row in rows if row.unseen and (row.category, row.count) == key] for key in sets]
    removals = [fmean(removal(row) for row in own) for own in unseen]
    errors = [fmean(background_error(row) for row in own) for own in unseen]
    measures: dict[str, Callable[[tuple[str, int]], float]] = {
        "bits per pixel": lambda key: _bits(complexity[key]),
        "gradient energy": lambda key: fmean(complexity[key].gradient_energy),
        "looks": lambda key: complexity[key].looks,
        "distinct pictures": lambda key: complexity[key].distinct,
        "complexity, kB": lambda key: complexity[key].kilobytes,
    }
    lines = [
        "## What complexity predicts",
        "",
        f"Rank correlation (Spearman's ρ) over the {len(sets)} sets of backgrounds, of what "
        "[training/complexity.py](../../training/complexity.py) measures with what was found on unseen rain:",
        "",
        "| measure of the backgrounds | with removal η | with E_B |",
        "|---|---|---|",
    ]
    for name, measure in measures.items():
        values = [measure(key) for key in sets]
        lines.append(f"| {name} | {spearman(values, removals):+.2f} | {spearman(values, errors):+.2f} |")
    return lines


def _complexities(results: Sequence[Result], work: Path) -> Sets:
    """Of every set of backgrounds that was trained on, as the first seed has it."""
    sets = {(r.cell.category.name, r.cell.count): r.cell.category for r in results}
    return {
        (name, count): set_complexity(_pictures(category, count, work))
        for (name, count), category in tqdm(sets.items(), desc="complexity", unit="set")
    }


def _pictures(category: Category, count: int, work: Path) -> list[Picture]:
    if category.folder is not None:
        return load_folder(prepared(category, work), count, seed=0)
    world = Leaves(category.leaves_complexity, BACKGROUND_PX)
    return [draw_leaves(world, 0, index) for index in range(count)]


def _bits(complexity: Complexity) -> float:
    return fmean(complexity.bits_per_pixel)


def _over_seeds(rows: Sequence[Row], value: Value) -> tuple[float, float]:
    """Mean and standard deviation over seeds, of the mean over test rains."""
    of_seed = [fmean(value(row) for row in rows if row.seed == seed) for seed in {row.seed for row in rows}]
    return fmean(of_seed), stdev(of_seed) if len(of_seed) > 1 else 0.0


def _categories(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.category for row in rows))
