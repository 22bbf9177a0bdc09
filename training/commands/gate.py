"""Whether a candidate may take the place of the current model: nothing may have got worse.

    python -m training gate models/candidate                      against what is served now
    python -m training gate models/candidate models/base --report gate.json
    python -m training gate models/candidate --pairs mine rainy/ clean/ --clean dry photographs/
    python -m training gate models/candidate --report gate.json --promote

Both models run through the engine that serves them, on one thread of the CPU, on the same images:
pieces of photographs that are held out of training, and procedural leaves, each as it is and under four
families of drawn rain that no model is trained on; besides, the sets that are named.

The rule: of each measure the difference is taken image by image, and the bad end of its 95 %
interval must be within the tolerance. So a candidate is refused where it is worse, and also where
the images are too few to tell. That is on purpose: what replaces a model that is known has to
show that it is no worse, and the doubt is not to its advantage. Few images make it strict; sets of
your own make it surer.

The interval is about images like these. Pieces of one photograph are more alike than photographs are,
so for the world at large it is somewhat too narrow. Where several rains lie over one scene, the scene
counts once.

The exit status is 0 where the candidate passes, 1 where it is refused, 2 where the comparison could not
be made: models that are not sound, sets that are not there, images that the candidate was trained on.
"""

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path

from derain.arguments import INTERRUPTED, check_output
from derain.errors import DerainError
from derain.files import write_atomically
from derain.models.registry import Registry
from derain.models.self_test import check_model
from training.arguments import (
    add_clean_option,
    add_pairs_option,
    check_pairs_option,
    first_repeated,
    not_negative,
)
from training.evaluation.gate.comparison import Tolerances, compare_folders, in_short, report, text_table
from training.evaluation.gate.promotion import check_place
from training.evaluation.gate.scenes import OWN_SET, SceneSet, check_unseen, held_out_scenes, scenes_of
from training.evaluation.pairs import PairingError, find_clean
from training.evaluation.sets import named_pairs
from training.rain.drawn import DRAWN

PASSED, REFUSED, NOT_RUN = 0, 1, 2


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
        check_place(registry, options.candidate, candidate, current)
    sets = _sets(options)
    check_unseen(options.candidate, candidate, sets)
    if options.report is not None:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        check_output(options.report)

    outcome = compare_folders(options.candidate, current_folder, sets, tolerances)
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
        check_place(registry, options.candidate, candidate, current)  # as it was when the work began
        name = options.candidate.resolve().name
        against = f"{current.name} {current.sha256[:12]}"
        reason = f"passed the gate against {against}: {in_short(outcome, OWN_SET)}; {options.report}"
        print(f"served from now on: {registry.promote(name, reason)}")
    return PASSED


def _sets(options: argparse.Namespace) -> list[SceneSet]:
    sets = [SceneSet(OWN_SET, list(held_out_scenes()), [drawn.name for drawn in DRAWN])]
    sets += [SceneSet(named[0], scenes_of(named_pairs(named))) for named in options.pairs]
    sets += [SceneSet(name, scenes_of(find_clean(Path(folder)))) for name, folder in options.clean]
    if twice := first_repeated(each.name for each in sets):
        raise PairingError(f"two sets are named {twice}")
    return sets


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training gate",
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
    parser.add_argument("--report", type=Path, metavar="FILE.json", help="all figures, image by image")
    parser.add_argument(
        "--promote", action="store_true", help="serve the candidate if it passes; needs --report, to cite it"
    )
    sets = parser.add_argument_group("images, besides the repository's own (each may be repeated)")
    add_pairs_option(sets)
    add_clean_option(sets)
    allowed = parser.add_argument_group("how much worse the candidate may be, at the bad end of the interval")
    for each in fields(Tolerances):
        allowed.add_argument(
            f"--{each.name.replace('_', '-')}",
            type=not_negative,
            default=each.default,
            metavar=each.metadata["unit"],
            help=f"{each.metadata['why']} (default: %(default)s)".replace("% ", "%% "),
        )
    options = parser.parse_args(arguments)
    check_pairs_option(parser, options)
    if options.promote and options.report is None:
        parser.error("--promote needs --report, which the history is to cite")
    return options
