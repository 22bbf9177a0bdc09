"""Makes the ablation table of the shipped recipe: what each part of it is worth, on validation.

    python -m training.ablation runs/ablation --report runs/ablation/report
    python -m training.ablation runs/ablation --seeds 3 --jobs 8 --photographs photographs/ \\
        --pairs mine rainy/ clean/ --clean dry photographs/ --report runs/ablation/report

Each row is a variant of the recipe `ablation`, small and of a minute or two on one core, that differs
from it in one thing: what it has for backgrounds, the rain it is trained in, a trick that is switched
off. Each is trained with several seeds. The same command goes on where it was interrupted, and adds
what is new in it to what the folder has; one with other --steps, --pairs or --clean needs another folder.
"""

import argparse
import shlex
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from derain.arguments import at_least
from training.ablation.cells import (
    CROP_PX,
    DRAWN_PX,
    MOST_PICTURES,
    check_apart,
    known,
    list_cells,
    own_set,
    read_done,
    run_cell,
)
from training.ablation.report import write_report
from training.ablation.variants import GROUPS, list_variants
from training.evaluate import (
    add_clean_option,
    add_pairs_option,
    check_distinct,
    check_pairs_option,
    clean_set,
    paired_set,
)
from training.export import current_commit
from training.interruption import run_resumable
from training.pool import Job, run_jobs
from training.recipes import ROOT
from training.recipes import ablation as reference_recipe

_MEASURED = f"""\
Each training is measured on the repository's own validation sets of drawn rain, with pictures shrunk to
{DRAWN_PX} px, and on sets of yours, of each {MOST_PICTURES} pictures at most, spread over it, and of each
the middle of {CROP_PX} px at most: together a few seconds. What is measured here guides choices, so name
no set that is to be a test.
"""


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    command = _command(sys.argv[1:] if arguments is None else arguments)
    return run_resumable(lambda: _ablate(options, command))


def _ablate(options: argparse.Namespace, command: str) -> int:
    # Better said now than by every cell, or at the end.
    steps = options.steps or reference_recipe().steps
    reference = replace(reference_recipe(), steps=steps, validate_every=steps)
    variants = [
        variant
        for variant in list_variants(reference, options.photographs)
        if variant.group in (None, *options.only)
    ]
    cells = list_cells(variants, range(options.seeds))
    found = [paired_set(named, "validation") for named in options.pairs]
    found += [clean_set(named, "validation") for named in options.clean]
    check_distinct(found)
    sets = [own_set(each) for each in found]
    check_apart(cells, sets)
    if options.report is not None:
        options.report.mkdir(parents=True, exist_ok=True)

    commit = current_commit()
    jobs = [
        Job(
            cell.name,
            partial(known, cell, sets, options.folder),
            partial(run_cell, cell, sets, commit, options.folder),
        )
        for cell in cells
    ]
    failed = run_jobs(jobs, options.jobs)
    if options.report is not None:
        write_report(variants, cells, read_done(cells, sets, options.folder), command, options.report)
    print(f"{len(cells) - failed} of {len(cells)} cells done, in {options.folder}")
    return 1 if failed else 0


def _command(arguments: list[str]) -> str:
    """As it was given, but for where folders outside this repository lie."""
    words = [_without_place(word) if word.startswith("/") else word for word in arguments]
    return f"python -m training.ablation {shlex.join(words)}"


def _without_place(path: str) -> str:
    folder = Path(path).resolve()
    return str(folder.relative_to(ROOT)) if folder.is_relative_to(ROOT) else f".../{folder.name}"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.ablation",
        description=__doc__,
        epilog=_MEASURED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="where checkpoints and measurements are kept")
    parser.add_argument(
        "--only",
        choices=GROUPS,
        nargs="+",
        default=GROUPS,
        metavar="GROUP",
        help=f"beside the reference: {', '.join(GROUPS)} (default: all)",
    )
    parser.add_argument(
        "--photographs", type=Path, metavar="FOLDER", help="others to train on, beside the repository's own"
    )
    parser.add_argument("--seeds", type=at_least(1), default=2, help="trainings of each variant (default: 2)")
    parser.add_argument(
        "--steps",
        type=at_least(1),
        help=f"of each training (default: {reference_recipe().steps})",
    )
    add_pairs_option(parser)
    add_clean_option(parser)
    parser.add_argument("--jobs", type=at_least(1), default=1, help="trainings at once (default: 1)")
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="write a table of all cells and a page")
    options = parser.parse_args(arguments)
    check_pairs_option(parser, options)
    return options


if __name__ == "__main__":
    sys.exit(main())
