"""The deraining network: a U-shape of plain 3x3 convolutions, local by construction.

Nothing in it looks at the whole picture (no pooling to a point, no normalisation, no attention),
so an output pixel depends on a bounded neighbourhood of input pixels and a picture can be
processed in tiles with the same result.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from derain.arrays import Picture, fraction, quantise


@dataclass(frozen=True)
class NetworkShape:
    """The size of a `DerainNetwork`: all that is needed to build one.

    Its scales are a half, a quarter, an eighth of the input, and so on. At each the channels
    double, so that a convolution costs the same at all.
    """

    width: int = 32  # channels at half resolution
    blocks: tuple[int, ...] = (
        1,
        1,
    )  # at each scale but the coarsest, and again on the way up
    dilations: tuple[int, ...] = (1, 2, 2, 1)  # one residual block at the coarsest scale each

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at each scale."""
        return tuple(self.width * 2**scale for scale in range(len(self.blocks) + 1))

    @property
    def alignment_px(self) -> int:
        """A cell at the coarsest scale: a picture's sides must be multiples of it."""
        return int(2 ** len(self.widths))

    @property
    def receptive_radius_px(self) -> int:
        """How far, in input pixels, the farthest pixel that an output pixel depends on can be."""
        reach_px = 2 * (1 + 1)  # head and tail, by a cell of half resolution each
        for scale, blocks in enumerate(self.blocks):
            reach_px += 2 ** (scale + 1) * 2 * (2 * blocks)  # two convolutions a block, down and up
        coarse_cells = sum(dilation + 1 for dilation in self.dilations)
        # The cell an output pixel lies in reaches up to (alignment_px - 1) pixels further.
        return reach_px + self.alignment_px * coarse_cells + self.alignment_px - 1


class ResidualBlock(nn.Module):
    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.widen = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.refine = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        refined: Tensor = self.refine(torch.relu(self.widen(x)))
        return x + refined


class DerainNetwork(nn.Module):
    """Rainy picture to clean picture, both float (N, 3, H, W) in [0, 1].

    H and W are multiples of the shape's `alignment_px`. The last layer starts at zero, so an
    untrained network returns its input.
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        widths = shape.widths
        self.shuffle = nn.PixelShuffle(2)
        # A 3x3 convolution over cells of 2x2 pixels.
        self.head = nn.Conv2d(3, widths[0], 6, stride=2, padding=2)
        self.encode = nn.ModuleList(_blocks(*each) for each in zip(widths, shape.blocks, strict=False))
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths))
        self.context = nn.Sequential(*(ResidualBlock(widths[-1], d) for d in shape.dilations))
        self.up = nn.ModuleList(nn.Conv2d(coarse, fine * 4, 1) for fine, coarse in pairwise(widths))
        self.decode = nn.ModuleList(_blocks(*each) for each in zip(widths, shape.blocks, strict=False))
        self.tail = nn.Conv2d(widths[0], 3 * 4, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        assert self.tail.bias is not None
        nn.init.zeros_(self.tail.bias)

    def forward(self, rainy: Tensor) -> Tensor:
        x = self.head(rainy)  # (N, width, H/2, W/2)
        skipped: list[Tensor] = []
        for encode, down in zip(self.encode, self.down, strict=True):
            skipped.append(encode(x))
            x = down(skipped[-1])  # (N, 2 width, H/4, W/4), ...
        x = self.context(x)
        for decode, up in zip(reversed(self.decode), reversed(self.up), strict=True):
            x = decode(skipped.pop() + self.shuffle(up(x)))
        clean: Tensor = rainy + self.shuffle(self.tail(x))
        return clean


class MeanNetwork(nn.Module):
    """What several networks of one shape return, averaged: each is wrong in places of its own.

    Takes and returns what they do.
    """

    def __init__(self, members: Sequence[DerainNetwork]) -> None:
        super().__init__()
        self.shape = members[0].shape
        self.members = nn.ModuleList(members)

    def forward(self, rainy: Tensor) -> Tensor:
        # One after the other, so that the insides of one at a time take memory.
        total = self.members[0](rainy)
        for member in self.members[1:]:
            total = total + member(rainy)
        clean: Tensor = total / len(self.members)
        return clean


Network = DerainNetwork | MeanNetwork


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))


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
