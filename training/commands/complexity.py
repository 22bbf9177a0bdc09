"""How complex backgrounds and rain are, in one unit, and which of the two a network finds simpler.

    python -m training complexity photographs/ --rain large --figure complexity.svg
    python -m training complexity leaves --leaves-complexity 0.5 --count 64 --rain wide

"Networks are Slacking Off" (Gu et al., NeurIPS 2023): a network learns the simpler of two things, what
backgrounds are or what the rain of its training is. Only the first takes rain away that it never saw. The
paper names two levers, few and simple backgrounds and a wide range of rain, but no way to weigh one
against the other. This is ours; it is a model of what a network has to hold, not a theorem.
"""

import argparse
from pathlib import Path

from tqdm import tqdm

from derain.arguments import at_least, check_output, run_command
from derain.arrays import Image
from training.arguments import share
from training.data import complexity
from training.data.backgrounds import load_folder
from training.data.complexity import rain_complexity, set_complexity
from training.data.complexity_report import draw, report
from training.data.dead_leaves import Leaves, draw_leaves
from training.figures.style import FIGURE_SUFFIXES
from training.image_folder import BackgroundError
from training.rain.families import TRAINABLE, family

_LEAVES = 64  # are drawn where no count is given


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    return run_command(lambda: _compare(options))


def _compare(options: argparse.Namespace) -> int:
    if options.figure is not None:
        check_output(options.figure, FIGURE_SUFFIXES)
    asked = family(options.rain)
    title, images = _backgrounds(options)
    names = [name for name in TRAINABLE if name != options.rain]
    families = {options.rain: asked, **{name: family(name) for name in names}}
    backgrounds = set_complexity(images, seed=options.seed)
    rains = {
        name: rain_complexity(rain, seed=options.seed)
        for name, rain in tqdm(families.items(), desc="rain", unit="range", leave=False)
    }
    print(report(title, backgrounds, len(images), options.rain, rains))
    if options.figure is not None:
        draw(options.figure, title, images, backgrounds, options.rain, rains[options.rain])
        print(f"\n{options.figure} shows the distributions")
    return 0


def _backgrounds(options: argparse.Namespace) -> tuple[str, list[Image]]:
    """What they are called, and the images themselves."""
    if options.backgrounds == "leaves":
        world = Leaves(1.0 if options.leaves_complexity is None else options.leaves_complexity)
        count = options.count or _LEAVES
        images = [draw_leaves(world, options.seed, index) for index in range(count)]
        return f"{count} leaves of complexity {world.complexity:g}", images
    if options.leaves_complexity is not None:
        raise BackgroundError(f"--leaves-complexity is for leaves, and {options.backgrounds} is a folder")
    images = load_folder(Path(options.backgrounds), options.count, options.seed)
    return f"{len(images)} of {Path(options.backgrounds).resolve().name}", images


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training complexity",
        description=f"{__doc__}\n{complexity.__doc__}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("backgrounds", metavar="FOLDER|leaves", help="clean images, or procedural ones")
    parser.add_argument(
        "--rain", default="large", help=f"default: %(default)s; {', '.join(TRAINABLE)}, textures:FOLDER ..."
    )
    parser.add_argument(
        "--count", type=at_least(1), help=f"how many backgrounds (default: all of a folder, {_LEAVES} leaves)"
    )
    parser.add_argument(
        "--seed", type=at_least(0), default=0, help="decides which, and where patches are cut"
    )
    parser.add_argument("--leaves-complexity", type=share, metavar="C", help="from 0 to 1 (default: 1)")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draws the distributions, .svg or .png")
    return parser.parse_args(arguments)
