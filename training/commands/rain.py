"""Draws a contact sheet of rain: one row a family, as it falls on black and on photographs.

python -m training rain wide rainmix squall -o rain.jpg
python -m training rain textures:streaks/ --backgrounds photographs/
"""

import argparse
from pathlib import Path

from derain.arguments import at_least, check_output, run_command
from derain.files import write_atomically
from derain.images.formats import FORMAT_OF
from derain.images.plain import encode
from training.data.backgrounds import load_folder
from training.evaluation.contact_sheets import contact_sheet
from training.image_folder import list_images
from training.rain.families import FAMILIES, family
from training.repository import HELD_OUT_PHOTOGRAPHS


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    return run_command(lambda: _draw(options))


def _draw(options: argparse.Namespace) -> int:
    check_output(options.output, FORMAT_OF)
    families = [family(name) for name in options.families]
    count = min(options.columns, len(list_images(options.backgrounds)))
    backgrounds = load_folder(options.backgrounds, count, options.seed)
    sheet = contact_sheet(families, backgrounds, options.cell, options.seed)
    write_atomically(options.output, encode(sheet, FORMAT_OF[options.output.suffix.lower()]))
    print(f"{options.output}: {len(families)} families")
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training rain", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    names = ", ".join(FAMILIES)
    parser.add_argument(
        "families", nargs="+", help=f"{names}; textures:FOLDER or rainmix:FOLDER for rain layers of yours"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("rain.jpg"),
        help="its suffix decides the format; default: %(default)s",
    )
    parser.add_argument("--backgrounds", type=Path, default=HELD_OUT_PHOTOGRAPHS, help="default: %(default)s")
    parser.add_argument("--columns", type=at_least(1), default=4, help="images in a row (default: 4)")
    parser.add_argument("--cell", type=at_least(32), default=240, help="its side in px (default: 240)")
    parser.add_argument("--seed", type=at_least(0), default=0, help="default: 0")
    return parser.parse_args(arguments)
