"""Reading by OpenCV."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from derain.errors import CorruptImageError
from derain.images.coded import Samples


def read(data: bytes) -> Samples:
    """In RGB's order whatever OpenCV's is; raises CorruptImageError."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise CorruptImageError("the image is damaged or cut short")
    samples: NDArray[Any] = pixels
    if samples.ndim == 3:
        to_rgb = cv2.COLOR_BGRA2RGBA if samples.shape[2] == 4 else cv2.COLOR_BGR2RGB
        cv2.cvtColor(samples, to_rgb, samples)
    return samples
