"""Fits the weights of derain/monitor.py, and measures how well its score tells failures.

    python -m training monitor fit models/base -o derain/monitor.json
    python -m training monitor report models/base --pairs rain100l rain/ clean/ --clean kodak24 kodak24/ \
        --rain textures:streaks/ clean/ --other models/narrow -o docs/monitoring/roc.svg
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from derain.arguments import at_least, check_output, run_command
from derain.errors import ModelError
from derain.files import write_atomically
from derain.inference.engine import Engine
from training.arguments import add_clean_option, add_pairs_option, check_pairs_option, first_repeated
from training.evaluation.monitor import calibration
from training.evaluation.monitor.calibration import (
    calibrate,
    fitting_pairs,
    judge,
    treatments,
)
from training.evaluation.monitor.report import MADE_NETWORKS, clean_table, cost, draw_roc, measure_set, table
from training.evaluation.scoring import Derain
from training.evaluation.sets import check_distinct, clean_set, paired_set, rained_set
from training.figures.style import FIGURE_SUFFIXES
from training.repository import PHOTOGRAPHS


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    run: Callable[[argparse.Namespace], int] = _fit if options.command == "fit" else _report
    return run_command(lambda: run(options))


def _fit(options: argparse.Namespace) -> int:
    check_output(options.output, (".json",))
    engine = Engine(options.model, threads=options.threads)
    pairs = fitting_pairs([PHOTOGRAPHS, *options.photographs])
    judged = [j for pair in pairs for j in judge(pair, treatments(pair, engine.derain))]
    fitted = {
        "made_by": "python -m training monitor fit",
        "model": {"name": engine.manifest.name, "sha256": engine.manifest.sha256},
        **calibrate(judged),
    }
    text = json.dumps(fitted, indent=2)
    write_atomically(options.output, f"{text}\n".encode())
    print(text)
    return 0


def _report(options: argparse.Namespace) -> int:
    if options.output is not None:
        check_output(options.output, FIGURE_SUFFIXES)
    engines = [Engine(folder, threads=options.threads) for folder in (options.model, *options.other)]
    names = [engine.manifest.name for engine in engines]
    if twice := first_repeated([*MADE_NETWORKS, *names]):
        raise ModelError(f"two networks are named {twice}: {', '.join([*MADE_NETWORKS, *names])}")
    networks: dict[str, Derain] = {engine.manifest.name: engine.derain for engine in engines}
    sets = [paired_set(named, "test") for named in options.pairs]
    sets += [rained_set(name, Path(folder), "test") for name, folder in options.rain]
    sets += [clean_set(named, "test") for named in options.clean]
    check_distinct(sets)
    results = {image_set.name: measure_set(image_set, networks) for image_set in sets}
    print(table(results, options.threshold))
    print()
    print(clean_table(results, (0.5, options.threshold, 0.9)))
    print(f"\n{cost(engines[0].derain)}")
    if options.output is not None:
        draw_roc(options.output, results)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training monitor",
        description=f"{__doc__}\n{calibration.__doc__}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    fitting = commands.add_parser("fit", help="find the weights")
    fitting.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".json")
    fitting.add_argument(
        "--photographs",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="more clean images, beside those of the repository; may be repeated",
    )
    reporting = commands.add_parser("report", help="how well does the score tell failures?")
    add_pairs_option(reporting)
    add_clean_option(reporting)
    reporting.add_argument(
        "--rain",
        nargs=2,
        action="append",
        default=[],
        metavar=("FAMILY", "FOLDER"),
        help="rain made over clean images of yours, as in `python -m training evaluate`",
    )
    reporting.add_argument(
        "--other",
        type=Path,
        action="append",
        default=[],
        metavar="MODEL",
        help="one more network to judge, such as one that was trained on narrow rain; may be repeated",
    )
    reporting.add_argument("--threshold", type=float, default=0.7, metavar="P", help="(default: %(default)s)")
    reporting.add_argument("-o", "--output", type=Path, metavar="FILE", help="the ROC curves, .svg or .png")
    for command in (fitting, reporting):
        command.add_argument("model", type=Path, help="a model folder, such as models/base")
        command.add_argument("--threads", type=at_least(1), metavar="N", help="(default: all cores)")
    options = parser.parse_args(arguments)
    if options.command == "report":
        check_pairs_option(reporting, options)
        if not (options.pairs or options.rain or options.clean):
            reporting.error("name a set: --pairs, --rain or --clean")
    return options
