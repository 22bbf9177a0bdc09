"""How trainings went: loss, learning rate and validation scores over the steps, as a figure and as a table.

    python -m training curves runs/base -o docs/models/base.svg

reads what a run wrote down in `stats.jsonl`; of several runs each has its colour. `docs/models/base.csv`
beside the figure has the same numbers, a row a step. The loss is drawn as it was written, pale, and as a
running mean over a twenty-fifth of the entries. Validation is on rain that the run does not train on.

Hours are those of training steps: validation, and the time that an interrupted run lay still, do not count.
"""

import argparse
from pathlib import Path

from derain.arguments import check_output, run_command
from derain.files import write_atomically
from training.figures.style import FIGURE_SUFFIXES
from training.trainer.curves import COLUMNS, CurvesError, draw, read_runs, table


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
        prog="python -m training curves",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN_FOLDER", help="such as runs/base")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help=".svg or .png; a .csv goes beside it"
    )
    parser.add_argument("--hours", action="store_true", help="draw over hours of training, not over steps")
    return parser.parse_args(arguments)
