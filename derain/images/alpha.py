"""Colours with transparency: multiplied by it or not, and laid over white."""

import numpy as np

from derain.arrays import AnyImage
from derain.images.coded import Samples


def unmultiplied(samples: Samples) -> Samples:
    """Colours of their own, where they were multiplied by alpha."""
    opaque = np.iinfo(samples.dtype).max
    result = samples.copy()
    for row in range(len(samples)):  # a row at a time takes little memory
        alpha = samples[row, :, -1:].astype(np.uint64)
        colours = (samples[row, :, :-1].astype(np.uint64) * opaque + alpha // 2) // np.maximum(alpha, 1)
        result[row, :, :-1] = np.minimum(colours, opaque)
    return result


def over_white(image: AnyImage, alpha: Samples) -> AnyImage:
    white = np.iinfo(image.dtype).max
    result = np.empty_like(image)
    for row in range(len(image)):  # a row at a time takes little memory
        opaque = alpha[row, :, None].astype(np.uint64)
        mixed = image[row] * opaque + white * (white - opaque)
        result[row] = (mixed + white // 2) // white
    return result
