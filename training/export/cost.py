"""What a model costs a pixel."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from derain.inference.context import context_windows
from training.model.derain_model import DerainModel
from training.rain.descriptor import DESCRIPTOR

_COSTED_PX = (320, 480)  # of larger images the estimator is a smaller part


@torch.inference_mode()
def kmac_per_pixel(model: DerainModel) -> float:
    """Thousands of multiply-adds that an input pixel of 480 x 320 costs in the convolutions.

    Of 1x1 convolutions of what is the same everywhere too, though onnxruntime is done with those at once.
    """
    height, width = _COSTED_PX
    total = multiply_adds(model.derainer, torch.rand(1, 3, height, width), torch.rand(1, DESCRIPTOR))
    if model.estimator is not None:
        windows = context_windows(np.zeros((height, width, 3), np.uint8), model.shape.context_px)
        shape = windows[0].shape[:2]
        total += multiply_adds(model.estimator, torch.rand(len(windows), 3, *shape))
    return total / (height * width) / 1000


def multiply_adds(network: nn.Module, *inputs: Tensor) -> int:
    """In the convolutions."""
    total = 0

    def count(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        total += module.weight.numel() * output.shape[0] * output.shape[-2] * output.shape[-1]

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d)]
    network(*inputs)
    for hook in hooks:
        hook.remove()
    return total
