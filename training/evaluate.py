"""Scores deraining networks: model folders, through the engine that serves them, or any ONNX file.

    python -m training.evaluate models/base --pairs rain100l Rain100L/ --html report/
    python -m training.evaluate models/base models/fast theirs.onnx --pairs mine rainy/ clean/ --csv all.csv
    python -m training.evaluate models/base --pairs road/day day/ --pairs road/night night/ --own --enlarge 3
    python -m training.evaluate theirs.onnx --multiple 8 --pairs spa real_test_1000/ --real street photos/

Of several models all are scored on the same images, each against the first. Without a set: those that the
repository makes itself, drawn rain over pictures that no recipe trains on.

A set named KIND/NAME is of that kind of rain, any other of a kind of its own; the repository's own are of
one kind, drawn. The mean over kinds counts each kind once, however many sets and images it has. Some data
sets change the tone of the whole image together with the rain, which no network can know. Name those by
--tone-changed: their gain is counted after a gain and an offset a channel were fitted to the truth.

How a stranger's network is to be fed is read from its graph where the graph says it;
the rest has options, and a guess that cannot be right is an error that names the option.
"""

import argparse
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from tqdm import tqdm

from derain.arguments import at_least, check_output, run_command
from derain.arrays import Image
from derain.errors import ModelError
from derain.files import write_atomically
from derain.images.plain import read_image
from derain.inference.engine import Engine
from derain.inference.sessions import Provider
from derain.manifest import MANIFEST_NAME, Evaluation, load_manifest
from training.backgrounds import HELD_OUT_PHOTOGRAPHS, Leaves, draw_leaves
from training.camera import through_jpeg
from training.card import write_model_texts
from training.foreign_network import RANGES, Convention, ConventionError, ForeignNetwork
from training.kinds import kind_of
from training.measurement import (
    Case,
    Derain,
    RealResult,
    Report,
    Result,
    Role,
    measure,
    measure_real,
    ms_per_megapixel,
    summarise,
)
from training.pairs import (
    LAYOUTS,
    Pair,
    PairFiles,
    PairingError,
    find_clean,
    find_pairs,
    pair_folders,
    read_size,
)
from training.pictures import shrink
from training.rain.drawn import DRAWN
from training.rain.families import FAMILIES, Family, family, is_of_another_make
from training.report import write_json, write_page
from training.score_tables import csv_table, text_tables

HELD_OUT_SEED = 1_000_003  # no recipe's
OWN_KIND = "drawn"  # of the four families of drawn rain together

MAX_TIMES = 16.0  # that a side is enlarged
MAX_ENLARGED_PIXELS = 64_000_000  # scoring takes some 300 bytes for each

# A network that keeps clean pictures worse than any that is known, or does nothing to rain either.
_LOWEST_PLAUSIBLE_PSNR = 22.0
_IDLE_PSNR = 45.0
_IDLE_REMOVAL = 0.02


class Network(Protocol):
    """What can be scored."""

    @property
    def provider(self) -> Provider: ...

    @property
    def threads(self) -> int: ...

    def derain(self, picture: Image) -> Image: ...


@dataclass(frozen=True)
class PictureSet:
    """Pictures under one name; without truth, only their rainy side is known."""

    name: str
    role: Role
    cases: Sequence[Case]
    has_truth: bool = True
    kind: str | None = None  # of rain; None: it does not count in the mean over kinds
    tone_changed: bool = False  # with the rain: its gain is counted tone-fitted
    enlarged_from: str | None = None  # the name of the set that this one is, enlarged


@dataclass(frozen=True)
class RainedFile:
    """Rain over a clean picture of one's own."""

    family: Family
    index: int
    clean: PairFiles

    def read(self) -> Pair:
        dry = self.clean.read()
        return rained_on(self.family, self.index, (dry.name, dry.clean))


@dataclass(frozen=True)
class SavedAsJpeg:
    """What a camera or a web page makes of the picture before the network sees it."""

    case: Case
    quality: int

    def read(self) -> Pair:
        pair = self.case.read()
        saved = replace(pair, rainy=through_jpeg(pair.rainy, self.quality))
        # A picture without rain should come back as it was saved, not as it was before.
        return replace(saved, clean=saved.rainy) if np.array_equal(pair.rainy, pair.clean) else saved


@dataclass(frozen=True)
class Enlarged:
    """As a camera of more pixels would have taken it: both sides enlarged alike."""

    case: Case
    times: float  # each side

    def read(self) -> Pair:
        pair = self.case.read()
        rainy, clean = (_enlarge(image, self.times) for image in (pair.rainy, pair.clean))
        return Pair(pair.name, rainy, clean)


