"""What rain it is: a small network that looks at a large part of a picture, and tells the deraining ones.

All streaks of a shower lean alike and are about as long and as wide, and a wire is not like them. A network
that sees a patch cannot know that; one that is told takes off a quarter more of rain that it has never seen,
and leaves dry pictures alone (docs/models/README.md has the figures). It does not find out by itself, so the
survey is trained before it, to name what procedural rain was drawn with.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from derain.arrays import FloatArray, Picture
from derain.tiling import QUARTERS
from training.blocks import ResidualBlock
from training.rain.varied import Layer, Sheet

LEANS_DEG = np.linspace(-78, 78, 14)  # of the falls whose shares are told
_LEAN_SIGMA_DEG = 6.0  # how far a fall's share is spread over the leans next to its own
# How long, how wide, how bright, how dense, sheets or streaks, hard or soft, how bright all of it, and how
# much brighter the picture is for it.
_MEASURES = 8
FINDINGS = len(LEANS_DEG) + _MEASURES + 1  # the last: whether there is rain
_SEEN_PSNR_DB = 36.0  # rain so faint that the picture is closer to the dry one is none
_SHARES_GAIN = 4.0  # so that the shares are as large as the measures

_BRIGHTER_GAIN = 4.0  # of how much brighter, in the loss: its squared errors are small beside the others'

_LEANS = slice(0, len(LEANS_DEG))
_MEASURED = slice(_LEANS.stop, _LEANS.stop + _MEASURES)
# What is told of each place where there is a window of each quarter of the picture, and not of all alike: how
# much brighter it is for the rain.
_PLACED = slice(_MEASURED.stop - 1, _MEASURED.stop)


@dataclass(frozen=True)
class SurveyShape:
    """The size of a `Survey`: its scales are a half, a quarter, an eighth of the picture, and so on."""

    widths: tuple[int, ...] = (16, 32, 48, 64)  # channels at each scale
    blocks: tuple[int, ...] = (1, 2, 2, 2)
    seen: int = 48  # features of each scale whose mean, RMS and maximum over the picture are looked at
    hidden: tuple[int, int] = (128, 96)

    @property
    def alignment_px(self) -> int:
        """A cell at the coarsest scale."""
        return int(2 ** len(self.widths))


@dataclass(frozen=True)
class Look:
    """How much of a picture a finished model's survey sees."""

    windows: int = 1  # the middle of the picture, or QUARTERS of it, each in the middle of its quarter
    longest_px: int = 256  # of a side of each; a multiple of the survey's alignment


ONE_WINDOW = Look()


