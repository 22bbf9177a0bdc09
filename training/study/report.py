"""What a study found: its table, its figures, and a page that says which checks held."""

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from derain.files import write_atomically
from training.charts import GREY, write_figure
from training.study.cells import Result, Row
from training.study.checks import (
    Value,
    background_error,
    by_count,
    categories,
    check_all,
    main_rain,
    over_seeds,
    removal,
    spearman,
)


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
        "E_B50, error off the bright rain",
        background_error,
        lambda row: row.input_background_error_50,
        lambda _: 0.0,
    ),
)


def write_report(results: Sequence[Result], folder: Path) -> None:
    """Writes study.csv, results.md and the figures to the folder; raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [row for result in results for row in result.rows]
    write_atomically(folder / "study.csv", _csv(rows).encode())
    for measure in MEASURES:
        write_figure(folder / f"{measure.file}.svg", 9, _height_in(rows), partial(_by_count, rows, measure))
    write_figure(folder / "trade-off.svg", 5.5, 4.5, partial(_trade_off, rows))
    write_atomically(folder / "results.md", _page(results, rows).encode())


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Row))
    for row in rows:
        writer.writerow(f"{v:.4f}" if isinstance(v, float) else v for v in astuple(row))
    return text.getvalue()


# Figures


def _rains(rows: Sequence[Row]) -> list[str]:
    """What was trained in, what counts are compared in first."""
    main = main_rain(rows)
    return [main, *sorted({row.rain for row in rows} - {main})]


def _height_in(rows: Sequence[Row]) -> float:
    return 0.6 + 3.2 * len(_rains(rows))


def _by_count(rows: Sequence[Row], measure: Measure, figure: Figure) -> None:
    """Against n, a line a category, on rain trained on and on rain that was not; a row a training rain."""
    rains = _rains(rows)
    grid = figure.subplots(len(rains), 2, sharex=True, sharey=True, squeeze=False)
    names = categories(rows)
    for (seen, unseen), rain in zip(grid, rains, strict=True):
        own = [row for row in rows if row.rain == rain]
        _lines(seen, [row for row in own if row.test_rain == rain], names, measure)
        _lines(unseen, [row for row in own if row.unseen], names, measure)
        seen.set(title=f"trained in {rain}, tested in {rain}", ylabel=measure.label)
        unseen.set_title(f"trained in {rain}, tested in rain of another make")
    for axes in grid[-1]:
        axes.set_xlabel("backgrounds to train on, n")
        axes.set_xscale("log")
        counts = [row.count for row in rows]
        axes.set_xticks([2**k for k in range(20) if min(counts) <= 2**k <= max(counts)])
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
    figure.legend(*grid[0, 1].get_legend_handles_labels(), loc="outside right upper")


def _lines(axes: Axes, rows: Sequence[Row], names: Sequence[str], measure: Measure) -> None:
    for name in names:  # also of a category that was not trained in this rain: colours stay its own
        at_count = by_count([row for row in rows if row.category == name], measure.value)
        means, deviations = ([getattr(s, part) for s in at_count.values()] for part in ("mean", "deviation"))
        axes.errorbar(list(at_count), means, deviations, label=name, capsize=2, elinewidth=0.8)
    across = axes.get_yaxis_transform()  # x as a share of the axes, y in data
    for text, value in (("input", measure.of_input), ("clean", measure.of_clean)):
        level = fmean(value(row) for row in rows)
        axes.axhline(level, color=GREY, linestyle=":", linewidth=1)
        axes.text(0.99, level, text, transform=across, color=GREY, ha="right", va="bottom")


def _trade_off(rows: Sequence[Row], figure: Figure) -> None:
    """What removing more costs: each point is one n of one category, on rain of another make."""
    axes = figure.subplots()
    unseen = [row for row in rows if row.unseen and row.rain == main_rain(rows)]
    for category in categories(unseen):
        own = [row for row in unseen if row.category == category]
        across, up = (by_count(own, value) for value in (removal, background_error))
        points = [[spread.mean for spread in side.values()] for side in (across, up)]
        axes.plot(*points, label=category)
        axes.annotate(f"{min(across)}", (points[0][0], points[1][0]), color=GREY, fontsize="small")
    axes.set(xlabel="rain removal η (more is better)", ylabel="E_B50, error off the bright rain")
    axes.legend()


# The page


def _page(results: Sequence[Result], rows: Sequence[Row]) -> str:
    rain = main_rain(rows)
    main = [row for row in rows if row.rain == rain]
    checks = check_all(rows)
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
        f"Tested on {results[0].settings['held_out']['pictures']} pictures that none was trained on. "
        f"Unseen rain: {', '.join(unseen)}.",
        "",
        "## Checks",
        "",
        "Fixed before the measurements, in `training/study/checks.py`.",
        "",
        "| check | claim | verdict |",
        "|---|---|---|",
        *(f"| ({check.letter}) | {check.claim} | **{check.verdict}** |" for check in checks),
        "",
    ]
    for check in checks:
        text += [f"**({check.letter})** {check.claim}: {check.verdict}.", ""]
        text += [*(f"- {line}" for line in check.evidence), ""]
    text += ["## Figures", "", "Bars are one standard deviation over seeds.", ""]
    text += [f"![{m.label} against the number of backgrounds]({m.file}.svg)\n" for m in MEASURES]
    text += ["![Background error against removal](trade-off.svg)", ""]
    text += ["## Numbers", "", f"Trained in `{rain}`, mean ± standard deviation over seeds.", ""]
    text += [*_table(main), "", *_prediction(main)]
    return "\n".join(text) + "\n"


def _table(rows: Sequence[Row]) -> list[str]:
    head = "| backgrounds | n | η seen | η unseen | E_R unseen | E_B50 unseen | clean back |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for category in categories(rows):
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
    return f"{over_seeds(rows, value):.{digits}f}"


def _prediction(rows: Sequence[Row]) -> list[str]:
    """Which measure of the backgrounds' complexity goes with the removal of unseen rain."""
    sets = sorted({(row.category, row.count) for row in rows})
    unseen = [[row for row in rows if row.unseen and (row.category, row.count) == key] for key in sets]
    removals, errors = (
        [over_seeds(own, value).mean for own in unseen] for value in (removal, background_error)
    )
    measures: dict[str, Value] = {
        "bits per pixel": lambda row: row.bits_per_pixel,
        "gradient energy": lambda row: row.gradient_energy,
        "looks": lambda row: row.looks,
        "distinct pictures": lambda row: round(row.distinct, 1),  # what is left below is rounding
        "pictures, n": lambda row: row.count,
        "complexity, kB": lambda row: row.kilobytes,
    }
    lines = [
        "## What complexity predicts",
        "",
        f"Rank correlation (Spearman's ρ) over the {len(sets)} sets of backgrounds, of what "
        "`training/complexity.py` measures with what was found on unseen rain:",
        "",
        "| measure of the backgrounds | with removal η | with E_B50 |",
        "|---|---|---|",
    ]
    for name, measure in measures.items():
        values = [over_seeds(own, measure).mean for own in unseen]
        lines.append(f"| {name} | {spearman(values, removals):+.2f} | {spearman(values, errors):+.2f} |")
    return lines
