"""What a network does to the pictures of a set, one by one and on average."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from statistics import fmean, median
from time import perf_counter
from typing import Literal, Protocol

import numpy as np

from derain.arrays import Picture
from derain.errors import ModelError
from derain.manifest import Evaluation
from training.metrics import Scores, mean_scores, psnr, score
from training.pairs import Pair, PairingError
from training.real import RealScores, score_real

Role = Literal["validation", "test"]  # was anything chosen by the set?
Derain = Callable[[Picture], Picture]

# What a picture that comes back perfect counts as, in dB, be it a derained or a clean one: its own PSNR
# is infinite, and so would be the mean over the set.
PERFECT_PSNR = 100.0


class Case(Protocol):
    """A pair that is read, or made, when its turn comes."""

    def read(self) -> Pair: ...


@dataclass(frozen=True)
class Measured:
    """One picture of a set with ground truth."""

    name: str
    pixels: int
    seconds: float  # for the rainy picture, from pixels to pixels
    scores: Scores | None  # PSNR of PERFECT_PSNR at most; None: it has no rain
    clean_psnr: float  # dB, of the clean picture that went through, PERFECT_PSNR at most


@dataclass(frozen=True)
class MeasuredReal:
    """One picture of a set without ground truth."""

    name: str
    pixels: int
    seconds: float
    scores: RealScores


def measure(derain: Derain, cases: Iterable[Case]) -> list[Measured]:
    """Scores of each picture; each clean picture also goes through on its own, once."""
    measured: list[Measured] = []
    clean_psnrs: dict[tuple[tuple[int, ...], bytes], float] = {}  # several rainy pictures may be of one scene
    for case in cases:
        pair = case.read()
        derained, seconds = _derain_timed(derain, pair.rainy, pair.name)
        is_clean = np.array_equal(pair.rainy, pair.clean)
        key = pair.clean.shape, sha256(pair.clean.tobytes()).digest()
        if key not in clean_psnrs:
            back = derained if is_clean else _derain_timed(derain, pair.clean, pair.name)[0]
            clean_psnrs[key] = min(PERFECT_PSNR, psnr(back, pair.clean))
        scores = None if is_clean else _capped(score(derained, pair.rainy, pair.clean))
        measured.append(Measured(pair.name, pair.clean[..., 0].size, seconds, scores, clean_psnrs[key]))
    return measured


def measure_real(derain: Derain, cases: Iterable[Case]) -> list[MeasuredReal]:
    measured: list[MeasuredReal] = []
    for case in cases:
        pair = case.read()
        derained, seconds = _derain_timed(derain, pair.rainy, pair.name)
        scores = score_real(derained, pair.rainy)
        measured.append(MeasuredReal(pair.name, pair.rainy[..., 0].size, seconds, scores))
    return measured


def summarise(name: str, role: Role, measured: Sequence[Measured]) -> Evaluation:
    """Means over the set; how long it took is left out, so that the same files give the same answer."""
    if not measured:
        raise PairingError(f"{name} has no pictures")
    means = mean_scores([picture.scores for picture in measured if picture.scores is not None])
    return Evaluation(
        name=name,
        role=role,
        pictures=len(measured),
        clean_psnr=finite(fmean(picture.clean_psnr for picture in measured)),
        **{key: finite(value) for key, value in vars(means).items()},
    )


def ms_per_megapixel(measured: Sequence[Measured | MeasuredReal]) -> float:
    """The median over the pictures."""
    return median(picture.seconds / picture.pixels * 1e9 for picture in measured)


def finite(value: float) -> float | None:
    """JSON has no infinity and no NaN."""
    return value if np.isfinite(value) else None


def rounded(value: float | None, digits: int) -> str:
    """For people, with a dash for what cannot be measured."""
    return "–" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"


def _capped(scores: Scores) -> Scores:
    return replace(scores, psnr=min(PERFECT_PSNR, scores.psnr), psnr_y=min(PERFECT_PSNR, scores.psnr_y))


def _derain_timed(derain: Derain, picture: Picture, name: str) -> tuple[Picture, float]:
    start = perf_counter()
    try:
        derained = derain(picture)
    except ModelError as error:
        raise type(error)(f"at the picture {name}: {error}") from error
    return derained, perf_counter() - start
