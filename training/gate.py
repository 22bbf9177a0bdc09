"""Whether a candidate may take the place of the current model: nothing may have got worse.

    python -m training.gate models/candidate                      against what is served now
    python -m training.gate models/candidate models/base --report gate.json
    python -m training.gate models/candidate --pairs mine rainy/ clean/ --clean dry photographs/
    python -m training.gate models/candidate --report gate.json --promote

Both models run through the engine that serves them, on one thread of the CPU, on the same pictures:
pieces of photographs that are held out of training, and procedural leaves, each as it is and under four
families of drawn rain that no model is trained on; besides, the sets that are named.

The rule: of each measure the difference is taken picture by picture, and the bad end of its 95 %
interval must be within the tolerance. So a candidate is refused where it is worse, and also where
the pictures are too few to tell. That is on purpose: what replaces a model that is known has to
show that it is no worse, and the doubt is not to its advantage. Few pictures make it strict; sets of
your own make it surer.

The interval is about pictures like these. Pieces of one photograph are more alike than photographs are,
so for the world at large it is somewhat too narrow. Where several rains lie over one scene, the scene
counts once.

The exit status is 0 where the candidate passes, 1 where it is refused, 2 where the comparison could not
be made: models that are not sound, sets that are not there, pictures that the candidate was trained on.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from derain.arguments import INTERRUPTED, check_output
from derain.arrays import Image, middle
from derain.errors import DerainError
from derain.files import write_atomically
from derain.images.plain import read_image
from derain.inference.engine import Engine
from derain.inference.sessions import Provider
from derain.manifest import Manifest
from derain.models.registry import Registry
from derain.models.self_test import check_model
from training.backgrounds import HELD_OUT_PHOTOGRAPHS, Leaves, draw_leaves
from training.comparison import (
    Outcome,
    Scene,
    SceneSet,
    Tolerances,
    compare,
    in_short,
    report,
    text_table,
)
from training.evaluate import (
    HELD_OUT_SEED,
    add_clean_option,
    add_pairs_option,
    check_pairs_option,
    named_pairs,
    rained_on,
)
from training.measurement import Case
from training.pairs import Pair, PairFiles, PairingError, find_clean
from training.rain.drawn import DRAWN
from training.recipes import ROOT

PASSED, REFUSED, NOT_RUN = 0, 1, 2

OWN_SET = "drawn rain"
PIECE_PX = 200  # of held-out photographs: small, so that there are many
LEAVES = 10
GIVEN_PX = 480  # of sets that are named the middle is taken, this much a side at most


class GateError(DerainError):
    """Models that cannot be compared, or not on these pictures."""


def held_out_scenes() -> Iterator[Scene]:
    """The repository's own pictures, each under every family of drawn rain."""
    pieces = [
        (f"{path.stem} {number}", piece, path)
        for path in sorted(HELD_OUT_PHOTOGRAPHS.iterdir())
        for number, piece in enumerate(cut_pieces(read_image(path), PIECE_PX))
    ]
    leaves = [(f"leaves {i}", draw_leaves(Leaves(), HELD_OUT_SEED, i), None) for i in range(LEAVES)]
    for index, (name, clean, path) in enumerate([*pieces, *leaves]):
        piece = np.ascontiguousarray(middle(clean, PIECE_PX, PIECE_PX))
        yield Scene(name, [rained_on(drawn, index, (name, piece)) for drawn in DRAWN], path)


