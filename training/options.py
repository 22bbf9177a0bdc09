"""What the command line of `training/run.py` can say, in the paper's words."""

import argparse
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

from derain.arguments import at_least
from derain.errors import DerainError
from training.arguments import model_name, number, share
from training.image_folder import BackgroundError
from training.model.derain_model import ModelShape
from training.rain.families import HELD_OUT, TRAINABLE, trainable
from training.recipes import RECIPES, Backgrounds, Course, Optimization, Recipe
from training.repository import ROOT
from training.trainer.loop import Execution

Section = TypeVar("Section", Course, Optimization, ModelShape, Recipe)

_rate = number(lambda value: 0 < value < 1, "a number between 0 and 1")

_SMALLEST_PATCH_PX = 16
_PATCH_MULTIPLE_PX = 8  # `alignment_px` of the largest network of any recipe
_LARGEST_SEED = 2**64 - 1  # torch takes no larger one
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
rain it finds the backgrounds simpler: it learns what images look like, and puts that in the
place of whatever covers it. Two things can be turned, then: keep the number and the complexity
of the backgrounds below, the range of the rain above. Both have a price, for a network that has
seen too little also changes what is no rain.

What is measured, on rain families never trained on: E_R, the change on the rain, and eta, the
share of the rain removed (higher: more rain removed), against E_B, the error off the rain
(lower: less damage). A setting is better when it is better in both; mostly it trades one for
the other. `python -m training evaluate` measures the same on images of yours.
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

    _add_backgrounds(
        parser.add_argument_group(
            "backgrounds", "The paper's first lever: simpler than the rain, and no more than needed."
        )
    )
    _add_rain(parser.add_argument_group("rain", "The second lever: wide rain is hard to memorise."))
    _add_course(parser.add_argument_group("course", "How long and how hard the network learns."))
    _add_machines(
        parser.add_argument_group(
            "machines",
            "How it is carried out; changes no more than float rounding. Under torchrun each process takes\n"
            "its share of every batch: --nproc-per-node is the number of processes on a machine, one a GPU,\n"
            "--nnodes that of machines. On GPUs this has never been run by its authors, who had none.",
        )
    )
    _add_places(parser.add_argument_group("places"))
    return parser


def _add_backgrounds(backgrounds: argparse._ActionsContainer) -> None:
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
        help="how many of the photographs, chosen by the seed, or how many leaves images where there are "
        "leaves alone; the first 16 of 64 are the 16. The more there "
        "are, the easier the rain is in comparison: unseen rain stays (eta falls), damage falls too (E_B). "
        f"64 to 512 are a good place to start (default: {_by_recipe('backgrounds.photograph_count', 'all')})",
    )
    backgrounds.add_argument(
        "--leaves-complexity",
        metavar="C",
        type=share,
        help="of the dead leaves, from 0 (large flat shapes) to 1 (small, textured, with lines as thin as "
        "rain): simpler leaves remove more rain and do more damage "
        f"(default: {_by_recipe('backgrounds.leaves.complexity')})",
    )


def _add_rain(rain: argparse._ActionsContainer) -> None:
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


def _add_course(course: argparse._ActionsContainer) -> None:
    for option, field, kind, text in (
        ("--steps", "course.steps", at_least(1), "batches to learn from"),
        (
            "--batch",
            "course.batch",
            at_least(1),
            "samples a step, of all processes together",
        ),
        (
            "--patch",
            "course.patch_px",
            _patch,
            f"side of a patch in pixels, a multiple of {_PATCH_MULTIPLE_PX} from {_SMALLEST_PATCH_PX}, and "
            "no more than an estimator sees",
        ),
        ("--learning-rate", "optimization.learning_rate", _rate, "after the warm-up and until the decay"),
        ("--seed", "seed", _seed, "decides weights, samples and which photographs"),
    ):
        course.add_argument(
            option,
            metavar=option.rsplit("-", 1)[-1].upper(),
            type=kind,
            help=f"{text} (default: {_by_recipe(field)})",
        )

    course.add_argument(
        "--derainers",
        metavar="N",
        type=at_least(1),
        help="networks that are trained side by side on the same samples; the result is their mean (default: "
        f"{', '.join(f'{name} {make().model.derainers}' for name, make in RECIPES.items())})",
    )


def _add_machines(machines: argparse._ActionsContainer) -> None:
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


def _add_places(places: argparse._ActionsContainer) -> None:
    places.add_argument(
        "--runs", type=Path, default=ROOT / "runs", help="of checkpoints and records: %(default)s"
    )
    places.add_argument(
        "--models", type=Path, default=ROOT / "models", help="of finished models: %(default)s"
    )


def _by_recipe(field: str, nothing: str = "") -> str:
    values = {name: attrgetter(field)(make()) for name, make in RECIPES.items()}
    if len(set(values.values())) == 1:
        values = {"": next(iter(values.values()))}
    return ", ".join(
        f"{name} {nothing if value is None else value}".strip() for name, value in values.items()
    )


def _patch(text: str) -> int:
    size_px = at_least(_SMALLEST_PATCH_PX)(text)
    if size_px % _PATCH_MULTIPLE_PX:
        raise argparse.ArgumentTypeError(f"{text!r} is no multiple of {_PATCH_MULTIPLE_PX}")
    return size_px


def _seed(text: str) -> int:
    seed = at_least(0)(text)
    if seed > _LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"{text!r} is above {_LARGEST_SEED}")
    return seed


def _override(recipe: Recipe, options: argparse.Namespace) -> Recipe:
    course = _given(recipe.course, options, "steps", "batch", "patch_px")
    course = replace(course, late_patch_px=max(course.late_patch_px, course.patch_px))
    _check_patch(recipe, course)
    optimization = _given(recipe.optimization, options, "learning_rate")
    model = _given(recipe.model, options, "derainers")
    recipe = replace(recipe, course=course, optimization=optimization, model=model)
    recipe = _given(recipe, options, "seed")
    if options.rain is not None:
        recipe = replace(recipe, rain=trainable(options.rain))
    return replace(recipe, backgrounds=_backgrounds(recipe, options))


def _check_patch(recipe: Recipe, course: Course) -> None:
    model = recipe.model
    if model.estimator is not None and course.late_patch_px > model.context_px:
        raise DerainError(
            f"--patch {course.patch_px} is more than the {model.context_px} px of a scene that the estimator "
            f"of {recipe.name} sees"
        )


def _given(section: Section, options: argparse.Namespace, *names: str) -> Section:
    """The section with those of the named options that were given."""
    given = {
        name: value for name in names if (value := getattr(options, name.removesuffix("_px"))) is not None
    }
    return replace(section, **given)


def _backgrounds(recipe: Recipe, options: argparse.Namespace) -> Backgrounds:
    backgrounds = recipe.backgrounds
    if options.backgrounds == "leaves":
        count = options.count or backgrounds.leaves_count or _LEAVES_COUNT
        backgrounds = replace(backgrounds, photographs=None, photograph_count=None, leaves_count=count)
    elif options.backgrounds is not None:
        folder = Path(options.backgrounds)
        backgrounds = replace(backgrounds, photographs=folder, photograph_count=options.count)
    elif options.count is not None:
        backgrounds = replace(backgrounds, photograph_count=options.count)
    if options.leaves_complexity is not None:
        if backgrounds.leaves_count == 0:
            raise BackgroundError(
                f"--leaves-complexity is of no use: the recipe {recipe.name} has leaves only with "
                "--backgrounds leaves"
            )
        leaves = replace(backgrounds.leaves, complexity=options.leaves_complexity)
        backgrounds = replace(backgrounds, leaves=leaves)
    return backgrounds
