"""What the command line of `training/run.py` can say, in the paper's words."""

import argparse
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from derain.arguments import at_least
from training.backgrounds import BackgroundError
from training.loop import Execution
from training.rain.families import HELD_OUT, TRAINABLE, trainable
from training.recipes import RECIPES, ROOT, Recipe

_SMALLEST_PATCH_PX = 16
_PATCH_MULTIPLE_PX = 8  # `alignment_px` of the largest network of any recipe
_LEAVES_COUNT = 64  # where leaves are all there is, and the recipe has none

DESCRIPTION = """\
Trains a network to take rain out of photographs, scores it on rain it never saw, and leaves it
ready to serve:

    python training/run.py smoke              all of it in under two minutes
    python training/run.py base               the shipped model
    python training/run.py base --name mine --backgrounds photographs/ --count 64
    torchrun --nproc-per-node 2 training/run.py base

The same command goes on where it was interrupted: by Ctrl+C, by SIGTERM, by a power cut.

The idea is that of "Networks are Slacking Off: Understanding Generalization Problem in Image
Deraining" (Gu et al., NeurIPS 2023). A network learns whatever is simplest. Given many complex
backgrounds and narrow rain it finds the rain simpler: it memorises the look of that rain, takes
it off perfectly and leaves any other rain where it is. Given few, simple backgrounds and wide
rain it finds the backgrounds simpler: it learns what pictures look like, and puts that in the
place of whatever covers it. Two things can be turned, then: keep the number and the complexity
of the backgrounds below, the range of the rain above. Both have a price, for a network that has
seen too little also changes what is no rain.

What is measured, on rain families never trained on: E_R, the change on the rain, and eta, the
share of the rain removed (higher: more rain removed), against E_B, the error off the rain
(lower: less damage). A setting is better when it is better in both; mostly it trades one for
the other. `python -m training.evaluate` measures the same on pictures of yours.
"""


@dataclass(frozen=True)
class Options:
    recipe: Recipe
    name: str  # of the run and the model
    runs: Path
    models: Path
    execution: Execution


def read_options(arguments: list[str] | None) -> Options:
    """What was asked for; raises DerainError where it cannot be, and exits as argparse does."""
    options = _parser().parse_args(arguments)
    recipe = _override(RECIPES[options.recipe](), options)
    execution = Execution(options.workers, options.threads, options.micro_batch, options.compile)
    return Options(recipe, options.name or recipe.name, options.runs, options.models, execution)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python training/run.py",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", choices=RECIPES, help="all that is not said here; see training/recipes.py")
    parser.add_argument("--name", type=model_name, help="of the run and of the model (default: the recipe's)")

    backgrounds = parser.add_argument_group(
        "backgrounds", "The paper's first lever: simpler than the rain, and no more than needed."
    )
    backgrounds.add_argument(
        "--backgrounds",
        metavar="FOLDER|leaves",
        help="clean photographs of yours instead of the recipe's (its leaves stay mixed in), or `leaves`: "
        "procedural dead leaves alone, which need no photograph (default: training/photographs/train)",
    )
    backgrounds.add_argument(
        "--count",
        metavar="N",
        type=at_least(1),
        help="how many of the photographs, chosen by the seed, or how many leaves pictures where there are "
        "leaves alone; the first 16 of 64 are the 16. The more there "
        "are, the easier the rain is in comparison: unseen rain stays (eta falls), damage falls too (E_B). "
        f"64 to 512 are a good place to start (default: {_by_recipe('photograph_count', 'all')})",
    )
    backgrounds.add_argument(
        "--leaves-complexity",
        metavar="C",
        type=_share,
        help="of the dead leaves, from 0 (large flat shapes) to 1 (small, textured, with lines as thin as "
        "rain): simpler leaves remove more rain and do more damage "
        f"(default: {', '.join(f'{name} {make().leaves.complexity:g}' for name, make in RECIPES.items())})",
    )

    rain = parser.add_argument_group("rain", "The second lever: wide rain is hard to memorise.")
    rain.add_argument(
        "--rain",
        metavar="FAMILY",
        help=f"{', '.join(TRAINABLE)}, or textures:FOLDER or rainmix:FOLDER with rain layers of yours. "
        "small, medium and large are the paper's ranges, each within the next; wide goes from drizzle to "
        "downpour, misty also has a veil, varied also differs in make: bars, sheets, gusts, blends; mixed "
        "has curtains, dense streaks and a few veils as well. The wider, the later overfitting to it sets in "
        "as backgrounds grow in number. Not trained on: "
        f"{', '.join(HELD_OUT)}, by which models are scored (default: "
        f"{', '.join(f'{name} {make().rain.name}' for name, make in RECIPES.items())})",
    )

    course = parser.add_argument_group("course", "How long and how hard the network learns.")
    for option, field, kind, text in (
        ("--steps", "steps", at_least(1), "batches to learn from"),
        (
            "--batch",
            "batch",
            at_least(1),
            "samples a step, of all processes together",
        ),
        (
            "--patch",
            "patch_px",
            _patch,
            f"side of a patch in pixels, a multiple of {_PATCH_MULTIPLE_PX} from {_SMALLEST_PATCH_PX}",
        ),
        ("--learning-rate", "learning_rate", _rate, "after the warm-up and until the decay"),
        ("--seed", "seed", at_least(0), "decides weights, samples and which photographs"),
    ):
        course.add_argument(
            option,
            metavar=option.rsplit("-", 1)[-1].upper(),
            type=kind,
            dest=field,
            help=f"{text} (default: {_by_recipe(field)})",
        )

    course.add_argument(
        "--members",
        metavar="N",
        type=at_least(1),
        help="networks that are trained side by side on the same samples; the result is their mean (default: "
        f"{', '.join(f'{name} {make().model.members}' for name, make in RECIPES.items())})",
    )
    machines = parser.add_argument_group(
        "machines",
        "How it is carried out; changes no more than float rounding. Under torchrun each process takes\n"
        "its share of every batch: --nproc-per-node is the number of processes on a machine, one a GPU,\n"
        "--nnodes that of machines. On GPUs this has never been run by its authors, who had none.",
    )
    machines.add_argument(
        "--workers",
        metavar="N",
        type=at_least(0),
        help="processes that make samples, beside each that trains; more where the share of time spent "
        "waiting is not near 0 (default: two for five cores of the process, on a GPU one a core; at most 16)",
    )
    machines.add_argument(
        "--threads",
        metavar="N",
        type=at_least(1),
        help="of each process that trains, on a CPU: 1 on a machine that has other work to do, where several "
        "wait for one another (default: the cores that --workers leave)",
    )
    machines.add_argument(
        "--micro-batch",
        metavar="N",
        type=at_least(1),
        help="the most samples of a batch that a process takes at once, where memory is short: their "
        "gradients are added until the batch is whole (default: its share of the batch)",
    )
    machines.add_argument(
        "--compile",
        action="store_true",
        help="compile the networks by torch.compile, which needs a C++ compiler. A step was 15%% faster so "
        "on one core of an Intel Xeon with AMX, no faster on one of an AMD EPYC with AVX2, and the first "
        "took up to 40 seconds longer",
    )

    places = parser.add_argument_group("places")
    places.add_argument(
        "--runs", type=Path, default=ROOT / "runs", help="of checkpoints and records: %(default)s"
    )
    places.add_argument(
        "--models", type=Path, default=ROOT / "models", help="of finished models: %(default)s"
    )
    return parser


