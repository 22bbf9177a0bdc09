"""Scores deraining networks: model folders, through the engine that serves them, or any ONNX file.

    python -m training evaluate models/base --pairs rain100l Rain100L/ --html report/
    python -m training evaluate models/base models/fast theirs.onnx --pairs mine rainy/ clean/ --csv all.csv
    python -m training evaluate models/base --pairs road/day day/ --pairs road/night night/ --own --enlarge 3
    python -m training evaluate theirs.onnx --multiple 8 --pairs spa real_test_1000/ --real street photos/

Of several models all are scored on the same images, each against the first. Without a set: those that the
repository makes itself, drawn rain over images that no recipe trains on.

A set named KIND/NAME is of that kind of rain, any other of a kind of its own; the repository's own are of
one kind, drawn. The mean over kinds counts each kind once, however many sets and images it has. Some data
sets change the tone of the whole image together with the rain, which no network can know. Name those by
--tone-changed: their gain is counted after a gain and an offset a channel were fitted to the truth.

How a stranger's network is to be fed is read from its graph where the graph says it;
the rest has options, and a guess that cannot be right is an error that names the option.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from derain.arguments import at_least, check_output, run_command
from derain.errors import ModelError
from derain.files import write_atomically
from derain.inference.sessions import Provider
from training.arguments import add_clean_option, add_pairs_option, check_pairs_option, first_repeated, number
from training.evaluation.external_onnx import RANGES, Convention, ConventionError
from training.evaluation.held_out import HELD_OUT, OWN_KIND
from training.evaluation.networks import Network, check_network, open_network, score_network
from training.evaluation.pairs import LAYOUTS, find_clean
from training.evaluation.report.page import write_json, write_page
from training.evaluation.report.tables import csv_table, text_tables
from training.evaluation.sets import (
    MAX_TIMES,
    ImageSet,
    check_distinct,
    clean_set,
    enlarged_sets,
    files_of,
    note,
    paired_set,
    rained_set,
    saved_as_jpeg,
    with_changed_tone,
)
from training.export.card import check_unseen, record_scores
from training.image_folder import list_images
from training.rain.families import FAMILIES, family


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    return run_command(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    # Whatever can be wrong with what was asked for is said before the work begins.
    networks = _load(options)
    sets = _sets(options)
    if options.record:
        files = _recorded_files(sets, options)
        for model in options.models:
            check_unseen(model, [family(name) for name, _ in options.rain], files)
    _make_room(options)

    reports = [score_network(network, sets, model, len(networks) > 1) for model, network in networks.items()]
    print(text_tables(reports))
    if options.json is not None:
        write_json(options.json, reports)
    if options.csv is not None:
        write_atomically(options.csv, csv_table(reports).encode())
    if options.html is not None:
        derain = {model: network.derain for model, network in networks.items()}
        note(f"the page: {write_page(options.html, reports, derain)}")
    if options.record:
        for model, report in zip(options.models, reports, strict=True):
            record_scores(model, [result.evaluation for result in report.results])
    return 0


def _load(options: argparse.Namespace) -> dict[str, Network]:
    """The networks to score, and a line on stderr of how each stranger's is fed."""
    models: list[Path] = options.models
    if twice := first_repeated(models):
        raise ModelError(f"{twice} is named twice")
    convention = Convention(
        value_range=options.range,
        output_range=options.output_range,
        layout=options.layout,
        channels=options.channels,
        returns=options.returns,
        output=options.output,
        multiple_px=options.multiple,
    )
    for model in models:
        check_network(model, options.record)
    if convention != Convention() and all(model.is_dir() for model in models):
        raise ConventionError(
            f"{models[0]} has a manifest that says how it is fed: such options are for ONNX files"
        )
    provider = Provider(options.provider)
    return {str(model): open_network(model, convention, provider, options.threads) for model in models}


def _sets(options: argparse.Namespace) -> list[ImageSet]:
    """What is to be scored, found but not read yet; says on stderr what was found."""
    role = options.role
    sets = [paired_set(named, role) for named in options.pairs]
    sets += [rained_set(name, Path(folder), role) for name, folder in options.rain]
    sets += [clean_set(named, role) for named in options.clean]
    sets += [ImageSet(name, role, find_clean(Path(folder)), has_truth=False) for name, folder in options.real]
    if _asks_for_own(options):
        # Whoever works on this repository chooses models by these.
        sets += [ImageSet(name, "validation", pairs, kind=OWN_KIND) for name, pairs in HELD_OUT.sets()]
    sets = with_changed_tone(sets, options.tone_changed)
    sets = [each for found in sets for each in (found, *enlarged_sets(found, options.enlarge))]
    if options.jpeg is not None:
        sets = [saved_as_jpeg(image_set, options.jpeg) for image_set in sets]
    check_distinct(sets)
    return sets


def _asks_for_own(options: argparse.Namespace) -> bool:
    """By name, or as nothing else was named."""
    return options.own or not (options.pairs or options.rain or options.clean or options.real)