def cut_pieces(picture: Image, side_px: int) -> list[Image]:
    """As many as fit side by side, none upon another, evenly spread."""
    height, width = picture.shape[:2]
    rows, columns = max(1, height // side_px), max(1, width // side_px)
    return [
        middle(
            picture[r * height // rows :, c * width // columns :][: height // rows, : width // columns],
            side_px,
            side_px,
        )
        for r in range(rows)
        for c in range(columns)
    ]


@dataclass(frozen=True)
class Middle:
    """The middle of a case: large pictures take long, and say little more."""

    case: Case

    def read(self) -> Pair:
        pair = self.case.read()
        rainy, clean = (
            np.ascontiguousarray(middle(picture, GIVEN_PX, GIVEN_PX)) for picture in (pair.rainy, pair.clean)
        )
        return Pair(pair.name, rainy, clean)


def scenes_of(files: Iterable[PairFiles]) -> list[Scene]:
    """Rainy pictures of one clean one together."""
    by_clean: dict[Path, list[PairFiles]] = {}
    for pair in files:
        by_clean.setdefault(pair.clean, []).append(pair)
    return [Scene(clean.name, [Middle(pair) for pair in pairs], clean) for clean, pairs in by_clean.items()]


# The command


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    try:
        return _run(options)
    except (DerainError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return NOT_RUN
    except KeyboardInterrupt:
        print("\ninterrupted; nothing was promoted", file=sys.stderr)
        return INTERRUPTED


def _run(options: argparse.Namespace) -> int:
    # Whatever can be wrong with what was asked for is said before the work begins.
    tolerances = Tolerances(**{each.name: getattr(options, each.name) for each in fields(Tolerances)})
    registry = Registry(options.candidate.resolve().parent)
    current_folder = options.current or registry.folder(registry.current().model)
    candidate, current = check_model(options.candidate), check_model(current_folder)
    if options.promote:
        _check_place(registry, options.candidate, candidate, current)
    sets = _sets(options)
    _check_unseen(options.candidate, candidate, sets)
    if options.report is not None:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        check_output(options.report)

    outcome = _compare(options.candidate, current_folder, sets, tolerances)
    print(text_table(outcome))
    if options.report is not None:
        models = {"candidate": (options.candidate, candidate), "current": (current_folder, current)}
        text = json.dumps(report(outcome, models, tolerances), indent=2, allow_nan=False)
        write_atomically(options.report, text.encode() + b"\n")
    if outcome.refusals:
        print(f"\n{options.candidate} is refused:")
        print(*(f"- {refusal}" for refusal in outcome.refusals), sep="\n")
        return REFUSED
    print(f"\n{options.candidate} passes: nothing is worse than allowed, against {current_folder}")
    if options.promote:
        _check_place(registry, options.candidate, candidate, current)  # as it was when the work began
        against = f"{current.name} {current.sha256[:12]}"
        reason = f"passed the gate against {against}: {in_short(outcome, OWN_SET)}; {options.report}"
        choice = registry.promote(options.candidate.resolve().name, reason)
        print(f"served from now on: {choice}")
    return PASSED


def _compare(candidate: Path, current: Path, sets: Sequence[SceneSet], tolerances: Tolerances) -> Outcome:
    ours, theirs = (Engine(folder, Provider.CPU, threads=1) for folder in (candidate, current))
    try:
        return compare(ours, theirs, sets, tolerances)
    finally:
        ours.close()
        theirs.close()


def _check_place(registry: Registry, folder: Path, candidate: Manifest, current: Manifest) -> None:
    """Raises GateError where the candidate would replace another model than it was compared with."""
    registry.folder(folder.resolve().name)
    if not registry.pointer.exists():
        return
    served = registry.history()[-1]
    if served.sha256 == candidate.sha256:
        raise GateError(f"{folder} is served already")
    if served.sha256 != current.sha256:
        raise GateError(
            f"{served} is served, but the candidate is compared with {current.name} "
            f"{current.sha256[:12]}: it can only be promoted against what it replaces"
        )


def _sets(options: argparse.Namespace) -> list[SceneSet]:
    sets = [SceneSet(OWN_SET, list(held_out_scenes()), [drawn.name for drawn in DRAWN])]
    sets += [SceneSet(named[0], scenes_of(named_pairs(named))) for named in options.pairs]
    sets += [SceneSet(name, scenes_of(find_clean(Path(folder)))) for name, folder in options.clean]
    names = [each.name for each in sets]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise PairingError(f"two sets are named {twice}")
    return sets


def _check_unseen(folder: Path, candidate: Manifest, sets: Iterable[SceneSet]) -> None:
    """Raises GateError for pictures of the folder that the candidate was trained on."""
    if not (photographs := candidate.recipe.get("photographs")):
        return
    trained_on = (ROOT / photographs).resolve()
    for each in sets:
        for scene in each.scenes:
            if scene.file is not None and scene.file.resolve().is_relative_to(trained_on):
                raise GateError(
                    f"{folder} was trained on {trained_on}, where {scene.file} of {each.name} is: "
                    "what it has seen says nothing of what it has not"
                )


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.gate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("candidate", type=Path, help="a model folder")
    parser.add_argument(
        "current",
        type=Path,
        nargs="?",
        help="the model folder that it is to replace (default: what is served, by the registry of the "
        "folder that the candidate is in)",
    )
    parser.add_argument("--report", type=Path, metavar="FILE.json", help="all figures, picture by picture")
    parser.add_argument(
        "--promote", action="store_true", help="serve the candidate if it passes; needs --report, to cite it"
    )
    sets = parser.add_argument_group("pictures, besides the repository's own (each may be repeated)")
    add_pairs_option(sets)
    add_clean_option(sets)
    allowed = parser.add_argument_group("how much worse the candidate may be, at the bad end of the interval")
    for each in fields(Tolerances):
        allowed.add_argument(
            f"--{each.name.replace('_', '-')}",
            type=_not_negative,
            default=each.default,
            metavar=each.metadata["unit"],
            help=f"{each.metadata['why']} (default: %(default)s)".replace("% ", "%% "),
        )
    options = parser.parse_args(arguments)
    check_pairs_option(parser, options)
    if options.promote and options.report is None:
        parser.error("--promote needs --report, which the history is to cite")
    return options


def _not_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 0 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())
