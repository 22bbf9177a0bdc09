"""What models gain in rain that they never saw, against what a megapixel costs; theirs beside ours.

    python -m training.frontier -o docs/models/frontier.svg
    python -m training.frontier -o docs/models/frontier-kmac.svg --cost kmac

Every model folder is drawn that was scored on one of the sets; the networks of other people are those of
docs/models/peers.csv. A panel a set of pairs: the gain in PSNR over the rainy pictures, so that samples of a
set compare. The last panel is what becomes of clean pictures: the mean, and of ours the median of those that
did not come back identical. docs/models/README.md says where the numbers
come from, and how far seconds of different machines compare.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from derain.arguments import check_output, run_command
from derain.errors import DerainError
from derain.manifest import MANIFEST_NAME, Evaluation, Manifest, load_manifest
from training.charts import BLUE, FIGURE_SUFFIXES, GREY, VERMILION, write_figure
from training.peers import CLEAN_SET, PAIR_SETS, PEERS, SETS, Exposure, Peer, Peers, read_peers

Cost = Literal["ms", "kmac"]
COSTS: tuple[Cost, ...] = ("ms", "kmac")
Kind = Literal["ours", "all", "part"]  # theirs: by the share of the pictures that they were scored on

ONE_THREAD = "cpu, 1 thread"  # as an evaluation's `measured_on` has it; peers were timed so as well
MACHINES_DIFFER = 2.0  # by such a factor, and theirs were timed on another one

_SAME_PICTURES_DB = 0.02  # the table has two decimals
_LABELS: dict[Cost, str] = {
    "ms": "ms a megapixel, on one CPU thread (other people's networks on another machine: "
    "bars are a factor of two either way)",
    "kmac": "thousand multiply-adds a pixel",
}
_MARKERS: dict[Kind, tuple[str, str]] = {
    "ours": ("o", BLUE),
    "all": ("s", VERMILION),
    "part": ("D", VERMILION),
}
_FILLS: dict[Exposure, Literal["full", "left", "none"]] = {"unseen": "full", "akin": "left", "seen": "none"}


class FrontierError(DerainError):
    """Models that cannot be drawn side by side."""


@dataclass(frozen=True)
class Point:
    """One network on one set."""

    label: str
    kind: Kind
    exposure: Exposure
    cost: float
    score: float  # dB


def read_models(folder: Path) -> list[Manifest]:
    """Of the model folders in it, in order of cost, those that were scored on a set of the figure."""
    if not folder.is_dir():
        raise FrontierError(f"{folder} is not a folder")
    found = sorted(path.parent for path in folder.glob(f"*/{MANIFEST_NAME}") if path.parent.name[0] != ".")
    models = [manifest for manifest in map(load_manifest, found) if _scored(manifest)]
    if not models:
        raise FrontierError(
            f"no model in {folder} was scored on {', '.join(SETS)}: "
            f"python -m training.evaluate MODEL --record --threads 1 --pairs {SETS[0]} FOLDER"
        )
    return sorted(models, key=lambda model: model.kmac_per_pixel)


def _scored(model: Manifest) -> dict[str, Evaluation]:
    """By set, what the figure shows of it."""
    return {evaluation.name: evaluation for evaluation in model.evaluations if evaluation.name in SETS}


def model_cost(model: Manifest, cost: Cost) -> float:
    if cost == "kmac":
        return model.kmac_per_pixel
    speeds = [
        evaluation.ms_per_megapixel
        for evaluation in model.evaluations
        if evaluation.ms_per_megapixel is not None and evaluation.measured_on == ONE_THREAD
    ]
    if not speeds:
        raise FrontierError(
            f"the manifest of {model.name} has no speed that was measured on {ONE_THREAD}: record one with "
            "python -m training.evaluate MODEL --record --provider cpu --threads 1, or draw --cost kmac"
        )
    return median(speeds)


def collect(models: Sequence[Manifest], peers: Peers, cost: Cost) -> dict[str, list[Point]]:
    """The points of each set. Raises FrontierError where models and peers did not have the same pictures."""
    points: dict[str, list[Point]] = {name: [] for name in SETS}
    for model in models:
        at = model_cost(model, cost)
        for name, evaluation in _scored(model).items():
            if (score := _score(model, evaluation, peers)) is not None:
                points[name].append(Point(_label(model, evaluation), "ours", "unseen", at, score))
    for peer in peers.networks:
        if peer.sample is not None:
            at = peer.kmac_per_pixel if cost == "kmac" else peer.ms_per_megapixel
            for name in peer.scores:
                points[name].append(_peer_point(peer, peers, name, at))
    return points


def _score(model: Manifest, evaluation: Evaluation, peers: Peers) -> float | None:
    if evaluation.name == CLEAN_SET:
        return None if evaluation.clean is None else evaluation.clean.median_changed
    if evaluation.psnr is None or evaluation.input_psnr is None:
        return None
    theirs = peers.inputs.get("all", {}).get(evaluation.name, evaluation.input_psnr)
    if abs(theirs - evaluation.input_psnr) > _SAME_PICTURES_DB:
        raise FrontierError(
            f"{model.name} and the peers were scored on different pictures as {evaluation.name}: "
            f"rainy, these have {evaluation.input_psnr:.2f} and {theirs:.2f} dB"
        )
    return evaluation.psnr - evaluation.input_psnr


def _label(model: Manifest, evaluation: Evaluation) -> str:
    """Clean images that came back identical have no PSNR to be drawn: they are counted."""
    if evaluation.name != CLEAN_SET or evaluation.clean is None or not evaluation.clean.identical:
        return model.name
    return f"{model.name} (besides {evaluation.clean.identical} of {evaluation.clean.images} identical)"


def _peer_point(peer: Peer, peers: Peers, name: str, at: float) -> Point:
    assert peer.sample is not None
    score = peer.scores[name]
    if name == CLEAN_SET:
        exposure: Exposure = "unseen"
    else:
        score, exposure = score - peers.inputs[peer.sample][name], peer.exposure[name]
    return Point(f"≈ {peer.label}" if peer.sample == "part" else peer.label, peer.sample, exposure, at, score)


# What is drawn


def draw(path: Path, models: Sequence[Manifest], peers: Peers, cost: Cost) -> None:
    """SVG or PNG."""
    points = collect(models, peers, cost)
    chosen_by = {e.name for model in models for e in _scored(model).values() if e.role == "validation"}

    def paint(figure: Figure) -> None:
        grid = figure.subplots(2, 2, sharex=True).ravel()
        for axes, (name, own) in zip(grid, points.items(), strict=True):
            remark = " (our choices were guided by it)" if name in chosen_by else ""
            if name in PAIR_SETS:
                axes.axhline(0, color=GREY, linestyle=":", linewidth=1)  # first, so that there is room for it
                axes.set(title=f"{name}{remark}", ylabel="dB gained over the rainy pictures")
            else:
                axes.set(title=f"{name}: clean pictures{remark}", ylabel="dB, PSNR as they come back")
            _panel(axes, own, cost)
        costs = [point.cost for own in points.values() for point in own]
        grid[0].set_xscale("log")
        grid[0].set_xlim(min(costs) / 3, max(costs) * 4)
        for axes in grid:
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axes.xaxis.set_minor_locator(NullLocator())
        figure.supxlabel(_LABELS[cost], fontsize="medium")
        figure.legend(handles=_key(), loc="outside upper center", ncols=2)

    write_figure(path, 10, 7.4, paint)


def _panel(axes: Axes, points: Sequence[Point], cost: Cost) -> None:
    axes.margins(y=0.18)
    for point in points:
        marker, colour = _MARKERS[point.kind]
        if cost == "ms" and point.kind != "ours":
            ends = (point.cost / MACHINES_DIFFER, point.cost * MACHINES_DIFFER)
            axes.plot(
                ends, (point.score,) * 2, color=colour, alpha=0.4, linewidth=1, linestyle="-", marker=""
            )
        axes.plot(
            [point.cost],
            [point.score],
            marker=marker,
            color=colour,
            fillstyle=_FILLS[point.exposure],
            markersize=7,
            linestyle="",
        )
    lowest, highest = axes.get_ylim()
    near = 0.12 * (highest - lowest)
    for point in points:
        # Above the marker, unless that is where a neighbour is.
        is_below = any(
            point.score < other.score < point.score + near and 1 / 4 < other.cost / point.cost < 4
            for other in points
        )
        axes.annotate(
            point.label,
            (point.cost, point.score),
            xytext=(0, -6 if is_below else 6),
            textcoords="offset points",
            horizontalalignment="center",
            verticalalignment="top" if is_below else "bottom",
            fontsize="small",
            color=_MARKERS[point.kind][1],
        )


def _key() -> list[Line2D]:
    """Shape and colour say who and on how many pictures, the filling what a network was trained on."""

    def mark(label: str, marker: str, colour: str, exposure: Exposure) -> Line2D:
        fill = _FILLS[exposure]
        return Line2D(
            [], [], linestyle="", markersize=7, marker=marker, color=colour, fillstyle=fill, label=label
        )

    return [
        mark("ours, on all pictures", *_MARKERS["ours"], "unseen"),
        mark("other people's, on all pictures", *_MARKERS["all"], "unseen"),
        mark("≈ other people's, on a part of them", *_MARKERS["part"], "unseen"),
        mark("filled: never trained on such rain", "s", GREY, "unseen"),
        mark("half: perhaps on rain of its kind", "s", GREY, "akin"),
        mark("hollow: trained on this rain", "s", GREY, "seen"),
    ]


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
        prog="python -m training.frontier",
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


if __name__ == "__main__":
    sys.exit(main())
