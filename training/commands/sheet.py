"""Contact sheets of rainy photographs: each as it is and as it comes back, side by side.

    python -m training sheet photographs/ -m models/base -o sheet.png
    python -m training sheet street/ garden/ --cell 720 --columns 1 -o sheet.jpg

For looking at real rain by eye. A folder's images are shown with those of its subfolders, under their
names; they are derained at their own size, and made small after that. What does not fit onto one sheet goes
onto the next: sheet-1.png, sheet-2.png and so on.
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from derain.arguments import at_least, check_output, run_command
from derain.files import write_atomically
from derain.images.formats import FORMAT_OF
from derain.images.plain import encode
from derain.inference.engine import Engine
from training.evaluation.contact_sheets import draw_pair, draw_sheet, find_photographs, sheet_path


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    return run_command(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    check_output(options.output, FORMAT_OF)
    photographs = find_photographs(options.folders)
    engine = Engine(options.model)
    size = options.columns * options.rows
    groups = [photographs[first : first + size] for first in range(0, len(photographs), size)]
    with tqdm(total=len(photographs), unit="image", disable=None) as progress:
        for number, group in enumerate(groups):
            pairs = []
            for photograph in group:
                pairs.append(draw_pair(photograph, engine.derain, options.cell))
                progress.update()
            path = sheet_path(options.output, number, len(groups))
            sheet = draw_sheet(pairs, options.columns)
            write_atomically(path, encode(sheet, FORMAT_OF[path.suffix.lower()]))
            progress.write(f"{path}: {group[0].label} to {group[-1].label}", file=sys.stdout)
    engine.close()
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training sheet", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument(
        "-m", "--model", type=Path, metavar="FOLDER", help="default: the one that was promoted"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("sheet.png"),
        metavar="FILE",
        help="its suffix decides the format; default: %(default)s",
    )
    parser.add_argument(
        "--cell", type=at_least(32), default=480, help="longest side of an image in px (default: 480)"
    )
    parser.add_argument("--columns", type=at_least(1), default=2, help="pairs in a row (default: 2)")
    parser.add_argument("--rows", type=at_least(1), default=5, help="of a sheet (default: 5)")
    return parser.parse_args(arguments)
