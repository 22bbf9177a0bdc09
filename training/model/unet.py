"""The deraining network: a U-Net of plain 3x3 convolutions, local by construction.

Nothing in it looks at the whole image (no pooling to a point, no normalisation, no attention), so an output
pixel depends on a bounded neighbourhood of input pixels, and an image can be processed in tiles with the
same result. It is conditioned on the rain of the whole image, which a `RainEstimator` finds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

from torch import Tensor, nn

from training.model.blocks import ResidualBlock
from training.rain.descriptor import DESCRIPTOR

_CONDITIONS = 64  # channels that residual blocks are conditioned on, made of the rain descriptor


@dataclass(frozen=True)
class NetworkShape:
    """The size of a `DerainNetwork`: all that is needed to build one.

    Its scales are a half, a quarter, an eighth of the input, and so on. At each the channels double, so that
    a convolution costs the same at all.
    """

    width: int = 32  # channels at half resolution
    blocks: tuple[int, ...] = (1, 1)  # at each scale but the coarsest, on the way down and on the way up
    dilations: tuple[int, ...] = (1, 2, 2, 1)  # one residual block at the coarsest scale each
    conditioned: bool = False  # on a rain descriptor

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at each scale."""
        return tuple(self.width * 2**scale for scale in range(len(self.blocks) + 1))

    @property
    def alignment_px(self) -> int:
        """A cell at the coarsest scale: an image's sides must be multiples of it."""
        return int(2 ** len(self.widths))

    @property
    def receptive_radius_px(self) -> int:
        """How far, in input pixels, the farthest pixel that an output pixel depends on can be."""
        reach_px = 2 * (1 + 1)  # head and tail, by a cell of half resolution each
        for scale, count in enumerate(self.blocks):
            reach_px += 2 ** (scale + 1) * 2 * 2 * count  # two convolutions a block, down and up
        coarse_cells = sum(dilation + 1 for dilation in self.dilations)
        # The cell an output pixel lies in reaches up to (alignment_px - 1) pixels further.
        return reach_px + self.alignment_px * coarse_cells + self.alignment_px - 1


class DerainNetwork(nn.Module):
    """Rainy image to clean image, both float (N, 3, H, W) in [0, 1].

    H and W are multiples of the shape's `alignment_px`. A conditioned one takes the rain descriptor of the
    whole image too, (N, DESCRIPTOR). The last layer starts at zero, so an untrained network returns its
    input.
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        widths = shape.widths
        self.shuffle = nn.PixelShuffle(2)
        # A 3x3 convolution over cells of 2x2 pixels.
        self.head = nn.Conv2d(3, widths[0], 6, stride=2, padding=2)
        self.encode = _scales(shape)
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths))
        conditions = _CONDITIONS if shape.conditioned else 0
        self.context = nn.ModuleList(ResidualBlock(widths[-1], d, conditions) for d in shape.dilations)
        self.up = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(widths))
        self.decode = _scales(shape)
        self.tail = nn.Conv2d(widths[0], 3 * 4, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        assert self.tail.bias is not None
        nn.init.zeros_(self.tail.bias)
        self.condition = nn.ModuleList()
        if shape.conditioned:
            layers = (nn.Conv2d(DESCRIPTOR, _CONDITIONS, 1), nn.Conv2d(_CONDITIONS, _CONDITIONS, 1))
            self.condition = nn.ModuleList(layers)

    @property
    def ends(self) -> Sequence[nn.Module]:
        """What the optimizer of the inner convolutions leaves alone."""
        blocks = (block for block in self.modules() if isinstance(block, ResidualBlock))
        films = (each for block in blocks for each in (block.scale, block.shift) if each is not None)
        return [self.head, self.tail, *self.condition, *films]

    def forward(self, rainy: Tensor, descriptor: Tensor | None = None) -> Tensor:
        clean: Tensor = rainy + self.shuffle(self.change(rainy, descriptor))
        return clean

    def change(self, rainy: Tensor, descriptor: Tensor | None = None) -> Tensor:
        """What is added to the image, in cells of 2x2 pixels: (N, 12, H/2, W/2)."""
        condition = self._condition(descriptor, rainy) if descriptor is not None else None
        x = self.head(rainy)  # (N, width, H/2, W/2)
        skipped: list[Tensor] = []
        for encode, down in zip(self.encode, self.down, strict=True):
            x = _through(encode, x, condition)
            skipped.append(x)
            x = down(x)  # (N, 2 width, H/4, W/4), ...
        x = _through(self.context, x, condition)
        for decode, up in zip(reversed(self.decode), reversed(self.up), strict=True):
            enlarged = nn.functional.interpolate(up(x), scale_factor=2.0, mode="nearest")
            x = _through(decode, skipped.pop() + enlarged, condition)
        change: Tensor = self.tail(x)
        return change

    def _condition(self, descriptor: Tensor, rainy: Tensor) -> Tensor:
        """Of each cell of the coarsest scale, all alike: (N, _CONDITIONS, rows, columns).

        Spelt out, since onnxruntime leaves the blocked layout of its convolutions to broadcast.
        """
        condition = descriptor[..., None, None]
        for layer in self.condition:
            condition = nn.functional.silu(layer(condition))
        rows, columns = (side // self.shape.alignment_px for side in rainy.shape[2:])
        return condition.expand(-1, -1, rows, columns)


class Ensemble(nn.Module):
    """The mean of several networks of one shape: each is wrong in places of its own.

    Takes and returns what they do.
    """

    def __init__(self, networks: Sequence[DerainNetwork]) -> None:
        super().__init__()
        self.shape = networks[0].shape
        self.members = nn.ModuleList(networks)  # so named in checkpoints and ONNX files

    def forward(self, rainy: Tensor, descriptor: Tensor | None = None) -> Tensor:
        # One after the other, so that the features of one at a time take memory.
        first, *others = self.networks
        change = first.change(rainy, descriptor)
        for network in others:
            change = change + network.change(rainy, descriptor)
        clean: Tensor = rainy + first.shuffle(change / len(self.members))
        return clean

    @property
    def networks(self) -> list[DerainNetwork]:
        return list(cast(Iterable[DerainNetwork], self.members))


def _through(blocks: nn.Module, x: Tensor, condition: Tensor | None) -> Tensor:
    for block in blocks.children():
        x = block(x, condition)
    return x


def _scales(shape: NetworkShape) -> nn.ModuleList:
    """The blocks of all scales but the coarsest. Those of the finest cost most, and need no condition."""
    return nn.ModuleList(
        nn.Sequential(*(_block(shape, scale) for _ in range(count)))
        for scale, count in enumerate(shape.blocks)
    )


def _block(shape: NetworkShape, scale: int) -> ResidualBlock:
    cells = shape.alignment_px // 2 ** (scale + 1)
    conditions = _CONDITIONS if shape.conditioned and scale else 0
    return ResidualBlock(shape.widths[scale], conditions=conditions, cells=cells)
