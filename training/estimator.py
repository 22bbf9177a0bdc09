"""The rain estimator: what rain is on an image, and whether there is any.

Which way rain falls, how long and wide its streaks are and how much brighter it makes a scene cannot be told
from a few pixels, and a derainer that is conditioned on it removes more of unseen rain (docs/models/README.md
has the figures). Procedural rain is drawn from just these numbers, so an estimator is trained to name them,
each with its uncertainty, beside the derainers that use them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from derain.arrays import FloatArray, Image
from training.blocks import ResidualBlock
from training.rain.varied import Layer, Sheet, Streaks

ANGLES_DEG = np.linspace(-78, 78, 14)  # of the directions of fall whose shares are estimated
_ANGLE_SIGMA_DEG = 6.0  # how far a fall's share is spread over the angles next to its own
# Length, width, brightness, cover, share of sheets, share of hard streaks, mean of the layers, and how much
# brighter the image is for the rain.
_MEASURES = 8
FACTS = len(ANGLES_DEG) + _MEASURES + 2  # whether there is rain; whether more than its brightness is known
DESCRIPTOR = len(ANGLES_DEG) + 2 * _MEASURES + 1  # a standard deviation of each measure beside it
_SEEN_PSNR_DB = 40.0  # rain so faint that the rainy image is closer to the clean one is none
_SHARES_GAIN = 4.0  # so that shares are as large as the measures
_LOG_SIGMA = (-4.0, 2.0)  # bounds of the logarithm of a standard deviation

_ANGLES = slice(0, len(ANGLES_DEG))
_MEANS = slice(_ANGLES.stop, _ANGLES.stop + _MEASURES)
_LOG_SIGMAS = slice(_MEANS.stop, _MEANS.stop + _MEASURES)
_BRIGHTER = _MEASURES - 1  # the measure that every pair of images shows


@dataclass(frozen=True)
class EstimatorShape:
    """The size of a `RainEstimator`: its scales are a half, a quarter, an eighth of the image, and so on."""

    widths: tuple[int, ...] = (16, 32, 64, 128)  # channels at each scale
    blocks: tuple[int, ...] = (0, 2, 2, 3)  # none at the finest, which would cost most
    pooled: int = 32  # features of each scale whose mean and maximum over the image are used
    hidden: tuple[int, int] = (128, 96)

    @property
    def alignment_px(self) -> int:
        """A cell at the coarsest scale."""
        return int(2 ** len(self.widths))


class RainEstimator(nn.Module):
    """An image, float (N, 3, H, W) in [0, 1], to what `describe` makes a rain descriptor of, (N, DESCRIPTOR).

    H and W are multiples of the shape's `alignment_px`. The last number is the log-odds of any rain at all.
    """

    def __init__(self, shape: EstimatorShape) -> None:
        super().__init__()
        self.shape = shape
        self.head = nn.Conv2d(3, shape.widths[0], 6, stride=2, padding=2)
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, 2) for fine, coarse in pairwise(shape.widths))
        self.blocks = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(count)))
            for width, count in zip(shape.widths, shape.blocks, strict=True)
        )
        self.pool = nn.ModuleList(nn.Conv2d(width, shape.pooled, 1) for width in shape.widths)
        sizes = (2 * shape.pooled * len(shape.widths), *shape.hidden)
        self.hidden = nn.ModuleList(nn.Linear(given, found) for given, found in pairwise(sizes))
        self.out = nn.Linear(sizes[-1], DESCRIPTOR)

    @property
    def ends(self) -> Sequence[nn.Module]:
        """What the optimiser of the inner convolutions leaves alone."""
        return [self.head, *self.pool]

    def forward(self, image: Tensor) -> Tensor:
        features: list[Tensor] = []
        x = self.head(image)
        for scale, (blocks, pool) in enumerate(zip(self.blocks, self.pool, strict=True)):
            x = blocks(self.down[scale - 1](x) if scale else x)
            pooled = torch.relu(pool(x))
            # The maximum too: under a veil no pixel is dark.
            over_image = functional.adaptive_avg_pool2d(pooled, 1), functional.adaptive_max_pool2d(pooled, 1)
            features += [each.flatten(1).float() for each in over_image]
        hidden = torch.cat(features, dim=1)
        for layer in self.hidden:
            hidden = functional.silu(layer(hidden))
        raw: Tensor = self.out(hidden).float()
        return raw


def describe(raw: Tensor) -> Tensor:
    """The rain descriptor, (N, DESCRIPTOR): shares of the angles, measures, the logarithms of their standard
    deviations, the probability of rain.
    """
    shares = _SHARES_GAIN * functional.softmax(raw[:, _ANGLES], dim=1)
    log_sigmas = raw[:, _LOG_SIGMAS].clamp(*_LOG_SIGMA)
    return torch.cat([shares, raw[:, _MEANS], log_sigmas, torch.sigmoid(raw[:, -1:])], dim=1)


def facts(layers: Sequence[Layer] | None, rainy: Image, clean: Image, scale: float = 1.0) -> FloatArray:
    """What is to be estimated, float32 (FACTS,): of layers of rain, weighed by how much is seen of them.

    `scale` is what the image was enlarged by after the rain. Of rain that does not say what it was drawn
    with, without layers, it is known whether there is any, and how much brighter the image is for it.
    """
    measured = np.zeros(FACTS)
    if layers is not None:
        measured[: _MEANS.stop] = _drawn_with(layers, scale)
    difference = np.subtract(rainy, clean, dtype=np.float32) / 255
    measured[_MEANS][_BRIGHTER] = 5 * difference.mean()
    is_seen = np.square(difference).mean() > 10 ** (-_SEEN_PSNR_DB / 10)
    measured[-2:] = is_seen, layers is not None
    return measured.astype(np.float32)


def _drawn_with(layers: Sequence[Layer], scale: float) -> NDArray[np.float64]:
    """Shares of the angles, and measures but for the last."""
    weights = np.array([max(layer.mean * layer.brightness, 1e-6) for layer in layers])
    shares = np.zeros(len(ANGLES_DEG))
    measures = np.zeros(_MEASURES)
    for layer, weight in zip(layers, weights / weights.sum(), strict=True):
        near = np.exp(-0.5 * ((ANGLES_DEG - layer.fall.angle_deg) / _ANGLE_SIGMA_DEG) ** 2)
        shares += weight * near / near.sum()
        measures[:6] += weight * np.array(
            [
                np.log(scale * layer.fall.length_px / 30),
                np.log(scale * layer.fall.sigma_px),
                np.log(2 * layer.brightness),
                np.log10(max(layer.cover, 1e-4)),
                isinstance(layer, Sheet),
                isinstance(layer, Streaks) and layer.hardness is not None,
            ]
        )
    measures[6] = np.log10(max(sum(layer.mean for layer in layers), 1e-4))
    return np.concatenate([shares, measures])


def estimation_errors(raw: Tensor, expected: Tensor) -> Tensor:
    """Of each image, (N,): where there is rain, what it is; and whether there is any.

    The Kullback-Leibler divergence of the shares; of the measures the negative log-likelihood of a normal
    distribution, each weighted by its standard deviation so that what is hard to tell is learnt as well
    (beta-NLL with beta = 0.5: Seitzer et al., ICLR 2022); the cross entropy of rain or none.
    """
    raw = raw.float()
    shares, measures = expected[:, _ANGLES], expected[:, _MEANS]
    is_seen, is_known = expected[:, -2], expected[:, -1]
    log_shares = functional.log_softmax(raw[:, _ANGLES], dim=1)
    divergence = functional.kl_div(log_shares, shares, reduction="none").sum(dim=1)
    log_sigmas = raw[:, _LOG_SIGMAS].clamp(*_LOG_SIGMA)
    squares = (raw[:, _MEANS] - measures).square()
    likelihoods = 0.5 * squares * torch.exp(-2 * log_sigmas) + log_sigmas
    surprises = likelihoods * log_sigmas.detach().exp()
    of_drawing = divergence + surprises[:, :_BRIGHTER].sum(dim=1)
    doubt = functional.binary_cross_entropy_with_logits(raw[:, -1], is_seen, reduction="none")
    return is_seen * (is_known * of_drawing + surprises[:, _BRIGHTER]) + doubt
