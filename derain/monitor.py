"""Did the network take the rain out, or did it do nothing? A guess without the clean image.

"Networks are Slacking Off" (Gu et al. 2023): a deraining network that meets rain it has never seen
leaves it alone. Here an image and the result are looked at for a hundredth of the
network's own time, and seven signs are weighed into one probability. The weights are in monitor.json,
written by `python -m training monitor`; docs/monitoring.md says how well they do and what fools them.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from derain.arrays import FloatArray, Image, middle

WEIGHTS = Path(__file__).with_suffix(".json")

_LEANS = np.tan(np.radians([-40, -20, 0, 20, 40]))  # rain falls so, or nearly
_LINE_PX = 16  # the least length of a line: rain is longer, grain and foliage mostly are not
_LINE_SIGMA_PX = 1.0  # half of a line's width; its surroundings are three times as wide
_SQUAT = 2  # rows taken together before lines are looked for: they stand upright, or nearly
_BLOCK_PX = 32
_CROP_PX = 24  # of the second run
JUDGED_PX = 256  # of what is judged, so that a large photograph costs no more than a small one
_UNSEEN = 0.5  # levels: what rounding alone may do


@dataclass(frozen=True)
class Reading:
    """What the monitor says of an image and its derained version."""

    removed_energy: float  # RMS of the luma taken away, 0 to 255
    streak_likeness: float  # how far what was taken away has one direction: 0 not at all, 1 wholly
    residual_lines: float  # RMS of lines of one lean left all over the output, 0 to 255
    probability: float  # probability that rain is left that should have been removed, 0 to 1


@dataclass(frozen=True)
class Features:
    """What the probability is made of; all finite, whatever the image."""

    removed: float  # ln levels: RMS of the luma taken away
    direction: float  # streak_likeness
    second: float  # ln levels: RMS of what the network takes from a crop of its own output
    lines: float  # ln: energy of lines of the commonest lean over that of the median lean, median block
    calm: float  # ln levels²: that energy in the calmest quarter, where a scene has little of its own
    skew: float  # of that signal, median block: rain is bright and sparse, twigs are dark as well
    dark: float  # ln levels: the darkest hundredth, which a veil lifts (dark channel: He, Sun and Tang 2009)


def monitor(rainy: Image, derained: Image, derain: Callable[[Image], Image]) -> Reading:
    """Judges what a network did, uint8 RGB (H, W, 3) of any size; `derain` is the network itself.

    It is run once more, on a crop of 24 x 24 pixels at most. Of what is longer than 256 pixels the
    middle is judged.
    """
    before, after = (middle(image, JUDGED_PX, JUDGED_PX) for image in (rainy, derained))
    features, left = read_features(before, after, derain)
    return Reading(
        removed_energy=max(0.0, float(np.exp(features.removed)) - _UNSEEN),
        streak_likeness=features.direction,
        residual_lines=left,
        probability=probability(features),
    )


def probability(features: Features) -> float:
    """Logistic in the features."""
    weights = load_weights()
    evidence = weights["bias"] + sum(weights[name] * value for name, value in vars(features).items())
    return float(1 / (1 + np.exp(-np.clip(evidence, -50, 50))))


@cache
def load_weights() -> dict[str, float]:
    """Of each of the Features, and the bias."""
    weights: dict[str, float] = json.loads(WEIGHTS.read_text())["weights"]
    return weights


def read_features(rainy: Image, derained: Image, derain: Callable[[Image], Image]) -> tuple[Features, float]:
    """The features, and the RMS of the lines that are left, in levels."""
    before, after = _luma(rainy), _luma(derained)
    removed = np.subtract(before, after, dtype=np.float32)
    lines, energy, skew = _find_lines(after)
    # The network's own opinion: where lines stand out most, does it find more to take away? One that
    # does nothing finds nothing here either, so the other features do without it.
    crop = _crop(lines, *after.shape)
    again = np.ascontiguousarray(derained[crop])
    second = np.subtract(_luma(again), _luma(derain(again)), dtype=np.float32)
    direction = _coherence(removed)
    dark = float(np.log(np.quantile(_shrink(derained, 8, 8).min(axis=2), 0.01) + 4))
    features = Features(
        removed=_log_rms(removed),
        direction=direction,
        second=_log_rms(second),
        lines=float(np.median(lines)),
        calm=float(np.log(np.quantile(energy, 0.25) + 0.05)),
        skew=float(np.median(skew)),
        dark=dark,
    )
    # Of the energy along lines, what the median lean has as well is texture.
    left = np.median(energy * (1 - np.exp(-lines)))
    return features, float(np.sqrt(max(0.0, left)))


def _find_lines(luma: NDArray[np.uint8]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Of each block, for the lean that is commonest over the image: surplus (ln), energy, skewness.

    A matched filter for long thin lines: the image is sheared until they stand upright, then averaged
    along them, and compared with its surroundings across them. Texture that has no direction gives all
    leans alike; a fence or a mast has one, but in few blocks.
    """
    height, width = max(1, luma.shape[0] // _SQUAT), luma.shape[1]
    squat = cv2.resize(luma, (width, height), interpolation=cv2.INTER_LINEAR)  # of two rows, their mean
    filtered = []
    for lean in _SQUAT * _LEANS:
        shear = np.array([[1, lean, -lean * height / 2], [0, 1, 0]], dtype=np.float32)
        # Half a pixel off is little beside a line's width, and interpolation takes three times as long.
        upright = cv2.warpAffine(
            squat, shear, (width, height), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101
        )
        along = _shrink(upright.astype(np.float32), _LINE_PX // _SQUAT, 1)
        near, far = (cv2.GaussianBlur(along, (0, 0), s * _LINE_SIGMA_PX, sigmaY=1e-3) for s in (1, 3))
        filtered.append(near - far)
    blocks = partial(_shrink, rows=_BLOCK_PX // _LINE_PX, columns=_BLOCK_PX)
    energies = np.stack([blocks(signal**2) for signal in filtered])  # (leans, rows, columns)
    commonest = int(np.log(energies + 0.1).mean(axis=(1, 2)).argmax())
    energy = energies[commonest]
    surplus = np.log((energy + 0.1) / (np.median(energies, axis=0) + 0.1))
    signal = filtered[commonest]
    skew = blocks(signal * signal**2) / (energy**1.5 + 0.3)  # `signal**3` would be `pow`, 1.6 ms of it
    return surplus, energy, skew


def _coherence(levels: FloatArray) -> float:
    """How far all gradients share one direction: 0 not at all, 1 wholly.

    The structure tensor (Bigun and Granlund 1987) of the whole image: the difference of its
    eigenvalues over their sum. Rain has one direction everywhere, a scene's edges have many.
    """
    x, y = (cv2.Sobel(levels, cv2.CV_32F, *axis) for axis in ((1, 0), (0, 1)))
    xx, yy, xy = (float(np.vdot(a, b)) / levels.size for a, b in ((x, x), (y, y), (x, y)))
    return float(np.hypot(xx - yy, 2 * xy) / (xx + yy + 0.01))


def _crop(score: FloatArray, height: int, width: int) -> tuple[slice, slice]:
    """The middle _CROP_PX of the block whose score is highest."""
    block = np.unravel_index(int(score.argmax()), score.shape)
    top, left = (
        int(np.clip((b + 0.5) * length / blocks - _CROP_PX / 2, 0, max(0, length - _CROP_PX)))
        for b, length, blocks in zip(block, (height, width), score.shape, strict=True)
    )
    return slice(top, top + _CROP_PX), slice(left, left + _CROP_PX)


def _luma(image: Image) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def _shrink(levels: NDArray[np.uint8] | FloatArray, rows: int, columns: int) -> FloatArray:
    """Means of so many rows and columns, as near as the size allows."""
    size = max(1, levels.shape[1] // columns), max(1, levels.shape[0] // rows)
    return np.asarray(cv2.resize(levels, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def _log_rms(levels: FloatArray) -> float:
    return float(np.log(np.sqrt(np.vdot(levels, levels) / levels.size) + _UNSEEN))
