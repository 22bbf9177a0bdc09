"""Fits the weights of derain/monitor.py, and measures how well its score tells failures.

    python -m training.slacking fit models/base -o derain/monitor.json
    python -m training.slacking report models/base --pairs rain100l rain/ clean/ --clean kodak24 kodak24/ \\
        --rain textures:streaks/ clean/ --other models/narrow -o docs/monitoring/

A failure is a picture that had rain worth removing, below 32 dB against the clean one, of which the network
removed less than half (η, see training/metrics.py). All else is a success, pictures without rain included.

A network that is good fails too seldom to fit anything to. So each picture is also judged as other networks
would have left it: one that does nothing, one that does three tenths of what the model does, one that is
perfect and one that takes seven tenths of the rain. Fitting needs nothing but the repository: its rain
families over its photographs.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import process_time

import cv2
import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from derain.arguments import at_least, check_output, run_command
from derain.arrays import Image, middle
from derain.files import write_atomically
from derain.images.plain import read_image
from derain.inference.engine import Engine
from derain.monitor import Features, monitor, probability, read_features
from training.backgrounds import list_pictures
from training.charts import GREY, write_figure
from training.evaluate import (
    PictureSet,
    RainedFile,
    add_clean_option,
    add_pairs_option,
    check_distinct,
    check_pairs_option,
    clean_set,
    paired_set,
)
from training.logistic import Values, logistic_regression
from training.measurement import Derain
from training.metrics import psnr, rain_mask, removal
from training.pairs import Pair, find_clean
from training.pictures import shrink
from training.rain.families import FAMILIES, family

WORTH_REMOVING_DB = 32.0  # the rainy picture against the clean one; less rain than this may stay
REMOVED_ENOUGH = 0.5  # η

PHOTOGRAPHS = Path(__file__).parent / "photographs" / "train"
FITTED_TO = (
    *("small", "medium", "large", "wide", "varied", "curtains", "veiled"),
    *("drizzle", "shower", "downpour", "squall"),
)
_SEED = 2_000_003  # no recipe's, and not that of the held-out sets
_RAINS_A_PHOTOGRAPH = 3
_SIDES_PX = (400, 900)  # pictures are shrunk to a longest side between, and cut
_CUT_PX = (400, 480)
_FOLDS = 5
_RIDGE = 1.0  # pulls weights of standardised signs to nothing: seven signs of a few hundred photographs


@dataclass(frozen=True)
class Judged:
    """One picture, one network, and whether it failed."""

    picture: str
    network: str
    signs: Features
    has_rain: bool
    failed: bool

    @property
    def score(self) -> float:
        return probability(self.signs)


@dataclass(frozen=True)
class Treated:
    """What a network made of a picture, and the network, for its second look."""

    network: str
    derained: Image
    derain: Derain


def failed(derained: Image, pair: Pair) -> bool:
    """Whether rain that was worth removing was left."""
    mask = rain_mask(pair.rainy, pair.clean)
    if not mask.any() or psnr(pair.rainy, pair.clean) >= WORTH_REMOVING_DB:
        return False
    return removal(derained, pair.rainy, pair.clean, mask) < REMOVED_ENOUGH


def treatments(pair: Pair, model: Derain) -> Iterator[Treated]:
    """What the model makes of a picture, and what networks would that are known to fail or not to."""
    derained = model(pair.rainy)
    yield Treated("the model", derained, model)
    yield Treated("idle", pair.rainy, _keep)
    if not np.array_equal(pair.rainy, pair.clean):
        yield Treated("weak", _blend(pair.rainy, derained, 0.3), partial(_weaken, model))
        # They find nothing in what they left, as a network that was sure of itself.
        yield Treated("perfect", pair.clean, _keep)
        yield Treated("most", _blend(pair.rainy, pair.clean, 0.7), _keep)


def judge(pair: Pair, treated: Iterable[Treated]) -> Iterator[Judged]:
    for each in treated:
        yield Judged(
            picture=pair.name,
            network=each.network,
            signs=read_features(pair.rainy, each.derained, each.derain)[0],
            has_rain=not np.array_equal(pair.rainy, pair.clean),
            failed=failed(each.derained, pair),
        )


def _keep(picture: Image) -> Image:
    return picture


def _weaken(model: Derain, picture: Image) -> Image:
    return _blend(picture, model(picture), 0.3)


def _blend(picture: Image, other: Image, share: float) -> Image:
    return np.asarray(cv2.addWeighted(picture, 1 - share, other, share, 0), dtype=np.uint8)


# Fitting


def fitting_pairs(folders: Sequence[Path]) -> Iterator[Pair]:
    """Each photograph dry and under rain of several families in turn."""
    paths = [path for folder in folders for path in list_pictures(folder)]
    for i, path in enumerate(tqdm(paths, unit="photograph", disable=None)):
        longest_px = int(np.random.default_rng([_SEED, i]).integers(*_SIDES_PX))
        clean = np.ascontiguousarray(middle(shrink(read_image(path), longest_px), *_CUT_PX))
        yield Pair(path.stem, clean, clean)
        for j in range(_RAINS_A_PHOTOGRAPH * i, _RAINS_A_PHOTOGRAPH * (i + 1)):
            rain = FAMILIES[FITTED_TO[j % len(FITTED_TO)]]
            yield Pair(path.stem, rain.add(clean, _SEED, j), clean)


def fit(judged: Sequence[Judged]) -> dict[str, float]:
    """The weight of each sign and the bias."""
    outcome = np.array([j.failed for j in judged], dtype=np.float64)
    slopes, bias = logistic_regression(_matrix(judged), outcome, _RIDGE)
    return {"bias": bias, **dict(zip(vars(judged[0].signs), slopes.tolist(), strict=True))}


def evidence(weights: dict[str, float], judged: Sequence[Judged]) -> Values:
    """What the probability is the logistic of."""
    slopes = np.array([weights[name] for name in vars(judged[0].signs)])
    return np.asarray(_matrix(judged) @ slopes + weights["bias"])


def cross_validated(judged: Sequence[Judged]) -> Values:
    """The evidence on each, by weights fitted without its photograph."""
    photographs = sorted({j.picture for j in judged})
    fold = {name: i % _FOLDS for i, name in enumerate(photographs)}
    found = np.empty(len(judged))
    for k in range(_FOLDS):
        weights = fit([j for j in judged if fold[j.picture] != k])
        held_out = [i for i, j in enumerate(judged) if fold[j.picture] == k]
        found[held_out] = evidence(weights, [judged[i] for i in held_out])
    return found


def _matrix(judged: Sequence[Judged]) -> Values:
    return np.array([list(vars(j.signs).values()) for j in judged], dtype=np.float64)


# Measuring


def auc(scores: Sequence[float] | Values, outcome: Sequence[bool]) -> float:
    """The chance that a failure scores above a success, ties counting half; NaN without either."""
    values, is_failure = np.asarray(scores, dtype=np.float64), np.asarray(outcome, dtype=bool)
    above, below = values[is_failure], np.sort(values[~is_failure])
    if not len(above) or not len(below):
        return float("nan")
    ranks = np.searchsorted(below, above, "left") + np.searchsorted(below, above, "right")
    return float(ranks.mean() / 2 / len(below))


def roc(scores: Sequence[float], outcome: Sequence[bool]) -> tuple[Values, Values]:
    """Shares of successes and of failures that score at or above each threshold, from the highest."""
    values, is_failure = np.asarray(scores), np.asarray(outcome, dtype=bool)
    thresholds = np.concatenate([[np.inf], np.unique(values)[::-1]])
    reached = values[:, None] >= thresholds
    return reached[~is_failure].mean(axis=0), reached[is_failure].mean(axis=0)


def measure_set(picture_set: PictureSet, networks: dict[str, Derain]) -> list[Judged]:
    """Each picture as the first network leaves it, idle, at three tenths; then as the others leave it.

    A set of clean pictures goes through every network as well: what they all should leave alone.
    """
    (_, model), *others = networks.items()
    judged: list[Judged] = []
    for case in tqdm(picture_set.cases, desc=picture_set.name, unit="picture", disable=None):
        pair = case.read()
        kept = [t for t in treatments(pair, model) if t.network in ("the model", "idle", "weak")]
        kept += [Treated(name, other(pair.rainy), other) for name, other in others]
        judged += judge(pair, kept)
    return judged


def table(results: dict[str, list[Judged]], threshold: float) -> str:
    """Markdown: a row for each set with rain and each network."""
    dry = [j for judged in results.values() for j in judged if not j.has_rain]
    lines = [
        "| set | network | pictures | failures | AUC in the set | AUC with the clean pictures | "
        f"median score | failures above {threshold:g} | successes above |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rainy = {name: judged for name, judged in results.items() if any(j.has_rain for j in judged)}
    pooled = {"all of them": [j for judged in rainy.values() for j in judged]}
    for name, judged in (rainy | pooled).items():
        for network in dict.fromkeys(j.network for j in judged):
            own = [j for j in judged if j.network == network]
            # Of clean pictures, those that this network left; of a blend, those of its model.
            like = network if any(j.network == network for j in dry) else "the model"
            clean = [j for j in dry if j.network == like]
            lines.append(
                f"| {name} | {network} | {len(own)} | {sum(j.failed for j in own)} | {_auc(own)} | "
                f"{_auc(own + clean)} | {np.median([j.score for j in own]):.2f} | "
                f"{_share(own, threshold, True)} | {_share(own, threshold, False)} |"
            )
    return "\n".join(lines)


def clean_table(results: dict[str, list[Judged]], thresholds: Sequence[float]) -> str:
    """Markdown: how often each threshold gives a false alarm on pictures without rain."""
    lines = [
        f"| clean set | network | pictures | median | {' | '.join(f'above {t:g}' for t in thresholds)} |",
        f"|---|---|---|---|{'---|' * len(thresholds)}",
    ]
    for name, judged in results.items():
        for network in dict.fromkeys(j.network for j in judged):
            own = [j for j in judged if j.network == network and not j.has_rain]
            if own:
                shares = " | ".join(_share(own, t, False) for t in thresholds)
                median = np.median([j.score for j in own])
                lines.append(f"| {name} | {network} | {len(own)} | {median:.2f} | {shares} |")
    return "\n".join(lines)


def draw_roc(path: Path, results: dict[str, list[Judged]]) -> None:
    """A panel for each network, a line for each set with rain against all pictures without, as SVG."""
    everything = [j for judged in results.values() for j in judged]
    networks = list(dict.fromkeys(j.network for j in everything))

    def paint(figure: Figure) -> None:
        for axes, network in zip(figure.subplots(1, len(networks), squeeze=False)[0], networks, strict=True):
            like = (
                network if any(j.network == network and not j.has_rain for j in everything) else "the model"
            )
            clean = [j for j in everything if j.network == like and not j.has_rain]
            axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1, marker="")
            for name, judged in results.items():
                own = [j for j in judged if j.network == network and j.has_rain]
                if any(j.failed for j in own):
                    both = own + clean
                    shares = roc([j.score for j in both], [j.failed for j in both])
                    axes.plot(*shares, label=f"{name}: {_auc(both)}", marker="", drawstyle="steps-post")
            axes.set(title=network, xlabel="successes above", xlim=(0, 1), ylim=(0, 1.01), aspect="equal")
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize="small", title="AUC")
        figure.axes[0].set_ylabel("failures above")

    write_figure(path, 3 * len(networks), 4.2, paint)


def cost(model: Derain) -> str:
    """What a look takes of the processor, beside the network: the best of five."""
    photograph = cv2.resize(read_image(list_pictures(PHOTOGRAPHS)[0]), (1280, 720)).astype(np.uint8)
    rainy = FAMILIES["varied"].add(photograph, _SEED, 0)
    derained = model(rainy)

    def least_ms(work: Callable[[], object]) -> float:
        times = []
        for _ in range(5):
            start = process_time()
            work()
            times.append(1e3 * (process_time() - start))
        return min(times)

    network_ms = least_ms(lambda: model(rainy))
    look_ms = least_ms(lambda: monitor(rainy, derained, model))
    height, width = rainy.shape[:2]
    share = look_ms / network_ms
    return (
        f"{width} x {height}: the look takes {look_ms:.0f} ms, {share:.1%} of the network's {network_ms:.0f}"
    )


def _auc(judged: Sequence[Judged]) -> str:
    value = auc([j.score for j in judged], [j.failed for j in judged])
    return "–" if np.isnan(value) else f"{value:.2f}"


def _share(judged: Sequence[Judged], threshold: float, of_failures: bool) -> str:
    own = [j.score >= threshold for j in judged if j.failed == of_failures]
    return f"{np.mean(own):.0%}" if own else "–"


# The command


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    run: Callable[[argparse.Namespace], int] = _fit if options.command == "fit" else _report
    return run_command(lambda: run(options))


def _fit(options: argparse.Namespace) -> int:
    check_output(options.output, (".json",))
    engine = Engine(options.model, threads=options.threads)
    folders = [PHOTOGRAPHS, *options.photographs]
    judged = [j for pair in fitting_pairs(folders) for j in judge(pair, treatments(pair, engine.derain))]
    found, outcome = cross_validated(judged), [j.failed for j in judged]
    by_network = {
        network: auc(found[own], [outcome[i] for i in own])
        for network in dict.fromkeys(j.network for j in judged)
        if len(own := [i for i, j in enumerate(judged) if j.network == network])
    }
    fitted = {
        "made_by": "python -m training.slacking fit",
        "model": {"name": engine.manifest.name, "sha256": engine.manifest.sha256},
        "rain": FITTED_TO,
        "judged": len(judged),
        "failures": sum(outcome),
        "auc_cross_validated": {
            name: round(value, 3)
            for name, value in {"all": auc(found, outcome), **by_network}.items()
            if not np.isnan(value)
        },
        "weights": {name: round(weight, 4) for name, weight in fit(judged).items()},
    }
    text = json.dumps(fitted, indent=2)
    write_atomically(options.output, f"{text}\n".encode())
    print(text)
    return 0


def _report(options: argparse.Namespace) -> int:
    engine = Engine(options.model, threads=options.threads)
    networks: dict[str, Derain] = {engine.manifest.name: engine.derain}
    for folder in options.other:
        other = Engine(folder, threads=options.threads)
        networks[other.manifest.name] = other.derain
    sets = [paired_set(named, "test") for named in options.pairs]
    for name, folder in options.rain:
        rain = family(name)
        cases = [RainedFile(rain, index, clean) for index, clean in enumerate(find_clean(Path(folder)))]
        sets.append(PictureSet(f"{rain.name.rpartition(':')[2]} on {Path(folder).name}", "test", cases))
    sets += [clean_set(named, "test") for named in options.clean]
    check_distinct(sets)
    results = {picture_set.name: measure_set(picture_set, networks) for picture_set in sets}
    print(table(results, options.threshold))
    print()
    print(clean_table(results, (0.5, options.threshold, 0.9)))
    print(f"\n{cost(engine.derain)}")
    if options.output is not None:
        draw_roc(options.output, results)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.slacking",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    fitting = commands.add_parser("fit", help="find the weights")
    fitting.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".json")
    fitting.add_argument(
        "--photographs",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="more clean pictures, beside those of the repository; may be repeated",
    )
    reporting = commands.add_parser("report", help="how well does the score tell failures?")
    add_pairs_option(reporting)
    add_clean_option(reporting)
    reporting.add_argument(
        "--rain",
        nargs=2,
        action="append",
        default=[],
        metavar=("FAMILY", "FOLDER"),
        help="rain made over clean pictures of yours, as in training.evaluate",
    )
    reporting.add_argument(
        "--other",
        type=Path,
        action="append",
        default=[],
        metavar="MODEL",
        help="one more network to judge, such as one that was trained on narrow rain; may be repeated",
    )
    reporting.add_argument("--threshold", type=float, default=0.7, metavar="P", help="(default: %(default)s)")
    reporting.add_argument("-o", "--output", type=Path, metavar="FILE", help="the ROC curves, .svg or .png")
    for command in (fitting, reporting):
        command.add_argument("model", type=Path, help="a model folder, such as models/base")
        command.add_argument("--threads", type=at_least(1), metavar="N", help="(default: all cores)")
    options = parser.parse_args(arguments)
    if options.command == "report":
        check_pairs_option(reporting, options)
        if not (options.pairs or options.rain or options.clean):
            reporting.error("name a set: --pairs, --rain or --clean")
    return options


if __name__ == "__main__":
    sys.exit(main())
