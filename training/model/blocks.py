"""What the networks are built of."""

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions that add to their input.

    A condition of `conditions` channels scales and shifts the channels between them (FiLM: Perez et al.,
    "FiLM: Visual reasoning with a general conditioning layer", AAAI 2018); at first it changes nothing. The
    condition has a cell for each `cells` x `cells` cells of the input.
    """

    def __init__(self, channels: int, dilation: int = 1, conditions: int = 0, cells: int = 1) -> None:
        super().__init__()
        self.widen = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.refine = nn.Conv2d(channels, channels, 3, padding=1)
        # Two convolutions, as onnxruntime has no halves of the channels in its blocked layout.
        self.scale, self.shift = (
            _constant(conditions, channels, value) if conditions else None for value in (1.0, 0.0)
        )
        self.cells = cells

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """As `x`, (N, channels, H, W); the condition is (N, conditions, H / cells, W / cells)."""
        widened = self.widen(x)
        if self.scale is not None and self.shift is not None and condition is not None:
            widened = widened * self._enlarge(self.scale(condition)) + self._enlarge(self.shift(condition))
        refined: Tensor = self.refine(torch.relu(widened))
        return x + refined

    def _enlarge(self, values: Tensor) -> Tensor:
        if self.cells == 1:
            return values
        return nn.functional.interpolate(values, scale_factor=float(self.cells), mode="nearest")


def _constant(conditions: int, channels: int, value: float) -> nn.Conv2d:
    """A 1x1 convolution that starts as that constant, whatever the condition."""
    layer = nn.Conv2d(conditions, channels, 1)
    assert layer.bias is not None
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, value)
    return layer
