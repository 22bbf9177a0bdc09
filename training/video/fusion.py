"""The temporal network: says of each pixel how much to take from which of a few images of it.

Its result is a mean with weights that it finds, so it cannot invent anything. The images are those of
`derain.video.choices`: the frame itself, derained and as it came, and what it and its neighbours agree on.
"""

import torch
from torch import Tensor, nn

from derain.video.choices import CELL_PX, CHANNELS, CHOICES
from training.model.blocks import ResidualBlock

_OWN_AT_FIRST = 3.0  # logarithm of how much more is taken from the frame itself than from any other


class FusionNetwork(nn.Module):
    """Takes what `derain.video.choices.features` finds of the choices, float (N, CHANNELS, rows, columns).

    Returns the weights of the choices, (N, CHOICES, rows, columns), together 1. Rows and columns are
    multiples of `alignment`.
    """

    alignment = 2

    def __init__(self, width: int = 32, coarse_width: int = 48, blocks: int = 2) -> None:
        super().__init__()
        self.head = nn.Conv2d(CHANNELS, width, 3, padding=1)
        self.down = nn.Conv2d(width, coarse_width, 2, stride=2)
        self.context = nn.ModuleList(ResidualBlock(coarse_width) for _ in range(blocks))
        self.up = nn.Conv2d(coarse_width, width, 1)
        self.refine = nn.Conv2d(width, width, 3, padding=1)
        self.tail = nn.Conv2d(width, CHOICES, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        assert self.tail.bias is not None
        nn.init.zeros_(self.tail.bias)
        self.tail.bias.data[0] = _OWN_AT_FIRST

    @property
    def receptive_radius(self) -> int:
        """How far, in cells, the farthest one that a weight depends on can be."""
        coarse = 2 * 2 * len(self.context)
        return coarse + 1 + 1 + 1 + self.alignment - 1

    def forward(self, features: Tensor) -> Tensor:
        x = torch.relu(self.head(features))
        coarse = self.down(x)
        for block in self.context:
            coarse = block(coarse)
        x = x + nn.functional.interpolate(self.up(coarse), scale_factor=2.0, mode="nearest")
        favour: Tensor = self.tail(torch.relu(self.refine(x)))
        return torch.softmax(favour, dim=1)


def mean_of(images: Tensor, weights: Tensor) -> Tensor:
    """`derain.video.choices.mean` of tensors: (N, 3 CHOICES, H, W) and weights of cells to (N, 3, H, W)."""
    large = nn.functional.interpolate(weights, scale_factor=float(CELL_PX), mode="bilinear")
    chosen = images.unflatten(1, (CHOICES, 3)) * large[:, :, None]
    total: Tensor = chosen.sum(dim=1)
    return total
