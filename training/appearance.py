"""What of a picture tells a veil from a pale scene, as plain statistics.

A veil leaves nothing dark (He, Sun and Tang, "Single image haze removal using dark channel prior", 2009), and
lifts a picture without touching what is fine in it. Streaks leave that lopsided, rain that closes does not.
Of what it sees, a survey keeps means and extremes: distributions are not among them, so it is given these.
"""

import torch
from torch import Tensor
from torch.nn import functional

# Of the dark channel, 1 is white: closer where it is dark.
_LEVELS = (0.01, 0.02, 0.04, 0.06, 0.09, 0.13, 0.18, 0.24, 0.32, 0.42, 0.55, 0.7)
_MOMENTS = 6  # of each scale of details
_COLOURS = 6


def appearance_count(scales: int) -> int:
    """How many numbers `appearance` gives."""
    return (scales + 2) * len(_LEVELS) + scales * _MOMENTS + _COLOURS


def appearance(picture: Tensor, scales: int) -> Tensor:
    """Statistics of pictures, float (N, 3, H, W) in [0, 1], to float32 (N, appearance_count(scales)).

    H and W are multiples of 2**scales. In this order: how dark the darkest channel is, single pixels and
    minima over cells of 2, 4 and so on up to 2**scales pixels and over three by three of those; deviation,
    mean, skewness, kurtosis and gradients of the details of each scale; means and deviations of the channels.
    """
    picture = picture.float()
    grey = picture.mean(dim=1, keepdim=True)
    dark = picture.amin(dim=1, keepdim=True)
    found = [_darkness(dark[..., ::4, ::4])]
    details: list[Tensor] = []
    for _ in range(scales):
        dark = _minimum(dark, 2, stride=2)
        found.append(_darkness(dark))
        cells = functional.pixel_unshuffle(grey, 2)
        grey = cells.mean(dim=1, keepdim=True)
        details.append(_moments(cells, grey))
    found.append(_darkness(_minimum(dark, 3, stride=1, padding=1)))
    mean = picture.mean(dim=(2, 3))
    deviation = (picture - mean[..., None, None]).square().mean(dim=(2, 3)).add(1e-6).sqrt()
    return torch.cat([*found, *details, mean, 4 * deviation], dim=1)


def _minimum(dark: Tensor, side: int, stride: int, padding: int = 0) -> Tensor:
    return -functional.max_pool2d(-dark, side, stride, padding)


def _darkness(dark: Tensor) -> Tensor:
    """By how much it is under each level, as a share of it: (N, 1, H, W) to (N, levels)."""
    levels = torch.tensor(_LEVELS, device=dark.device).reshape(1, -1, 1)
    return torch.relu(1 - dark.flatten(2) / levels).mean(dim=2)


def _moments(cells: Tensor, mean: Tensor) -> Tensor:
    """Of what pixels differ by from the mean of their cell: (N, 4, H, W) and (N, 1, H, W) to (N, 6)."""
    differences = cells - mean
    variance = differences.square().mean(dim=(1, 2, 3)) + 1e-7
    unit = differences / variance.sqrt()[:, None, None, None]
    across = (cells[:, 1] - cells[:, 0]).abs().mean(dim=(1, 2))
    along = (cells[:, 2] - cells[:, 0]).abs().mean(dim=(1, 2))
    return torch.stack(
        [
            0.25 * variance.log() + 2,
            0.5 * (differences.abs().mean(dim=(1, 2, 3)) + 1e-4).log() + 2,
            (unit.pow(3).mean(dim=(1, 2, 3)) / 2).clamp(-4, 4),
            unit.pow(4).mean(dim=(1, 2, 3)).add(1).log() - 1,
            0.5 * (across + 1e-4).log() + 2,
            0.5 * (along + 1e-4).log() + 2,
        ],
        dim=1,
    )
