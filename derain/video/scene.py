"""Whether a frame is derained is decided by its scene, so that nothing flickers.

A model's estimator says of a frame how far its odds of rain are above those of a dry image. Frame by frame
that would let a scene at the border flicker between derained and untouched. So the mean of the last second
decides; it has to fall clearly below the border before deraining ends (hysteresis); and what is decided is
faded in and out, but at a cut, where everything changes anyway.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from derain.arrays import AnyImage

STRIDE_FRAMES = 4  # from one that is estimated to the next: rain does not begin within a frame
WINDOW_FRAMES = 24  # whose mean decides
ENDS_BELOW = -0.5  # log-odds above those of a dry image: where deraining ends. It begins at 0.
FADE_FRAMES = 12

_CUT = 0.5  # share of pixels that would have to change their brightness, from one frame to the next
_BINS = 32


@dataclass
class Scene:
    """What is remembered from frame to frame; it can be written down, for a run that goes on later."""

    is_rainy: bool | None = None  # None: there was no frame yet
    share: float = 0.0  # of the change that is made to the frame: from 0, untouched, to 1
    evidence: list[float] = field(default_factory=list)  # of the last frames that were estimated
    since: int = 0  # frames, from the last one of them
    histogram: list[float] = field(default_factory=list)  # of the last frame's brightness
    is_cut: bool = False  # the last frame began the scene

    def see(self, image: AnyImage, estimate: Callable[[], float]) -> float:
        """The share of the change that the next frame, RGB (height, width, 3), is to get: 0 to 1.

        `estimate` is called where it is needed, and says how far the frame's log-odds of rain are above those
        of a dry image.
        """
        self.watch(image)
        self.since += 1
        if self.is_cut or self.since >= STRIDE_FRAMES:
            before = [] if self.is_cut else self.evidence[1 - WINDOW_FRAMES // STRIDE_FRAMES :]
            self.evidence, self.since = [*before, estimate()], 0
            self.is_rainy = float(np.mean(self.evidence)) >= (ENDS_BELOW if self.is_rainy else 0.0)
        self.share = float(bool(self.is_rainy)) if self.is_cut else self._faded()
        return self.share

    def watch(self, image: AnyImage) -> None:
        """Notes whether a scene begins with the next frame, and decides nothing."""
        histogram = _histogram(image)
        self.is_cut = not self.histogram or _difference(np.array(self.histogram), histogram) > _CUT
        self.histogram = histogram.tolist()

    def _faded(self) -> float:
        step = 1 / FADE_FRAMES if self.is_rainy else -1 / FADE_FRAMES
        return round(min(max(self.share + step, 0.0), 1.0), 6)  # twelve twelfths are one

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, written: dict[str, Any]) -> Self:
        return cls(**written)


def _histogram(image: AnyImage) -> NDArray[np.float64]:
    """Shares of the brightest channel's levels: (bins,), together 1. Of every fourth row and column."""
    levels = image[::4, ::4].max(axis=2)
    counts, _ = np.histogram(levels, bins=_BINS, range=(0, np.iinfo(image.dtype).max))
    # Neighbours share, or a lamp that flickers by a level would move many pixels from bin to bin.
    smooth = cv2.blur(counts.astype(np.float64)[:, None], (1, 5), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(smooth[:, 0] / smooth.sum())


def _difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """0 where they are alike, 1 where they have nothing in common."""
    return float(np.abs(one - other).sum() / 2)
