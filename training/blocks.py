"""What the networks are built of."""

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions that add to their input.

    `told` numbers scale and shift the channels between them (FiLM: Perez et al., "FiLM: Visual reasoning
    with a general conditioning layer", AAAI 2018); at first they change nothing.
    """

    def __init__(self, channels: int, dilation: int = 1, told: int = 0) -> None:
        super().__init__()
        self.widen = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.refine = nn.Conv2d(channels, channels, 3, padding=1)
        self.listen = nn.Linear(told, 2 * channels) if told else None
        if self.listen is not None:
            nn.init.zeros_(self.listen.weight)
            nn.init.zeros_(self.listen.bias)

    def forward(self, x: Tensor, told: Tensor | None = None) -> Tensor:
        widened = self.widen(x)
        if self.listen is not None and told is not None:
            scale, shift = self.listen(told)[..., None, None].chunk(2, dim=1)
            widened = widened * (1 + scale) + shift
        refined: Tensor = self.refine(torch.relu(widened))
        return x + refined
