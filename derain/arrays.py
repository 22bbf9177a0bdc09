"""The arrays that pictures are, and the two steps between bytes and numbers."""

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]  # RGB, (height, width, 3)
FloatArray = NDArray[np.float32]


def fraction(picture: Picture) -> FloatArray:
    """0 to 255 becomes 0 to 1."""
    return np.divide(picture, 255, dtype=np.float32)


def quantise(picture: FloatArray) -> Picture:
    """0 to 1 becomes 0 to 255, rounded, clipped."""
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