def _enlarge(image: Image, times: float) -> Image:
    height, width = (round(side * times) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def evaluate(
    derain: Derain, name: str, role: Role, cases: Iterable[Case], kind: str | None = None
) -> Evaluation:
    """Scores of a set; each clean picture also goes through on its own."""
    return summarise(name, role, measure(derain, cases), kind)


def held_out_sets(longest_px: int = 480) -> Iterator[tuple[str, list[Pair]]]:
    """The repository's own validation sets: rain families and pictures never trained on."""
    backgrounds = held_out_backgrounds(longest_px)
    for drawn in DRAWN:
        yield f"drawn {drawn.name}", [rained_on(drawn, *item) for item in enumerate(backgrounds.items())]


def held_out_backgrounds(longest_px: int = 480) -> dict[str, Image]:
    photographs = {path.stem: read_image(path) for path in sorted(HELD_OUT_PHOTOGRAPHS.iterdir())}
    leaves = {f"leaves-{i}": draw_leaves(Leaves(), HELD_OUT_SEED, i) for i in range(2)}
    return {name: shrink(picture, longest_px) for name, picture in (photographs | leaves).items()}


def rained_on(family: Family, index: int, named: tuple[str, Image]) -> Pair:
    name, clean = named
    return Pair(name, family.add(clean, HELD_OUT_SEED, index), clean)


def paired_set(named: Sequence[str], role: Role) -> PictureSet:
    """What --pairs names, found but not read yet; says on stderr what was found."""
    return PictureSet(named[0], role, named_pairs(named), kind=kind_of(named[0]))


def named_pairs(named: Sequence[str]) -> list[PairFiles]:
    """The pairs that --pairs names; says on stderr what was found."""
    name, *folders = named
    pairing = find_pairs(Path(folders[0])) if len(folders) == 1 else pair_folders(*map(Path, folders))
    count = len(pairing.files)
    _note(f"{name}: {count} pair{'s' * (count > 1)}, matched by {pairing.rule}")
    return pairing.files


def clean_set(named: Sequence[str], role: Role) -> PictureSet:
    """What --clean names, found but not read yet."""
    name, folder = named
    return PictureSet(name, role, find_clean(Path(folder)))


def check_distinct(sets: Iterable[PictureSet]) -> None:
    names = [picture_set.name for picture_set in sets]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise PairingError(f"two sets are named {twice}")


def add_pairs_option(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--pairs",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "FOLDER"),
        help="one folder with rainy and clean pictures in it or below it, or two, first the rainy one; "
        "NAME may be KIND/NAME",
    )


def add_clean_option(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--clean",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "FOLDER"),
        help="pictures that have no rain: do they come back as they were?",
    )


def check_pairs_option(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Exits as argparse does where --pairs has too few folders, or too many."""
    for named in options.pairs:
        if len(named) not in (2, 3):
            parser.error(f"--pairs takes a name and one or two folders, not {' '.join(named)!r}")
        if not all(named[0].split("/", 1)):
            parser.error(f"--pairs takes a NAME or KIND/NAME, neither of them empty, not {named[0]!r}")


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    return run_command(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    # Whatever can be wrong with what was asked for is said before the work begins.
    networks = _load(options)
    sets = _sets(options)
    if options.record:
        for model in options.models:
            _check_unseen(model, [family(name) for name, _ in options.rain])
    _make_room(options)

    reports = [_score(network, sets, model, len(networks) > 1) for model, network in networks.items()]
    print(text_tables(reports))
    if options.json is not None:
        write_json(options.json, reports)
    if options.csv is not None:
        write_atomically(options.csv, csv_table(reports).encode())
    if options.html is not None:
        derain = {model: network.derain for model, network in networks.items()}
        _note(f"the page: {write_page(options.html, reports, derain)}")
    if options.record:
        for model, report in zip(options.models, reports, strict=True):
            _record(model, [result.evaluation for result in report.results])
    return 0


def _load(options: argparse.Namespace) -> dict[str, Network]:
    """The networks to score, and a line on stderr of how each stranger's is fed."""
    models: list[Path] = options.models
    if twice := next((model for model in models if models.count(model) > 1), None):
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
        _check_model(model, options.record)
    if convention != Convention() and all(model.is_dir() for model in models):
        raise ConventionError(
            f"{models[0]} has a manifest that says how it is fed: such options are for ONNX files"
        )
    provider = Provider(options.provider)
    return {str(model): _open(model, convention, provider, options.threads) for model in models}


def _check_model(model: Path, is_recorded: bool) -> None:
    """Raises ModelError for what is neither a model folder nor an ONNX file."""
    if model.is_dir():
        if not (model / MANIFEST_NAME).exists() and (found := sorted(model.glob("*.onnx"))):
            raise ModelError(
                f"{model} is no model folder, without a {MANIFEST_NAME}; name the network: {found[0]}"
            )
        return
    if not model.exists():
        raise ModelError(f"{model} does not exist: name a model folder or an ONNX file")
    if is_recorded:
        raise ModelError(f"{model} has no manifest to --record in; --json keeps its scores")


def _open(model: Path, convention: Convention, provider: Provider, threads: int | None) -> Network:
    if model.is_dir():
        return Engine(model, provider, threads)
    network = ForeignNetwork(model, convention, provider, threads)
    _note(str(network))
    return network


def _sets(options: argparse.Namespace) -> list[PictureSet]:
    """What is to be scored, found but not read yet; says on stderr what was found."""
    role = options.role
    sets = [paired_set(named, role) for named in options.pairs]
    sets += [_rained_set(name, Path(folder), role) for name, folder in options.rain]
    sets += [clean_set(named, role) for named in options.clean]
    sets += [
        PictureSet(name, role, find_clean(Path(folder)), has_truth=False) for name, folder in options.real
    ]
    if options.own or not sets:
        # Whoever works on this repository chooses models by these.
        sets += [PictureSet(name, "validation", pairs, kind=OWN_KIND) for name, pairs in held_out_sets()]
    sets = _with_changed_tone(sets, options.tone_changed)
    sets = [each for found in sets for each in (found, *_enlarged_sets(found, options.enlarge))]
    if options.jpeg is not None:
        sets = [_saved_as_jpeg(picture_set, options.jpeg) for picture_set in sets]
    check_distinct(sets)
    return sets


def _rained_set(name: str, folder: Path, role: Role) -> PictureSet:
    rain = family(name)
    cases = [RainedFile(rain, index, clean) for index, clean in enumerate(find_clean(folder))]
    return PictureSet(f"{name} on {folder.name}", role, cases, kind=OWN_KIND if rain in DRAWN else rain.name)


def _with_changed_tone(sets: Sequence[PictureSet], names: Sequence[str]) -> list[PictureSet]:
    """Raises PairingError for a name that is neither a kind's nor a set's."""
    kinds = dict.fromkeys(each.kind for each in sets if each.kind is not None)
    known = {*kinds, *(each.name for each in sets if each.kind is not None)}
    if unknown := next((name for name in names if name not in known), None):
        raise PairingError(f"--tone-changed names {unknown!r}; kinds of rain are {', '.join(kinds)}")
    return [replace(each, tone_changed=each.kind in names or each.name in names) for each in sets]


def _enlarged_sets(found: PictureSet, factors: Sequence[float]) -> list[PictureSet]:
    """Of a set that has rain and truth; raises PairingError where images would be too large."""
    if found.kind is None:
        return []
    for case in found.cases if factors else ():
        _check_enlarged(case, max(factors))
    return [
        replace(
            found,
            name=f"{found.name} ×{times:g}",
            cases=[Enlarged(case, times) for case in found.cases],
            kind=None,
            enlarged_from=found.name,
        )
        for times in factors
    ]


def _check_enlarged(case: Case, times: float) -> None:
    """Before any network runs; the repository's own images, which are read already, are small."""
    files = case.clean if isinstance(case, RainedFile) else case
    if isinstance(files, PairFiles):
        width, height = read_size(files.rainy)
        if (pixels := width * height * times**2) > MAX_ENLARGED_PIXELS:
            raise PairingError(
                f"{files.rainy} enlarged {times:g} times has {pixels / 1e6:,.0f} megapixels; "
                f"at most {MAX_ENLARGED_PIXELS / 1e6:g} are scored"
            )


def _saved_as_jpeg(picture_set: PictureSet, quality: int) -> PictureSet:
    cases = [SavedAsJpeg(case, quality) for case in picture_set.cases]
    origin = picture_set.enlarged_from
    return replace(
        picture_set,
        name=_jpeg_name(picture_set.name, quality),
        cases=cases,
        enlarged_from=None if origin is None else _jpeg_name(origin, quality),
    )


def _jpeg_name(name: str, quality: int) -> str:
    return f"{name} as JPEG {quality}"


def _check_unseen(model: Path, rains: Sequence[Family]) -> None:
    """Raises ModelError for rain of the make that models are trained on: of such the card has no scores."""
    recipe = load_manifest(model).recipe
    for rain in rains:
        if rain.name == recipe["rain"]["name"] or not is_of_another_make(rain):
            raise ModelError(
                f"{rain.name} is rain to train on, and the card of {model} is for rain that it never saw; "
                "without --record it can be scored on it, and --json keeps the scores"
            )


def _make_room(options: argparse.Namespace) -> None:
    if options.html is not None:
        options.html.mkdir(parents=True, exist_ok=True)
    for file in (options.json, options.csv):
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            check_output(file)


def _score(network: Network, sets: Sequence[PictureSet], model: str, is_one_of_several: bool) -> Report:
    network.derain(sets[0].cases[0].read().rainy)  # the first run is slower than all that follow
    measured_on = f"{network.provider}, {network.threads} thread{'s' * (network.threads > 1)}"
    results: list[Result] = []
    real: list[RealResult] = []
    for each in sets:
        title = f"{model}: {each.name}" if is_one_of_several else each.name
        progress = tqdm(each.cases, desc=title, unit="picture", disable=None)
        if each.has_truth:
            measured = measure(network.derain, progress)
            scores = summarise(each.name, each.role, measured, each.kind, each.tone_changed)
            known = {
                "ms_per_megapixel": ms_per_megapixel(measured),
                "measured_on": measured_on,
                "gain_kept": _gain_kept(scores, each.enlarged_from, results),
            }
            results.append(Result(each.cases, measured, scores.model_copy(update=known)))
        else:
            real.append(RealResult(each.name, each.cases, measure_real(network.derain, progress)))
    described = "through the engine that serves it"
    if isinstance(network, ForeignNetwork):
        described = str(network)
        _doubt([result.evaluation for result in results])
    return Report(model, described, measured_on, results, real)


def _gain_kept(enlarged: Evaluation, origin: str | None, results: Sequence[Result]) -> float | None:
    """None where nothing was enlarged, or nothing is gained as it is."""
    before = next((each.evaluation.counted_gain for each in results if each.evaluation.name == origin), None)
    if before is None or enlarged.counted_gain is None or before.mean <= 0:
        return None
    return enlarged.counted_gain.mean / before.mean


def _doubt(evaluations: Sequence[Evaluation]) -> None:
    """Says so on stderr when a network behaves as if it were fed otherwise than it was made to be."""
    for scores in evaluations:
        assert scores.clean is not None
        back = scores.clean.median_changed  # None: all came back identical
        if back is not None and back < _LOWEST_PLAUSIBLE_PSNR:
            does = f"spoils clean pictures ({back:.1f} dB back)"
        elif (back is None or back > _IDLE_PSNR) and abs(scores.removal or 0) < _IDLE_REMOVAL:
            does = "changes next to nothing"
        else:
            continue
        _note(
            f"{scores.name}: it {does}. Is it fed as its maker fed it? "
            "See --range, --output-range, --channels and --returns"
        )


def _record(folder: Path, evaluations: list[Evaluation]) -> None:
    manifest = load_manifest(folder)
    kept = [e for e in manifest.evaluations if e.name not in {new.name for new in evaluations}]
    write_model_texts(folder, manifest.model_copy(update={"evaluations": [*kept, *evaluations]}))


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
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
        help=f"rain made over clean pictures of yours: {', '.join(FAMILIES)}",
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
        type=_times,
        nargs="+",
        default=[],
        metavar="F",
        help="score each set of pairs also with its sides F times as long: how much of the gain is kept?",
    )
    changes.add_argument(
        "--jpeg",
        type=_quality,
        metavar="QUALITY",
        help="save all pictures as JPEG before the network sees them: does it still know rain?",
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
        help="all scores, picture by picture; of several models a list, and their differences",
    )
    output.add_argument("--csv", type=Path, metavar="FILE", help="all scores, a line a set and model")
    output.add_argument(
        "--html",
        type=Path,
        metavar="FOLDER",
        help="a page with the worst and the best pictures; of several models side by side",
    )
    output.add_argument(
        "--record",
        action="store_true",
        help="write the scores of sets with ground truth into each model folder's manifest and card; "
        "not of rain that it was trained on",
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
        help="the clean picture or the rain on it (default: clean)",
    )
    foreign.add_argument("--output", metavar="NAME", help="which output, where several are pictures")
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


def _times(text: str) -> float:
    try:
        times = float(text)
    except ValueError:
        times = math.nan
    if not 1 < times <= MAX_TIMES:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 1, up to {MAX_TIMES:g}")
    return times


def _quality(text: str) -> int:
    quality = at_least(1)(text)
    if quality > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not from 1 to 100")
    return quality


def _note(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
