"""What can be said of a derained photograph when nobody knows what it looks like dry.

How much was taken away is measured, but a blur takes away much as well. Whether it was rain is
told by its shape: streaks have one direction at each place, and more so than what stays.

Chosen among two dozen candidates on the validation pairs, where the truth is known: 44 pictures
(`ddn_sirr`, and drawn rain over `natural_bsd_heldout`) times 17 derainers, from the base model
and its blends with the input over blurs, medians and darkening to the truth itself. Spearman
correlation over the derainers, mean of the pictures:

                                                        PSNR gain   SSIM gain   E_B50     η
    streaks, as below                                       0.69        0.86    -0.64    0.37
    coherence of what was removed, alone                    0.58        0.69    -0.51    0.51
    share of what was removed that was bright               0.49        0.53    -0.41    0.46
    RMS removed                                            -0.28       -0.25     0.42    0.65
    RMS removed from flat parts less that from others       0.70        0.86    -0.70    0.13

The last does as well, but scores perfect deraining like doing nothing. With rho (`restored`), which
is η with damage counted, the first has 0.65.

On 20 real photographs the base model is above 0 on each (1.8 on average), medians and blurs that
take away as much are below 0 on 17 of them.

It tells derainers apart on the same pictures; between sets of pictures it is not to be compared.
"""

from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

from derain.arrays import Image
from training.metrics import luma, mean_known, root_mean_square

_NEIGHBOURHOOD_PX = 2.5  # sigma of the window in which a direction is looked for: about a streak's width


@dataclass(frozen=True)
class RealScores:
    """Scores of one picture without ground truth, or their means over a set; NaN as in `Scores`."""

    removed: float  # RMS of what was taken away, 0 to 255
    removed_share: float  # the same, as a share of the rainy picture's contrast (its standard deviation)
    streaks: float  # 0 for doing nothing; above it rain was taken away, below it background


def score_real(derained: Image, rainy: Image) -> RealScores:
    removed = root_mean_square(rainy.astype(np.float64) - derained)
    contrast = float(rainy.std())
    surplus = coherence(luma(rainy) - luma(derained)) - coherence(luma(derained))
    return RealScores(
        removed=removed,
        removed_share=removed / contrast if contrast else float("nan"),
        streaks=removed * surplus,
    )


def mean_real_scores(scores: list[RealScores]) -> RealScores:
    """The mean of each score over the pictures that have it: flat ones have no share of the contrast."""
    return RealScores(**{f.name: mean_known(getattr(s, f.name) for s in scores) for f in fields(RealScores)})


def coherence(levels: NDArray[np.float64]) -> float:
    """How far the gradients of a neighbourhood share a direction: 0 not at all, 1 wholly.

    (H, W). The two eigenvalues of the structure tensor, their difference over their sum, each
    summed over the picture so that strong gradients count for more; 0 where all is flat.
    """

    def mean(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(x, (0, 0), _NEIGHBOURHOOD_PX), dtype=np.float64)

    x, y = (np.asarray(cv2.Sobel(levels, cv2.CV_64F, *axis), dtype=np.float64) for axis in ((1, 0), (0, 1)))
    xx, yy, xy = mean(x * x), mean(y * y), mean(x * y)
    energy = float((xx + yy).sum())
    return float(np.hypot(xx - yy, 2 * xy).sum()) / energy if energy else 0.0
