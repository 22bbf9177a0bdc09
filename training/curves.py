"""How trainings went: loss, learning rate and validation scores over the steps, as a figure and as a table.

    python -m training.curves runs/base -o docs/models/base.svg

reads what a run wrote down in `stats.jsonl`; of several runs each has its colour. `docs/models/base.csv`
beside the figure has the same numbers, a row a step. The loss is drawn as it was written, pale, and as a
running mean over a twenty-fifth of the entries. Validation is on rain that the run does not train on.

Hours are those of training steps: validation, and the time that an interrupted run lay still, do not count.
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from numpy.typing import NDArray

from derain.arguments import check_output, run_command
from derain.errors import DerainError
from derain.files import write_atomically
from training.charts import (
    BLACK,
    BLUE,
    FIGURE_SUFFIXES,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    write_figure,
)
from training.progress import STATS

TRAINING = ("loss", "estimator_loss", "gradient_norm", "learning_rate", "samples_per_second")
VALIDATION = ("psnr", "input_psnr", "removal", "background_error", "clean_psnr")
COLUMNS = ("run", "step", "hours", *TRAINING, *VALIDATION)

_PANELS = {
    "loss": "loss",
    "estimator_loss": "loss of the rain estimator",
    "learning_rate": "learning rate",
    "psnr": "PSNR in unseen rain, dB (dotted: of the input)",
    "removal": "rain removal η, in unseen rain",
    "background_error": "E_B, error off the rain",
    "clean_psnr": "clean pictures back, dB",
}
_COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_SMOOTHED_SHARE = 1 / 25  # of the entries, that one point of the running mean is over


class CurvesError(DerainError):
    """A run of which no curves can be drawn."""


@dataclass(frozen=True)
class Entry:
    """What a run wrote down after a step; on some steps it trains and validates."""

    step: int
    hours: float  # of training steps, since the run began
    values: dict[str, float]  # of TRAINING and VALIDATION, those that it has


@dataclass(frozen=True)
class Run:
    name: str
    entries: list[Entry]

    def curve(self, key: str, by_hours: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where it was measured, in steps or hours, and what."""
        points = [(e.hours if by_hours else e.step, e.values[key]) for e in self.entries if key in e.values]
        along, values = np.array(points, dtype=np.float64).reshape(-1, 2).T
        return along, values


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """What each wrote down. Raises CurvesError, OSError."""
    names = [folder.resolve().name for folder in folders]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise CurvesError(f"two runs are named {twice}")
    if len(names) > len(_COLOURS):
        raise CurvesError(f"{len(names)} runs are more than can be told apart: at most {len(_COLOURS)}")
    return [Run(name, _entries(folder)) for name, folder in zip(names, folders, strict=True)]


def _entries(folder: Path) -> list[Entry]:
    """Raises CurvesError where there is none."""
    path = folder / STATS
    if not path.is_file():
        raise CurvesError(f"{folder} has no {STATS}: name a run folder, such as runs/base")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    by_step: dict[int, dict[str, float]] = {}
    for number, line in enumerate(lines, start=1):
        if line.endswith("\n"):  # else it is being written, or was torn
            row = _row(line, f"{path}, line {number}")
            by_step.setdefault(int(row["step"]), {}).update(row)
    paces = {step: row["steps_per_second"] for step, row in sorted(by_step.items()) if "loss" in row}
    if not paces:
        raise CurvesError(f"{path} has no entry of training yet")
    steps, hours = _clock(paces)
    return [
        Entry(
            step,
            float(np.interp(step, steps, hours)),
            {key: row[key] for key in (*TRAINING, *VALIDATION) if key in row},
        )
        for step, row in sorted(by_step.items())
    ]


