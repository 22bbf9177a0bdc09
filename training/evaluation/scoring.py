"""What a network does to the images of a set, one by one and together."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from statistics import fmean, median
from time import perf_counter
from typing import Any, Literal, Protocol

import numpy as np

from derain.arrays import Image
from derain.errors import ModelError
from derain.manifest import CleanBack, Evaluation, Extreme, Gain
from training.evaluation.metrics import Scores, mean_scores, psnr, score
from training.evaluation.no_reference import RealScores, mean_real_scores, score_real
from training.evaluation.pairs import Pair, PairingError

Role = Literal["validation", "test"]  # was anything chosen by the set?
Derain = Callable[[Image], Image]

# What a rainy image counts as that comes out equal to the clean one, in dB: its PSNR is infinite, and so
# would be the mean over the set. Of clean images, which often come back identical, there is no mean.
PERFECT_PSNR = 100.0

HARMED_DB = 0.3  # worse than the input by more: an image was harmed


class Case(Protocol):
    """A pair that is read, or made, when its turn comes."""

    def read(self) -> Pair: ...


@dataclass(frozen=True)
class Measured:
    """One image of a set with ground truth."""

    name: str
    pixels: int
    seconds: float  # for the rainy image, from pixels to pixels
    scores: Scores | None  # PSNR of PERFECT_PSNR at most; None: it has no rain
    untouched: bool  # it came back identical
    scene: int  # number of the clean image: several rainy ones may be of one
    clean_psnr: float  # dB, of the clean image that went through; infinite: it came back identical

    @property
    def gain(self) -> float:
        """dB won over the input; NaN without rain."""
        return float("nan") if self.scores is None else self.scores.psnr - self.scores.input_psnr

    @property
    def tone_fitted_gain(self) -> float:
        """The same of tone-fitted PSNR."""
        if self.scores is None:
            return float("nan")
        return self.scores.tone_fitted_psnr - self.scores.input_tone_fitted_psnr

    def counted_gain(self, tone_changed: bool) -> float:
        return self.tone_fitted_gain if tone_changed else self.gain

    def plain(self) -> dict[str, Any]:
        """All scores, for JSON: null where there is none."""
        gains = {"gain": self.gain, "tone_fitted_gain": self.tone_fitted_gain}
        scores = {} if self.scores is None else asdict(self.scores) | gains
        scores["clean_psnr"] = self.clean_psnr
        known = {key: finite(value) for key, value in scores.items()}
        back = {"untouched": self.untouched, "clean_identical": bool(np.isinf(self.clean_psnr))}
        return {"pixels": self.pixels} | known | back


@dataclass(frozen=True)
class MeasuredReal:
    """One image of a set without ground truth."""

    name: str
    pixels: int
    seconds: float
    scores: RealScores


@dataclass(frozen=True)
class Result:
    """A set with ground truth: the images, what was measured of each, and of all."""

    cases: Sequence[Case]
    measured: Sequence[Measured]
    evaluation: Evaluation


@dataclass(frozen=True)
class RealResult:
    """A set without ground truth."""

    name: str
    cases: Sequence[Case]
    measured: Sequence[MeasuredReal]

    def means(self) -> dict[str, float]:
        means = asdict(mean_real_scores([image.scores for image in self.measured]))
        return means | {"pictures": len(self.measured), "ms_per_megapixel": ms_per_megapixel(self.measured)}


@dataclass(frozen=True)
class Report:
    """What one model did to all sets."""

    model: str
    network: str  # what it is and how it is fed
    measured_on: str
    results: Sequence[Result]
    real: Sequence[RealResult]


def measure(derain: Derain, cases: Iterable[Case]) -> list[Measured]:
    """Scores of each image; each clean image also goes through on its own, once."""
    measured: list[Measured] = []
    scenes: dict[tuple[tuple[int, ...], bytes], tuple[int, float]] = {}  # number, PSNR of what came back
    for case in cases:
        pair = case.read()
        derained, seconds = _derain_timed(derain, pair.rainy, pair.name)
        is_clean = np.array_equal(pair.rainy, pair.clean)
        dry = pair.clean if pair.dry is None else pair.dry
        key = dry.shape, sha256(dry.tobytes()).digest()
        if key not in scenes:
            back = derained if is_clean else _derain_timed(derain, dry, pair.name)[0]
            scenes[key] = len(scenes), psnr(back, dry)
        scores = None if is_clean else _capped(score(derained, pair.rainy, pair.clean))
        untouched = np.array_equal(derained, pair.rainy)
        pixels = pair.clean[..., 0].size
        measured.append(Measured(pair.name, pixels, seconds, scores, untouched, *scenes[key]))
    return measured


def measure_real(derain: Derain, cases: Iterable[Case]) -> list[MeasuredReal]:
    measured: list[MeasuredReal] = []
    for case in cases:
        pair = case.read()
        derained, seconds = _derain_timed(derain, pair.rainy, pair.name)
        scores = score_real(derained, pair.rainy)
        measured.append(MeasuredReal(pair.name, pair.rainy[..., 0].size, seconds, scores))
    return measured


def summarise(
    name: str, role: Role, measured: Sequence[Measured], kind: str | None = None, tone_changed: bool = False
) -> Evaluation:
    """Of the set; how long it took is left out, so that the same files give the same answer."""
    if not measured:
        raise PairingError(f"{name} has no images")
    rainy = [image for image in measured if image.scores is not None]
    means = mean_scores([image.scores for image in rainy if image.scores is not None])
    return Evaluation(
        name=name,
        role=role,
        pictures=len(measured),
        kind=kind if rainy else None,
        tone_changed=tone_changed,
        rainy=len(rainy),
        gain=_gain([(image.gain, image.name) for image in rainy]),
        tone_fitted_gain=_gain([(image.tone_fitted_gain, image.name) for image in rainy]),
        untouched=sum(image.untouched for image in rainy),
        clean=_clean_back(measured),
        **{key: finite(value) for key, value in vars(means).items()},
    )


def _gain(gains: Sequence[tuple[float, str]]) -> Gain | None:
    """Of dB and names."""
    if not gains:
        return None
    worst_db, worst = min(gains)
    return Gain(
        mean=fmean(gain for gain, _ in gains),
        worst=Extreme(name=worst, db=worst_db),
        harmed=sum(gain < -HARMED_DB for gain, _ in gains),
    )


def _clean_back(measured: Sequence[Measured]) -> CleanBack:
    scenes = {image.scene: image for image in reversed(measured)}  # by its first rainy image
    changed = [image for image in scenes.values() if np.isfinite(image.clean_psnr)]
    worst = min(changed, key=lambda image: image.clean_psnr, default=None)
    return CleanBack(
        images=len(scenes),
        identical=len(scenes) - len(changed),
        below_40=sum(image.clean_psnr < 40 for image in changed),
        below_30=sum(image.clean_psnr < 30 for image in changed),
        worst=None if worst is None else Extreme(name=worst.name, db=worst.clean_psnr),
        median_changed=median(image.clean_psnr for image in changed) if changed else None,
    )


def ms_per_megapixel(measured: Sequence[Measured | MeasuredReal]) -> float:
    """The median over the images."""
    return median(image.seconds / image.pixels * 1e9 for image in measured)


def finite(value: float) -> float | None:
    """JSON has no infinity and no NaN."""
    return value if np.isfinite(value) else None


def rounded(value: float | None, digits: int) -> str:
    """For people, with a dash for what cannot be measured."""
    return "–" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"


def _capped(scores: Scores) -> Scores:
    """Of the input as well, so that an image in the faintest rain is not harmed where it stays as it was."""
    names = (
        "psnr",
        "psnr_y",
        "input_psnr",
        "input_psnr_y",
        "tone_fitted_psnr",
        "input_tone_fitted_psnr",
    )
    return replace(scores, **{name: min(PERFECT_PSNR, getattr(scores, name)) for name in names})


def _derain_timed(derain: Derain, image: Image, name: str) -> tuple[Image, float]:
    start = perf_counter()
    try:
        derained = derain(image)
    except ModelError as error:
        raise type(error)(f"at the image {name}: {error}") from error
    return derained, perf_counter() - start


def evaluate(
    derain: Derain, name: str, role: Role, cases: Iterable[Case], kind: str | None = None
) -> Evaluation:
    """Scores of a set; each clean image also goes through on its own."""
    return summarise(name, role, measure(derain, cases), kind)