def _recorded_files(sets: Sequence[ImageSet], options: argparse.Namespace) -> list[Path]:
    """Of the images whose scores are to be recorded; those without truth have none."""
    own = list_images(HELD_OUT.photographs) if _asks_for_own(options) else []
    return own + [path for each in sets if each.has_truth for case in each.cases for path in files_of(case)]


def _make_room(options: argparse.Namespace) -> None:
    if options.html is not None:
        options.html.mkdir(parents=True, exist_ok=True)
    for file in (options.json, options.csv):
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            check_output(file)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training evaluate",
        description=__doc__,
        epilog=f"Pairs are told from the names:\n{LAYOUTS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "models",
        type=Path,
        nargs="+",
        metavar="MODEL",
        help="a model folder, such as models/base, or an ONNX file; others are compared with the first",
    )

    _add_sets(parser.add_argument_group("what to score it on (each may be repeated)"))
    _add_changes(parser.add_argument_group("what is done to it, and how it is counted"))
    _add_outputs(parser.add_argument_group("what comes out, besides the tables"))
    _add_convention(parser.add_argument_group("how an ONNX file is fed and read, if its graph does not say"))
    _add_machine(parser.add_argument_group("what it runs on"))
    options = parser.parse_args(arguments)
    check_pairs_option(parser, options)
    return options


def _add_sets(sets: argparse._ActionsContainer) -> None:
    add_pairs_option(sets)
    sets.add_argument(
        "--rain",
        nargs=2,
        action="append",
        default=[],
        metavar=("FAMILY", "FOLDER"),
        help=f"rain made over clean images of yours: {', '.join(FAMILIES)}",
    )
    add_clean_option(sets)
    sets.add_argument(
        "--real",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "FOLDER"),
        help="rainy photographs without ground truth: how much is taken away, and was it rain?",
    )
    sets.add_argument(
        "--own", action="store_true", help="the repository's own sets besides those that are named"
    )


def _add_changes(changes: argparse._ActionsContainer) -> None:
    changes.add_argument(
        "--enlarge",
        type=number(lambda times: 1 < times <= MAX_TIMES, f"a number above 1, up to {MAX_TIMES:g}"),
        nargs="+",
        default=[],
        metavar="F",
        help="score each set of pairs also with its sides F times as long: how much of the gain is kept?",
    )
    changes.add_argument(
        "--jpeg",
        type=_quality,
        metavar="QUALITY",
        help="save images, rainy and clean, as JPEG before the network sees them: does it still know rain?",
    )
    changes.add_argument(
        "--tone-changed",
        nargs="+",
        default=[],
        metavar="KIND",
        help="kinds of rain, or sets, whose tone was changed with the rain: count their gain tone-fitted",
    )


def _add_outputs(output: argparse._ActionsContainer) -> None:
    output.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="all scores, image by image; of several models a list, and their differences",
    )
    output.add_argument("--csv", type=Path, metavar="FILE", help="all scores, a line a set and model")
    output.add_argument(
        "--html",
        type=Path,
        metavar="FOLDER",
        help="a page with the worst and the best images; of several models side by side",
    )
    output.add_argument(
        "--record",
        action="store_true",
        help="write the scores of sets with ground truth into each model folder's manifest and card; "
        "not of rain or of images that it was trained on",
    )
    output.add_argument(
        "--role",
        choices=("validation", "test"),
        default="test",
        help="what the sets named are to this model: was anything chosen by them? (default: %(default)s; "
        "the repository's own sets are always validation)",
    )


def _add_convention(foreign: argparse._ActionsContainer) -> None:
    foreign.add_argument("--range", choices=RANGES, help="of its values; signed is -1 to 1 (default: 0..1)")
    foreign.add_argument("--output-range", choices=RANGES, help="of what it returns (default: the same)")
    foreign.add_argument("--layout", choices=("NCHW", "NHWC"), help="(default: by where the graph has a 3)")
    foreign.add_argument("--channels", choices=("RGB", "BGR"), default="RGB", help="(default: RGB)")
    foreign.add_argument(
        "--returns",
        choices=("clean", "rain"),
        help="the clean image or the rain on it (default: clean)",
    )
    foreign.add_argument("--output", metavar="NAME", help="which output, where several are images")
    foreign.add_argument(
        "--multiple",
        type=at_least(1),
        default=1,
        metavar="N",
        help="pad sides to a multiple of N by reflection, and crop what comes back (default: 1)",
    )


def _add_machine(machine: argparse._ActionsContainer) -> None:
    machine.add_argument(
        "--provider",
        choices=[provider.value for provider in Provider],
        default=Provider.AUTO.value,
        help="(default: %(default)s)",
    )
    machine.add_argument(
        "--threads",
        type=at_least(1),
        metavar="N",
        help="on the CPU (default: all cores); with 1, times of different networks compare",
    )


def _quality(text: str) -> int:
    quality = at_least(1)(text)
    if quality > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not from 1 to 100")
    return quality
