"""What models gain in rain that they never saw, against what a megapixel costs; theirs beside ours.

    python -m training frontier -o docs/models/frontier.svg
    python -m training frontier -o docs/models/frontier-kmac.svg --cost kmac

Every model folder is drawn that was scored on one of the sets; the networks of other people are those of
docs/models/peers.csv. A panel a set of pairs: the gain in PSNR over the rainy images, so that samples of a
set compare. The last panel is what becomes of clean images: the mean, and of ours the median of those that
did not come back identical. docs/models.md says where the numbers
come from, and how far seconds of different machines compare.
"""

import argparse
from pathlib import Path

from derain.arguments import check_output, run_command
from training.experiments.frontier import COSTS, draw, read_models
from training.experiments.peers import PEERS, read_peers
from training.figures.style import FIGURE_SUFFIXES


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    return run_command(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    check_output(options.output, FIGURE_SUFFIXES)
    models = read_models(options.models)
    draw(options.output, models, read_peers(options.peers), options.cost)
    print(f"{options.output} shows {', '.join(model.name for model in models)} among other people's networks")
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training frontier",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "models",
        type=Path,
        nargs="?",
        default=Path("models"),
        metavar="MODELS_FOLDER",
        help="default: models",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".svg or .png")
    parser.add_argument(
        "--cost",
        choices=COSTS,
        default="ms",
        help="ms a megapixel as measured, or thousand multiply-adds a pixel, which are the same on every "
        "machine (default: %(default)s)",
    )
    parser.add_argument("--peers", type=Path, default=PEERS, metavar="CSV", help="other people's networks")
    return parser.parse_args(arguments)