def _row(line: str, place: str) -> dict[str, float]:
    """The numbers of an entry; what could not be measured is left out."""
    try:
        row = json.loads(line)
        numbers = {str(key): float(value) for key, value in row.items() if value is not None}
    except (ValueError, TypeError, AttributeError) as error:
        raise CurvesError(f"{place}: no entry of a run") from error
    needed = ("step", "steps_per_second") if "loss" in numbers else ("step",)
    if missing := [key for key in needed if not numbers.get(key, 0.0) > 0]:
        raise CurvesError(f"{place}: an entry without {missing[0]}")
    return numbers


def _clock(paces: dict[int, float]) -> tuple[list[int], list[float]]:
    """Steps, and the hours of training that they were reached after.

    An entry's pace is that of the steps since the one before it.
    """
    steps, hours = [0], [0.0]
    for step, steps_per_second in paces.items():
        hours.append(hours[-1] + (step - steps[-1]) / steps_per_second / 3600)
        steps.append(step)
    return steps, hours


def smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The running mean around each entry; at the ends it is over what there is of it."""
    reach = round(_SMOOTHED_SHARE * len(values)) // 2
    return np.array([values[max(0, i - reach) : i + reach + 1].mean() for i in range(len(values))])


# What is drawn and written


def draw(path: Path, runs: Sequence[Run], by_hours: bool = False) -> None:
    """SVG or PNG: a panel for each measure that some run has."""
    keys = [key for key in _PANELS if any(key in entry.values for run in runs for entry in run.entries)]
    rows = (len(keys) + 1) // 2
    write_figure(path, 9, 0.6 + 2.4 * rows, partial(_paint, runs, keys, by_hours))


def _paint(runs: Sequence[Run], keys: Sequence[str], by_hours: bool, figure: Figure) -> None:
    grid = figure.subplots((len(keys) + 1) // 2, 2, sharex=True, squeeze=False).ravel()
    for axes, key in zip(grid, keys, strict=False):
        for run, colour, marker in zip(runs, _COLOURS, _MARKERS, strict=False):
            _draw_run(axes, run, key, by_hours, colour, marker)
        axes.set_title(_PANELS[key])
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    for axes in grid[len(keys) :]:
        axes.set_visible(False)
    figure.supxlabel("hours of training" if by_hours else "steps", fontsize="medium")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)


def _draw_run(axes: Axes, run: Run, key: str, by_hours: bool, colour: str, marker: str) -> None:
    along, values = run.curve(key, by_hours)
    if key in VALIDATION:
        axes.plot(along, values, color=colour, linestyle="-", marker=marker)
    else:
        axes.plot(
            along,
            smoothed(values) if key == "loss" else values,
            color=colour,
            linestyle="-",
            marker="",
            label=run.name,
        )
    if key == "loss":
        axes.plot(along, values, color=colour, alpha=0.25, linewidth=0.7, linestyle="-", marker="")
    if key == "psnr":
        along, values = run.curve("input_psnr", by_hours)
        axes.plot(along, values, color=GREY, linestyle=":", linewidth=1, marker="")


def table(runs: Sequence[Run]) -> str:
    """As CSV: COLUMNS, and a row for each step that something was written down after."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for run in runs:
        for entry in run.entries:
            shown = (
                f"{entry.values[key]:.5g}" if key in entry.values else "" for key in (*TRAINING, *VALIDATION)
            )
            writer.writerow((run.name, entry.step, f"{entry.hours:.4f}", *shown))
    return text.getvalue()


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    return run_command(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    check_output(options.output, FIGURE_SUFFIXES)
    numbers = options.output.with_suffix(".csv")
    check_output(numbers)
    if numbers.exists() and not numbers.read_text(errors="replace").startswith(",".join(COLUMNS[:3])):
        raise CurvesError(f"{numbers} is there and is no table of curves; choose another --output")
    runs = read_runs(options.runs)
    draw(options.output, runs, options.hours)
    write_atomically(numbers, table(runs).encode())
    print(f"{options.output} and {numbers} show {'; '.join(run.name for run in runs)}")
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.curves",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN_FOLDER", help="such as runs/base")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help=".svg or .png; a .csv goes beside it"
    )
    parser.add_argument("--hours", action="store_true", help="draw over hours of training, not over steps")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