class Survey(nn.Module):
    """A picture, or the middle of one, float (N, 3, H, W) in [0, 1], to (N, FINDINGS).

    H and W are multiples of the shape's `alignment_px`.
    """

    def __init__(self, shape: SurveyShape) -> None:
        super().__init__()
        self.shape = shape
        self.head = nn.Conv2d(3, shape.widths[0], 6, stride=2, padding=2)
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, 2) for fine, coarse in pairwise(shape.widths))
        self.blocks = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(count)))
            for width, count in zip(shape.widths, shape.blocks, strict=True)
        )
        self.see = nn.ModuleList(nn.Conv2d(width, shape.seen, 1) for width in shape.widths)
        sizes = (3 * shape.seen * len(shape.widths), *shape.hidden)
        self.think = nn.ModuleList(nn.Linear(given, found) for given, found in pairwise(sizes))
        self.find = nn.Linear(sizes[-1], FINDINGS)
        # Learnt last, of all else as it is (training/notice.py). Until then it is even whether there is rain.
        self.notice = nn.Linear(sizes[0], 1).requires_grad_(False)
        nn.init.zeros_(self.notice.weight)
        nn.init.zeros_(self.notice.bias)

    @property
    def ends(self) -> Sequence[nn.Module]:
        """What the optimiser of the inner convolutions leaves alone."""
        return [self.head, *self.see]

    def findings(self, overview: Tensor, place: Tensor | None = None) -> Tensor:
        """What the networks are told: see `look`."""
        return self.look(overview, place)[0]

    def look(self, overview: Tensor, place: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Shares of the leans, measures, and the probability that there is rain, (N, FINDINGS); and whether
        there is any, as log-odds, (N,).

        The probability is what networks have learnt to understand. It says rain of whatever could be some, of
        a façade as well, since nearly all that a survey is trained on is rainy. The log-odds are learnt of as
        many windows without.

        Of a window of each picture, (N, 3, H, W); or of several, (N, 3 x windows, H, W), the mean of what
        each of them shows. More in one window would be more than a survey is trained on, and the greatest
        of what it sees grows with what there is to see.

        Of a window of each quarter, the findings of places too, which are given as `derain.tiling.place` has
        them, (N, 2, rows, columns); they are (N, FINDINGS, rows, columns) then. How much brighter rain makes
        a place is a plane through what the windows show, so it can be more or less at a border than in any
        of them. Whether there is rain is said of all alike: a window of writing alone looks like some.
        """
        windows = overview.shape[1] // 3
        if windows == 1:
            features = self.features(overview)
            return _findings(self.think_of(features)), self.notice(features)[:, 0]
        features = self.features(overview.reshape(-1, 3, *overview.shape[2:]))
        each = self.think_of(features).reshape(-1, windows, FINDINGS)
        log_odds = self.notice(features).reshape(-1, windows).mean(dim=1)
        mean = each.mean(dim=1)
        if place is None:
            return _findings(mean), log_odds
        top_left, top_right, bottom_left, bottom_right = each[..., _PLACED, None, None].unbind(dim=1)
        down = (bottom_left + bottom_right - top_left - top_right) / 2
        across = (top_right + bottom_right - top_left - bottom_left) / 2
        of_all = _findings(mean)[..., None, None]
        here = of_all[:, _PLACED] + down * place[:, :1] + across * place[:, 1:]
        everywhere = of_all.expand(-1, -1, *place.shape[2:])
        findings = torch.cat([everywhere[:, : _PLACED.start], here, everywhere[:, _PLACED.stop :]], dim=1)
        return findings, log_odds

    def forward(self, picture: Tensor) -> Tensor:
        """The findings as training has them: logits in the place of shares and probability."""
        return self.think_of(self.features(picture))

    def features(self, picture: Tensor) -> Tensor:
        """Mean, RMS and greatest of what is seen at each scale, float32 (N, 3 x seen x scales)."""
        seen: list[Tensor] = []
        x = self.head(picture)
        for scale, (blocks, see) in enumerate(zip(self.blocks, self.see, strict=True)):
            x = blocks(self.down[scale - 1](x) if scale else x)
            features = torch.relu(see(x)).float()
            mean_square = (features * features).mean(dim=(2, 3))
            # The greatest too: under a veil it is nowhere dark.
            greatest = features.amax(dim=(2, 3))
            seen += [features.mean(dim=(2, 3)), torch.sqrt(mean_square + 1e-6), greatest]
        return torch.cat(seen, dim=1)

    def think_of(self, features: Tensor) -> Tensor:
        """The findings, of what was seen, as `forward` has them."""
        thought = features
        for think in self.think:
            thought = functional.silu(think(thought))
        found: Tensor = self.find(thought).float()
        return found


def findings_of_patches(survey: Survey, overview: Tensor, place: Tensor) -> Tensor:
    """Of equally many patches of each of N scenes, as a network is told them, one patch after the other.

    `overview` has windows of the scenes, (N, 3 x windows, H, W), and `place` where the cells of the patches
    lie in them, (N, patches, 2, rows, columns).
    """
    patches = place.shape[1]
    if overview.shape[1] // 3 != QUARTERS:
        return survey.findings(overview).repeat_interleave(patches, dim=0)
    # All patches of a scene as one, as high as all of them.
    findings = survey.findings(overview, place.transpose(1, 2).flatten(2, 3))
    of_each: Tensor = findings.unflatten(2, (patches, -1))
    return of_each.transpose(1, 2).flatten(0, 1)


def _findings(found: Tensor) -> Tensor:
    """Of what `Survey` returns, (N, FINDINGS)."""
    shares = _SHARES_GAIN * functional.softmax(found[:, _LEANS], dim=1)
    return torch.cat([shares, found[:, _MEASURED], torch.sigmoid(found[:, -1:])], dim=1)


def facts(layers: Sequence[Layer], rainy: Picture, clean: Picture) -> FloatArray:
    """What is to be found, float32 (FINDINGS,): of layers of rain, weighed by how much is seen of them."""
    weights = np.array([max(layer.mean * layer.brightness, 1e-6) for layer in layers])
    shares = np.zeros(len(LEANS_DEG))
    measures = np.zeros(_MEASURES)
    for layer, weight in zip(layers, weights / weights.sum(), strict=True):
        near = np.exp(-0.5 * ((LEANS_DEG - layer.fall.angle_deg) / _LEAN_SIGMA_DEG) ** 2)
        shares += weight * near / near.sum()
        measures[:6] += weight * np.array(
            [
                np.log(layer.fall.length_px / 30),
                np.log(layer.fall.sigma_px),
                np.log(2 * layer.brightness),
                np.log10(max(layer.cover, 1e-4)),
                isinstance(layer, Sheet),
                not isinstance(layer, Sheet) and layer.hardness is not None,
            ]
        )
    difference = np.subtract(rainy, clean, dtype=np.float32) / 255
    measures[6] = np.log10(max(sum(layer.mean for layer in layers), 1e-4))
    measures[7] = 5 * difference.mean()
    is_seen = np.square(difference).mean() > 10 ** (-_SEEN_PSNR_DB / 10)
    return np.concatenate([shares, measures, [is_seen]]).astype(np.float32)


def survey_errors(evidence: Tensor, expected: Tensor) -> Tensor:
    """Each picture's own, (N,): where there is rain, what it is; and whether there is.

    The divergence of the shares (Kullback and Leibler), squared errors of the measures, cross entropy.
    """
    evidence = evidence.float()
    shares, is_seen = expected[:, _LEANS], expected[:, -1]
    divergence = functional.kl_div(
        functional.log_softmax(evidence[:, _LEANS], dim=1), shares, reduction="none"
    ).sum(dim=1)
    squares = (evidence[:, _MEASURED] - expected[:, _MEASURED]).square()
    squares = squares[:, :-1].sum(dim=1) + _BRIGHTER_GAIN * squares[:, -1]
    doubt = functional.binary_cross_entropy_with_logits(evidence[:, -1], is_seen, reduction="none")
    return is_seen * (divergence + squares) + 0.5 * doubt
