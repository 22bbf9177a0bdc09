"""The deraining network: two scales of plain 3x3 convolutions, local by construction.

Nothing in it looks at the whole picture (no pooling, no normalisation, no attention), so
an output pixel depends on a bounded neighbourhood of input pixels and a picture can be
processed in tiles with the same result.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from derain.arrays import Picture, fraction, quantise


@dataclass(frozen=True)
class NetworkShape:
    """The size of a `DerainNetwork`: all that is needed to build one."""

    width: int = 32  # channels at half resolution; twice as many at quarter resolution
    fine_blocks: int = 2  # residual blocks at half resolution, before and again after the coarse ones
    coarse_dilations: tuple[int, ...] = (1, 2, 2, 1)  # one residual block at quarter resolution each

    @property
    def alignment_px(self) -> int:
        """A cell at quarter resolution: a picture's sides must be multiples of it."""
        return 4

    @property
    def receptive_radius_px(self) -> int:
        """How far, in input pixels, the farthest pixel that an output pixel depends on can be."""
        fine_px, coarse_px = 2, 4  # the side of one cell at half and at quarter resolution
        fine_cells = 1 + 2 * (2 * self.fine_blocks) + 1  # head, both halves of the blocks, tail
        coarse_cells = sum(dilation + 1 for dilation in self.coarse_dilations)
        # The cell an output pixel lies in reaches up to (coarse_px - 1) pixels further.
        return fine_px * fine_cells + coarse_px * coarse_cells + coarse_px - 1


class ResidualBlock(nn.Module):
    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.widen = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.refine = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        refined: Tensor = self.refine(torch.relu(self.widen(x)))
        return x + refined


class DerainNetwork(nn.Module):
    """Rainy picture to clean picture, both float (N, 3, H, W) in [0, 1]; H and W multiples of 4.

    The last layer starts at zero, so an untrained network returns its input.
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        fine, coarse = shape.width, 2 * shape.width
        self.shuffle = nn.PixelShuffle(2)
        # A 3x3 convolution over cells of 2x2 pixels.
        self.head = nn.Conv2d(3, fine, 6, stride=2, padding=2)
        self.encode = nn.Sequential(*(ResidualBlock(fine) for _ in range(shape.fine_blocks)))
        self.down = nn.Conv2d(fine, coarse, 2, stride=2)
        self.context = nn.Sequential(*(ResidualBlock(coarse, d) for d in shape.coarse_dilations))
        self.up = nn.Conv2d(coarse, fine * 4, 1)
        self.decode = nn.Sequential(*(ResidualBlock(fine) for _ in range(shape.fine_blocks)))
        self.tail = nn.Conv2d(fine, 3 * 4, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        assert self.tail.bias is not None
        nn.init.zeros_(self.tail.bias)

    def forward(self, rainy: Tensor) -> Tensor:
        fine = self.encode(self.head(rainy))  # (N, width, H/2, W/2)
        coarse = self.context(self.down(fine))  # (N, 2 width, H/4, W/4)
        fine = self.decode(fine + self.shuffle(self.up(coarse)))
        clean: Tensor = rainy + self.shuffle(self.tail(fine))
        return clean


@torch.inference_mode()
def derain_picture(network: DerainNetwork, picture: Picture) -> Picture:
    """A whole picture, uint8 (H, W, 3), through the network as it is: to watch a training by."""
    height, width = picture.shape[:2]
    alignment_px = network.shape.alignment_px
    missing = [(0, -height % alignment_px), (0, -width % alignment_px), (0, 0)]
    padded = np.pad(picture, missing, mode="edge")
    rainy = torch.from_numpy(fraction(padded.transpose(2, 0, 1)[None]))
    clean = network(rainy.to(next(network.parameters()).device))[0]
    return quantise(clean.permute(1, 2, 0).cpu().numpy())[:height, :width]
