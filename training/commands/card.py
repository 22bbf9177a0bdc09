"""What a model folder says of itself: the manifest for programs, the model card for people.

    python -m training card models/base

draws the images of the card, and writes it anew. Remarks of one's own on what the model fails at go into
`remarks.md` in its folder: whatever writes the card takes them over.
"""

import argparse
from pathlib import Path

from derain.arguments import run_command
from derain.files import write_atomically
from derain.inference.engine import Engine
from training.export.card import CLEAN_IMAGE, RAIN_IMAGE, write_model_texts
from training.export.showcase import LARGEST_BYTES, clean_sheet, encode_below, rain_sheet


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training card", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", type=Path, help="a model folder, such as models/base")
    folder: Path = parser.parse_args(arguments).model
    return run_command(lambda: _run(folder))


def _run(folder: Path) -> int:
    engine = Engine(folder)
    for name, draw in ((CLEAN_IMAGE, clean_sheet), (RAIN_IMAGE, rain_sheet)):
        write_atomically(folder / name, encode_below(draw(engine.derain), LARGEST_BYTES))
    engine.close()
    write_model_texts(folder, engine.manifest)
    print(f"{folder / 'README.md'} is written, with {CLEAN_IMAGE} and {RAIN_IMAGE} beside it")
    return 0
