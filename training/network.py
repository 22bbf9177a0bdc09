"""The deraining network: a U-shape of plain 3x3 convolutions, local by construction.

Nothing in it looks at the whole picture (no pooling to a point, no normalisation, no attention),
so an output pixel depends on a bounded neighbourhood of input pixels and a picture can be
processed in tiles with the same result. What rain it is they are told by a `Survey` of parts of the
picture: all alike, or each place of its own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, cast

import torch
from torch import Tensor, nn

from derain.arrays import Picture, quantise
from derain.engine import network_inputs
from derain.manifest import InputContract, Overview
from training.blocks import ResidualBlock
from training.survey import FINDINGS, ONE_WINDOW, Look, Survey

_KNOWN = 64  # numbers that blocks are told, made of the survey's findings

# Of the log-odds that there is rain: up to the first nothing is taken off a picture, from the second on all
# that a network would (docs/models/README.md has what they are of pictures with and without).
_DRY, _RAINY = -1.3, -1.0


# From a scale to the next finer one: each cell's value four times, or four values of its own, which costs
# onnxruntime more on a CPU, as it has to leave the blocked layout of its convolutions for that.
Upsampling = Literal["nearest", "shuffle"]


@dataclass(frozen=True)
class NetworkShape:
    """The size of a `DerainNetwork`: all that is needed to build one.

    Its scales are a half, a quarter, an eighth of the input, and so on. At each the channels
    double, so that a convolution costs the same at all.
    """

    width: int = 32  # channels at half resolution
    blocks: tuple[int, ...] = (1, 1)  # at each scale but the coarsest, on the way up
    blocks_down: tuple[int, ...] | None = None  # and on the way down; None: as many
    dilations: tuple[int, ...] = (1, 2, 2, 1)  # one residual block at the coarsest scale each
    upsampling: Upsampling = "nearest"
    is_told: bool = False  # of the survey's findings

    @property
    def down(self) -> tuple[int, ...]:
        """Blocks at each scale but the coarsest, on the way down."""
        return self.blocks if self.blocks_down is None else self.blocks_down

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
        for scale, (down, up) in enumerate(zip(self.down, self.blocks, strict=True)):
            reach_px += 2 ** (scale + 1) * 2 * (down + up)  # two convolutions a block
        coarse_cells = sum(dilation + 1 for dilation in self.dilations)
        # The cell an output pixel lies in reaches up to (alignment_px - 1) pixels further.
        return reach_px + self.alignment_px * coarse_cells + self.alignment_px - 1


class DerainNetwork(nn.Module):
    """Rainy picture to clean picture, both float (N, 3, H, W) in [0, 1].

    H and W are multiples of the shape's `alignment_px`. One that is told takes the findings of a `Survey`
    too, of the whole picture, (N, FINDINGS), or of each cell of the coarsest scale, (N, FINDINGS, rows,
    columns). The last layer starts at zero, so an untrained network returns its input.
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        widths = shape.widths
        known = _KNOWN if shape.is_told else 0
        self.shuffle = nn.PixelShuffle(2)
        # A 3x3 convolution over cells of 2x2 pixels.
        self.head = nn.Conv2d(3, widths[0], 6, stride=2, padding=2)
        self.encode = _scales(shape, shape.down, known)
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths))
        self.context = nn.ModuleList(ResidualBlock(widths[-1], d, known) for d in shape.dilations)
        values = 4 if shape.upsampling == "shuffle" else 1
        self.up = nn.ModuleList(nn.Conv2d(coarse, fine * values, 1) for fine, coarse in pairwise(widths))
        self.decode = _scales(shape, shape.blocks, known)
        self.tail = nn.Conv2d(widths[0], 3 * 4, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        assert self.tail.bias is not None
        nn.init.zeros_(self.tail.bias)
        self.know = nn.ModuleList()
        if shape.is_told:
            self.know = nn.ModuleList([nn.Conv2d(FINDINGS, _KNOWN, 1), nn.Conv2d(_KNOWN, _KNOWN, 1)])

    @property
    def ends(self) -> Sequence[nn.Module]:
        """What the optimiser of the inner convolutions leaves alone."""
        blocks = (block for block in self.modules() if isinstance(block, ResidualBlock))
        told = (each for block in blocks for each in (block.scale, block.shift) if each is not None)
        return [self.head, self.tail, *self.know, *told]

    def forward(self, rainy: Tensor, findings: Tensor | None = None) -> Tensor:
        clean: Tensor = rainy + self.shuffle(self.change(rainy, findings))
        return clean

    def change(self, rainy: Tensor, findings: Tensor | None = None) -> Tensor:
        """What is added to the picture, in cells of 2x2 pixels: (N, 12, H/2, W/2)."""
        known = self._known(findings, rainy) if findings is not None else None
        x = self.head(rainy)  # (N, width, H/2, W/2)
        skipped: list[Tensor] = []
        for encode, down in zip(self.encode, self.down, strict=True):
            x = _through(encode, x, known)
            skipped.append(x)
            x = down(x)  # (N, 2 width, H/4, W/4), ...
        x = _through(self.context, x, known)
        for decode, up in zip(reversed(self.decode), reversed(self.up), strict=True):
            x = _through(decode, skipped.pop() + self._enlarge(up(x)), known)
        change: Tensor = self.tail(x)
        return change

    def _enlarge(self, x: Tensor) -> Tensor:
        if self.shape.upsampling == "shuffle":
            shuffled: Tensor = self.shuffle(x)
            return shuffled
        return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")

    def _known(self, findings: Tensor, rainy: Tensor) -> Tensor:
        """Of each cell of the coarsest scale, (N, _KNOWN, rows, columns)."""
        are_of_all = findings.ndim == 2
        known = findings[..., None, None] if are_of_all else findings
        for know in self.know:
            known = nn.functional.silu(know(known))
        if are_of_all:
            rows, columns = (side // self.shape.alignment_px for side in rainy.shape[2:])
            known = known.expand(-1, -1, rows, columns)
        return known


class MeanNetwork(nn.Module):
    """What several networks of one shape return, averaged: each is wrong in places of its own.

    Takes and returns what they do.
    """

    def __init__(self, members: Sequence[DerainNetwork]) -> None:
        super().__init__()
        self.shape = members[0].shape
        self.members = nn.ModuleList(members)

    def forward(self, rainy: Tensor, findings: Tensor | None = None) -> Tensor:
        # One after the other, so that the insides of one at a time take memory.
        first, *others = cast(Iterable[DerainNetwork], self.members)
        change = first.change(rainy, findings)
        for member in others:
            change = change + member.change(rainy, findings)
        clean: Tensor = rainy + first.shuffle(change / len(self.members))
        return clean


class SurveyedNetwork(nn.Module):
    """A network and the survey that tells it what rain it is.

    Rainy picture, or a tile of one, float (N, 3, H, W) in [0, 1], and windows of that picture, (N, 3 x
    windows, H, W), to what is clean of the former. Sides of windows are multiples of the survey's alignment.
    With a window of each quarter of the picture it takes too where the cells of the coarsest scale lie in
    it, (N, 2, rows, columns), from -1 at the top and at the left to 1. A picture that looks dry to the survey
    comes back as it was: networks take thin light lines off it even when they are told so.
    """

    def __init__(self, survey: Survey, network: DerainNetwork | MeanNetwork, look: Look = ONE_WINDOW) -> None:
        super().__init__()
        self.shape = network.shape
        self.survey = survey
        self.network = network
        self.look = look

    def forward(self, rainy: Tensor, overview: Tensor, place: Tensor | None = None) -> Tensor:
        findings, log_odds = self.survey.look(overview, place)
        clean: Tensor = rainy + _share_taken(log_odds) * (self.network(rainy, findings) - rainy)
        return clean


Network = DerainNetwork | MeanNetwork | SurveyedNetwork


def input_contract(network: Network) -> InputContract:
    """What it takes, as a manifest says it."""
    overview = None
    if isinstance(network, SurveyedNetwork):
        alignment_px = network.survey.shape.alignment_px
        look = network.look
        overview = Overview(longest_px=look.longest_px, alignment_px=alignment_px, windows=look.windows)
    return InputContract(alignment_px=network.shape.alignment_px, overview=overview)


def _share_taken(log_odds: Tensor) -> Tensor:
    """Of what networks would take off, (N, 1, 1, 1), by the log-odds that there is rain at all, (N,)."""
    return ((log_odds - _DRY) / (_RAINY - _DRY)).clamp(0, 1)[:, None, None, None]


def _through(blocks: nn.Module, x: Tensor, known: Tensor | None) -> Tensor:
    for block in blocks.children():
        x = block(x, known)
    return x


def _scales(shape: NetworkShape, blocks: tuple[int, ...], known: int) -> nn.ModuleList:
    """The blocks of all scales but the coarsest. Those of the finest cost most, and need not be told."""
    return nn.ModuleList(
        nn.Sequential(*(_block(shape, scale, known) for _ in range(count)))
        for scale, count in enumerate(blocks)
    )


def _block(shape: NetworkShape, scale: int, known: int) -> ResidualBlock:
    place_cells = shape.alignment_px // 2 ** (scale + 1)
    return ResidualBlock(shape.widths[scale], told=known if scale else 0, place_cells=place_cells)


@torch.inference_mode()
def derain_picture(network: Network, picture: Picture) -> Picture:
    """A whole picture, uint8 (H, W, 3), through the network as it is: to watch a training by."""
    height, width = picture.shape[:2]
    device = next(network.parameters()).device
    inputs = network_inputs(picture, input_contract(network))
    clean = network(*(torch.from_numpy(values).to(device) for values in inputs))[0]
    return quantise(clean.permute(1, 2, 0).cpu().numpy())[:height, :width]
