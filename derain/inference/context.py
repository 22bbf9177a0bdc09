"""Windows of an image, by which its rain is estimated: a few parts of it, spread evenly."""

from typing import cast

import numpy as np

from derain.arrays import SameImage

_MAX_A_SIDE = 3


def context_windows(image: SameImage, side_px: int) -> list[SameImage]:
    """Views of the image, each (height, width, 3), `side_px` a side or as much as there is of the image.

    One to three along each side of the image, as many as fit, so that a large image is not judged by its
    middle. They overlap where the image is not a multiple of them.
    """
    rows, columns = (_starts(length, side_px) for length in image.shape[:2])
    return [
        cast(SameImage, image[top : top + side_px, left : left + side_px]) for top in rows for left in columns
    ]


def _starts(length: int, side_px: int) -> list[int]:
    count = min(max(1, round(length / side_px)), _MAX_A_SIDE)
    middles = (np.arange(count) + 0.5) * length / count
    return [int(start) for start in np.clip(np.rint(middles - side_px / 2), 0, max(0, length - side_px))]
