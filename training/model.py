"""The whole model: an estimator of the rain, and an ensemble of derainers conditioned on what it finds.

They are trained side by side on one stream of samples. The derainers are told what the estimator says, right
or wrong, and learn how far to rely on it; their errors do not reach it, so that a descriptor stays what it is
named for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from derain.arrays import Image, channels_first, padded, to_uint8
from derain.inference.context import context_windows
from training.batches import Batch
from training.estimator import EstimatorShape, RainEstimator, describe, estimation_errors
from training.losses import Loss, patch_errors
from training.network import DerainNetwork, Ensemble, NetworkShape


@dataclass(frozen=True)
class ModelShape:
    """The size of a `DerainModel`."""

    network: NetworkShape
    members: int = 1  # networks of that shape, whose mean is the result
    estimator: EstimatorShape | None = None  # without one the networks are conditioned on nothing
    context_px: int = 256  # side of the windows that the estimator sees


class DerainModel(nn.Module):
    """Networks of a shape, with random weights."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        self.estimator = RainEstimator(shape.estimator) if shape.estimator is not None else None
        self.derainer = Ensemble([DerainNetwork(shape.network) for _ in range(shape.members)])

    @property
    def parts(self) -> list[RainEstimator | DerainNetwork]:
        """What is trained, each by an error of its own: the estimator first, where there is one."""
        estimators = [self.estimator] if self.estimator is not None else []
        return [*estimators, *self.derainer.networks]

    @property
    def ends(self) -> Sequence[nn.Module]:
        """What the optimiser of the inner convolutions leaves alone."""
        return [end for part in self.parts for end in part.ends]

    def errors(self, batch: Batch, loss: Loss) -> Tensor:
        """Of each sample of a batch as `Samples` makes it, and of each of `parts`: (N, parts)."""
        rainy, clean, *of_scene = batch
        rainy, clean = to_network(rainy), to_network(clean)
        errors, descriptor = [], None
        if self.estimator is not None:
            scene, facts = of_scene
            raw = self.estimator(to_network(scene))
            errors.append(estimation_errors(raw, facts))
            descriptor = describe(raw.detach())
        derained = (network(rainy, descriptor).float() for network in self.derainer.networks)
        errors += [patch_errors(each, clean, loss) for each in derained]
        return torch.stack(errors, dim=1)

    @torch.inference_mode()
    def descriptor(self, image: Image) -> Tensor | None:
        """Of an image, uint8 (H, W, 3): the mean over its context windows, (1, DESCRIPTOR)."""
        if self.estimator is None:
            return None
        alignment_px = self.estimator.shape.alignment_px
        windows = context_windows(image, self.shape.context_px)
        fed = np.stack([channels_first(padded(window, alignment_px)) for window in windows])
        raw = self.estimator(torch.from_numpy(fed).to(self._device))
        return describe(raw).mean(dim=0, keepdim=True)

    @torch.inference_mode()
    def derain(self, image: Image) -> Image:
        """A whole image, uint8 (H, W, 3), at its own scale: to watch a training by."""
        height, width = image.shape[:2]
        whole = channels_first(padded(image, self.shape.network.alignment_px))
        rainy = torch.from_numpy(whole[None]).to(self._device)
        clean: Tensor = self.derainer(rainy, self.descriptor(image))[0]
        return to_uint8(clean.permute(1, 2, 0).cpu().numpy())[:height, :width]

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device


def to_network(images: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) as the networks take it."""
    return images.to(torch.float32).div_(255).contiguous(memory_format=torch.channels_last)