def _by_recipe(field: str, nothing: str = "") -> str:
    values = {name: getattr(make(), field) for name, make in RECIPES.items()}
    if len(set(values.values())) == 1:
        values = {"": next(iter(values.values()))}
    return ", ".join(
        f"{name} {nothing if value is None else value}".strip() for name, value in values.items()
    )


def model_name(text: str) -> str:
    """For argparse: a name that a folder can have."""
    if not re.fullmatch(r"\w[\w.-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not made of letters, digits, '_', '-' and '.'")
    return text


def _share(text: str) -> float:
    return _between(text, lambda value: 0 <= value <= 1, "a number from 0 to 1")


def _rate(text: str) -> float:
    return _between(text, lambda value: 0 < value < 1, "a number between 0 and 1")


def _between(text: str, is_allowed: Callable[[float], bool], allowed: str) -> float:
    with suppress(ValueError):
        if is_allowed(float(text)):
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not {allowed}")


def _patch(text: str) -> int:
    size_px = at_least(_SMALLEST_PATCH_PX)(text)
    if size_px % _PATCH_MULTIPLE_PX:
        raise argparse.ArgumentTypeError(f"{text!r} is no multiple of {_PATCH_MULTIPLE_PX}")
    return size_px


def _override(recipe: Recipe, options: argparse.Namespace) -> Recipe:
    course = ("steps", "batch", "patch_px", "learning_rate", "seed")
    given = {name: getattr(options, name) for name in course if getattr(options, name) is not None}
    recipe = replace(recipe, **given)
    if options.members is not None:
        recipe = replace(recipe, model=replace(recipe.model, members=options.members))
    if options.rain is not None:
        recipe = replace(recipe, rain=trainable(options.rain))
    if options.backgrounds == "leaves":
        count = options.count or recipe.leaves_count or _LEAVES_COUNT
        recipe = replace(recipe, photographs=None, photograph_count=None, leaves_count=count)
    elif options.backgrounds is not None:
        recipe = replace(recipe, photographs=Path(options.backgrounds), photograph_count=options.count)
    elif options.count is not None:
        recipe = replace(recipe, photograph_count=options.count)
    if options.leaves_complexity is not None:
        if recipe.leaves_count == 0:
            raise BackgroundError(
                f"--leaves-complexity is of no use: the recipe {recipe.name} has leaves only with "
                "--backgrounds leaves"
            )
        recipe = replace(recipe, leaves=replace(recipe.leaves, complexity=options.leaves_complexity))
    return recipe
