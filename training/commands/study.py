"""Runs the paper's experiment: small trainings on few or many, simple or complex backgrounds.

    python -m training study runs/study --report runs/study/report
    python -m training study runs/study --category faces=photos/faces --category leaves=leaves:0.5 \
        --counts 8 16 32 64 128 256 all --rain small medium large --seeds 3 --jobs 8

Each cell is one training, measured on the rain it was trained on and on rain families that
none was. The same command goes on where it was interrupted, and adds what is new in it to
what the folder has. On several machines that share the folder, or whose `cells/` are brought
together afterwards, each takes its share: --share 1/3, 2/3 and 3/3.
"""

import argparse
from functools import partial
from pathlib import Path

from derain.arguments import at_least
from training.arguments import first_repeated, share
from training.experiments.grid import Job, of_steps, run_jobs
from training.experiments.study.cells import (
    Category,
    Cell,
    HeldOut,
    StudyError,
    known,
    list_cells,
    prepare,
    read_results,
    run_cell,
)
from training.experiments.study.report import write_report
from training.image_folder import list_images
from training.rain.families import HELD_OUT, family, is_of_another_make, is_same, trainable
from training.recipes import study as study_recipe
from training.repository import HELD_OUT_PHOTOGRAPHS, PHOTOGRAPHS
from training.trainer.signals import run_resumable

_DEFAULT_CATEGORIES = (
    Category("photographs", PHOTOGRAPHS),
    Category("leaves0.2", None, 0.2),
    Category("leaves0.6", None, 0.6),
    Category("leaves1", None, 1.0),
)


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    return run_resumable(lambda: _study(options))


def _study(options: argparse.Namespace) -> int:
    # Better said now than by every cell, or at the end.
    cells = _cells(options)
    held_out = _held_out(options)
    if options.report is not None:
        options.report.mkdir(parents=True, exist_ok=True)

    recipe = of_steps(study_recipe(), options.steps)
    for category in dict.fromkeys(cell.category for cell in cells):
        prepare(category, held_out, options.folder)
    settings = (recipe, held_out, options.folder)
    jobs = [
        Job(cell.name, partial(known, cell, *settings), partial(run_cell, cell, *settings)) for cell in cells
    ]
    failed = run_jobs(jobs, options.jobs)
    if options.report is not None:
        write_report(read_results(options.folder), options.report)
    print(f"{len(cells) - failed} of {len(cells)} cells done, in {options.folder}")
    return 1 if failed else 0


def _held_out(options: argparse.Namespace) -> HeldOut:
    for name in options.unseen:
        unseen = family(name)
        if (same := next((rain for rain in options.rain if is_same(unseen, family(rain))), None)) is not None:
            raise StudyError(f"--unseen {name} is rain to train in, as --rain {same}")
        if not is_of_another_make(unseen):
            raise StudyError(f"--unseen {name} is rain to train in: {', '.join(HELD_OUT)} are not")
    held_out = HeldOut(tuple(options.unseen), options.test, options.test_count)
    list_images(options.test)
    return held_out


def _cells(options: argparse.Namespace) -> list[Cell]:
    for name in options.rain:
        trainable(name)
    number, machines = options.share
    categories = options.category or _DEFAULT_CATEGORIES
    cells = list_cells(categories, options.counts, options.rain, range(options.seeds))
    if twice := first_repeated(category.name for category in categories):
        raise StudyError(f"two categories are named {twice}")
    if not cells:
        raise StudyError("no category has as many images as --counts asks for")
    return cells[number - 1 :: machines]


def _category(text: str) -> Category:
    name, equals, where = text.partition("=")
    if not (equals and name.replace("-", "").replace("_", "").replace(".", "").isalnum() and where):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER or NAME=leaves:COMPLEXITY")
    if not where.startswith("leaves:"):
        return Category(name, Path(where))
    return Category(name, None, share(where.removeprefix("leaves:")))


def _count(text: str) -> int | None:
    return None if text == "all" else at_least(1)(text)


def _part(text: str) -> tuple[int, int]:
    number, _, machines = text.partition("/")
    if not (number.isdecimal() and machines.isdecimal() and 1 <= int(number) <= int(machines)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a share such as 1/3")
    return int(number), int(machines)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="where checkpoints and measurements are kept")
    parser.add_argument(
        "--category",
        type=_category,
        action="append",
        metavar="NAME=FOLDER|NAME=leaves:C",
        help="a kind of background; may be repeated (default: the free photographs of the repository, "
        "and leaves of complexity 0.2, 0.6 and 1)",
    )
    parser.add_argument(
        "--counts",
        type=_count,
        nargs="+",
        default=[8, 16, 32, 64, 128, 256, None],
        metavar="N|all",
        help="how many backgrounds (default: 8 16 32 64 128 256 all); what a category has not is left out",
    )
    parser.add_argument(
        "--rain", nargs="+", default=["medium"], metavar="FAMILY", help="to train in (default: medium)"
    )
    parser.add_argument(
        "--unseen",
        nargs="+",
        default=["drizzle", "shower", "downpour", "squall"],
        metavar="FAMILY",
        help="to test in, beside the rain of each training: "
        f"{', '.join(HELD_OUT)} or textures:FOLDER (default: the drawn ones)",
    )
    parser.add_argument("--seeds", type=at_least(1), default=2, help="trainings of each kind (default: 2)")
    parser.add_argument("--steps", type=at_least(1), default=2000, help="of each training (default: 2000)")
    parser.add_argument(
        "--test", type=Path, default=HELD_OUT_PHOTOGRAPHS, help="images to test on, no category's"
    )
    parser.add_argument("--test-count", type=at_least(1), default=24, help="at most so many (default: 24)")
    parser.add_argument("--jobs", type=at_least(1), default=1, help="trainings at once (default: 1)")
    parser.add_argument(
        "--report", type=Path, metavar="FOLDER", help="write table, figures and text on all that is done"
    )
    parser.add_argument("--share", type=_part, default=(1, 1), metavar="K/M", help="of machine K of M")
    return parser.parse_args(arguments)
