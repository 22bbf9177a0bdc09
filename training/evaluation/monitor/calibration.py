"""Images with known truth, judged as failures or not, and the weights that the residual-rain monitor tells
them by.

A failure is an image that had rain worth removing, below 32 dB against the clean one, of which the network
removed less than half (η, see training/evaluation/metrics.py). All else is a success, images without rain
included.

A network that is good fails too seldom to fit anything to. So each image is also judged as other networks
would have left it: one that does nothing, one that does three tenths of what the model does, one that is
perfect and one that takes seven tenths of the rain. Fitting needs nothing but the repository: its rain
families over its photographs.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from derain.arrays import Image, middle
from derain.images.plain import read_image
from derain.monitor import Features, probability, read_features
from training.data.resize import shrink
from training.evaluation.metrics import psnr, rain_mask, removal
from training.evaluation.pairs import Pair
from training.evaluation.scoring import Derain
from training.image_folder import list_images
from training.rain.families import FAMILIES
from training.stats import Values, auc, logistic_regression

WORTH_REMOVING_DB = 32.0  # the rainy image against the clean one; less rain than this may stay
REMOVED_ENOUGH = 0.5  # η
FITTED_TO = (
    *("small", "medium", "large", "wide", "varied", "curtains", "veiled"),
    *("drizzle", "shower", "downpour", "squall"),
)
FITTING_SEED = 2_000_003  # no recipe's, and not that of the held-out sets
_RAINS_A_PHOTOGRAPH = 3
_SIDES_PX = (400, 900)  # images are shrunk to a longest side between, and cut
_CUT_PX = (400, 480)
_FOLDS = 5
_RIDGE = 1.0  # pulls weights of standardised signs to nothing: seven signs of a few hundred photographs


@dataclass(frozen=True)
class Judged:
    """One image, one network, and whether it failed."""

    image: str
    network: str
    signs: Features
    has_rain: bool
    failed: bool

    @property
    def score(self) -> float:
        return probability(self.signs)


@dataclass(frozen=True)
class Treated:
    """What a network made of an image, and the network, for its second look."""

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
    """What the model makes of an image, and what networks would that are known to fail or not to."""
    derained = model(pair.rainy)
    yield Treated("the model", derained, model)
    yield Treated("idle", pair.rainy, _keep)
    if not np.array_equal(pair.rainy, pair.clean):
        yield Treated("weak", _blend(pair.rainy, derained, 0.3), partial(_weaken, model))
        # They find nothing in what they left, as a network that was sure of itself.
        yield Treated("perfect", pair.clean, _keep)
        yield Treated("most", _blend(pair.rainy, pair.clean, 0.7), _keep)


def judge(pair: Pair, treated: Iterable[Treated], side_px: int = sys.maxsize) -> Iterator[Judged]:
    """By the middle of the image, so much a side at most; whether it failed is said of all of it."""
    for each in treated:
        before, after = (middle(image, side_px, side_px) for image in (pair.rainy, each.derained))
        yield Judged(
            image=pair.name,
            network=each.network,
            signs=read_features(before, after, each.derain)[0],
            has_rain=not np.array_equal(pair.rainy, pair.clean),
            failed=failed(each.derained, pair),
        )


def _keep(image: Image) -> Image:
    return image


def _weaken(model: Derain, image: Image) -> Image:
    return _blend(image, model(image), 0.3)


def _blend(image: Image, other: Image, share: float) -> Image:
    return np.asarray(cv2.addWeighted(image, 1 - share, other, share, 0), dtype=np.uint8)


def fitting_pairs(folders: Sequence[Path]) -> Iterator[Pair]:
    """Each photograph dry and under rain of several families in turn."""
    paths = [path for folder in folders for path in list_images(folder)]
    for i, path in enumerate(tqdm(paths, unit="photograph", disable=None)):
        longest_px = int(np.random.default_rng([FITTING_SEED, i]).integers(*_SIDES_PX))
        clean = np.ascontiguousarray(middle(shrink(read_image(path), longest_px), *_CUT_PX))
        yield Pair(path.stem, clean, clean)
        for j in range(_RAINS_A_PHOTOGRAPH * i, _RAINS_A_PHOTOGRAPH * (i + 1)):
            rain = FAMILIES[FITTED_TO[j % len(FITTED_TO)]]
            yield Pair(path.stem, rain.add(clean, FITTING_SEED, j), clean)


def fit(judged: Sequence[Judged]) -> dict[str, float]:
    """The weight of each sign and the bias."""
    outcome = np.array([j.failed for j in judged], dtype=np.float64)
    slopes, bias = logistic_regression(_matrix(judged), outcome, _RIDGE)
    return {"bias": bias, **dict(zip(vars(judged[0].signs), slopes.tolist(), strict=True))}


def calibrate(judged: Sequence[Judged]) -> dict[str, Any]:
    """The weights, and how well they tell failures of photographs that they were not fitted to."""
    found, outcome = cross_validated(judged), [j.failed for j in judged]
    of_network = {
        network: [i for i, j in enumerate(judged) if j.network == network]
        for network in dict.fromkeys(j.network for j in judged)
    }
    areas = {"all": auc(found, outcome)}
    areas |= {name: auc(found[own], [outcome[i] for i in own]) for name, own in of_network.items()}
    return {
        "rain": FITTED_TO,
        "judged": len(judged),
        "failures": sum(outcome),
        "auc_cross_validated": {name: round(area, 3) for name, area in areas.items() if not np.isnan(area)},
        "weights": {name: round(weight, 4) for name, weight in fit(judged).items()},
    }


def evidence(weights: dict[str, float], judged: Sequence[Judged]) -> Values:
    """What the probability is the logistic of."""
    slopes = np.array([weights[name] for name in vars(judged[0].signs)])
    return np.asarray(_matrix(judged) @ slopes + weights["bias"])


def cross_validated(judged: Sequence[Judged]) -> Values:
    """The evidence on each, by weights fitted without its photograph."""
    photographs = sorted({j.image for j in judged})
    fold = {name: i % _FOLDS for i, name in enumerate(photographs)}
    found = np.empty(len(judged))
    for k in range(_FOLDS):
        weights = fit([j for j in judged if fold[j.image] != k])
        held_out = [i for i, j in enumerate(judged) if fold[j.image] == k]
        found[held_out] = evidence(weights, [judged[i] for i in held_out])
    return found


def _matrix(judged: Sequence[Judged]) -> Values:
    return np.array([list(vars(j.signs).values()) for j in judged], dtype=np.float64)
