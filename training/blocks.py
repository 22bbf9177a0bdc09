"""What the networks are built of."""

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions that add to their input.

    `told` numbers of each place scale and shift the channels between them (FiLM: Perez et al., "FiLM:
    Visual reasoning with a general conditioning layer", AAAI 2018); at first they change nothing. A place is
    a square of `place_cells` x `place_cells` cells.
    """

    def __init__(self, channels: int, dilation: int = 1, told: int = 0, place_cells: int = 1) -> None:
        super().__init__()
        self.widen = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.refine = nn.Conv2d(channels, channels, 3, padding=1)
        # Two convolutions, as onnxruntime has no halves of the channels in its blocked layout.
        self.scale, self.shift = (_saying(told, channels, each) if told else None for each in (1.0, 0.0))
        self.place_cells = place_cells

    def forward(self, x: Tensor, told: Tensor | None = None) -> Tensor:
        """As `x`, (N, channels, H, W), which is told (N, told, H / place_cells, W / place_cells)."""
        widened = self.widen(x)
        if self.scale is not None and self.shift is not None and told is not None:
            widened = widened * self._enlarge(self.scale(told)) + self._enlarge(self.shift(told))
        refined: Tensor = self.refine(torch.relu(widened))
        return x + refined

    def _enlarge(self, said: Tensor) -> Tensor:
        if self.place_cells == 1:
            return said
        return nn.functional.interpolate(said, scale_factor=float(self.place_cells), mode="nearest")


def _saying(told: int, channels: int, number: float) -> nn.Conv2d:
    """What says the same number of everything, whatever it is told."""
    says = nn.Conv2d(told, channels, 1)
    assert says.bias is not None
    nn.init.zeros_(says.weight)
    nn.init.constant_(says.bias, number)
    return says
