"""How well the score of the residual-rain monitor tells failures: tables, ROC curves and cost."""

from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time

import cv2
import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from derain.images.plain import read_image
from derain.monitor import JUDGED_PX, monitor
from training.evaluation.monitor.calibration import FITTING_SEED, Judged, Treated, judge, treatments
from training.evaluation.scoring import Derain
from training.evaluation.sets import ImageSet
from training.figures.style import GREY, write_figure
from training.image_folder import list_images
from training.rain.families import FAMILIES
from training.repository import PHOTOGRAPHS
from training.stats import auc, roc

MADE_NETWORKS = ("idle", "weak")  # of the first network, and judged beside it


def measure_set(image_set: ImageSet, networks: dict[str, Derain]) -> list[Judged]:
    """Each image as the first network leaves it, idle, at three tenths; then as the others leave it.

    A set of clean images goes through every network as well: what they all should leave alone. Judged is the
    middle, as by `monitor`.
    """
    (_, model), *others = networks.items()
    judged: list[Judged] = []
    for case in tqdm(image_set.cases, desc=image_set.name, unit="image", disable=None):
        pair = case.read()
        kept = [t for t in treatments(pair, model) if t.network in ("the model", *MADE_NETWORKS)]
        kept += [Treated(name, other(pair.rainy), other) for name, other in others]
        judged += judge(pair, kept, JUDGED_PX)
    return judged


def table(results: dict[str, list[Judged]], threshold: float) -> str:
    """Markdown: a row for each set with rain and each network."""
    dry = [j for judged in results.values() for j in judged if not j.has_rain]
    lines = [
        "| set | network | images | failures | AUC in the set | AUC with the clean images | "
        f"median score | failures above {threshold:g} | successes above |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rainy = {name: judged for name, judged in results.items() if any(j.has_rain for j in judged)}
    pooled = {"all of them": [j for judged in rainy.values() for j in judged]}
    for name, judged in (rainy | pooled).items():
        for network in dict.fromkeys(j.network for j in judged):
            own = [j for j in judged if j.network == network]
            # Of clean images, those that this network left; of a blend, those of its model.
            like = network if any(j.network == network for j in dry) else "the model"
            clean = [j for j in dry if j.network == like]
            lines.append(
                f"| {name} | {network} | {len(own)} | {sum(j.failed for j in own)} | {_auc(own)} | "
                f"{_auc(own + clean)} | {np.median([j.score for j in own]):.2f} | "
                f"{_share(own, threshold, True)} | {_share(own, threshold, False)} |"
            )
    return "\n".join(lines)


def clean_table(results: dict[str, list[Judged]], thresholds: Sequence[float]) -> str:
    """Markdown: how often each threshold gives a false alarm on images without rain."""
    lines = [
        f"| clean set | network | images | median | {' | '.join(f'above {t:g}' for t in thresholds)} |",
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
    """A panel for each network, a line for each set with rain against all images without, as SVG."""
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

    write_figure(path, 3 * len(networks), 4.9, paint)


def cost(model: Derain) -> str:
    """What the monitor takes of the processor, beside the network: the best of five."""
    photograph = cv2.resize(read_image(list_images(PHOTOGRAPHS)[0]), (1280, 720)).astype(np.uint8)
    rainy = FAMILIES["varied"].add(photograph, FITTING_SEED, 0)
    derained = model(rainy)

    def least_ms(work: Callable[[], object]) -> float:
        times = []
        for _ in range(5):
            start = process_time()
            work()
            times.append(1e3 * (process_time() - start))
        return min(times)

    network_ms = least_ms(lambda: model(rainy))
    monitor_ms = least_ms(lambda: monitor(rainy, derained, model))
    height, width = rainy.shape[:2]
    share = monitor_ms / network_ms
    return (
        f"{width} x {height}: the monitor takes {monitor_ms:.0f} ms, {share:.1%} of the network's "
        f"{network_ms:.0f}"
    )


def _auc(judged: Sequence[Judged]) -> str:
    value = auc([j.score for j in judged], [j.failed for j in judged])
    return "–" if np.isnan(value) else f"{value:.2f}"


def _share(judged: Sequence[Judged], threshold: float, of_failures: bool) -> str:
    own = [j.score >= threshold for j in judged if j.failed == of_failures]
    return f"{np.mean(own):.0%}" if own else "–"
