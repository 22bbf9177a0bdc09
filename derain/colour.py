"""What the values of a picture mean: which code points are the usual colours, and gray in formats without."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from derain.errors import UnsupportedFormatError

# Of H.273: what every reader takes untold pictures for, or what differs from it by nothing that is seen.
_USUAL_PRIMARIES = {1, 2, 5, 6, 7}
_USUAL_TRANSFERS = {1, 2, 6, 13, 14, 15}


def check_code_points(primaries: int, transfer: int) -> None:
    """Raises UnsupportedFormatError for colours that nobody knows who does not know the code points."""
    if primaries not in _USUAL_PRIMARIES or transfer not in _USUAL_TRANSFERS:
        raise UnsupportedFormatError(
            f"its colours (code points {primaries}/{transfer}: HDR or wide gamut without an ICC profile) "
            "would not come back right: send it as sRGB, or with a profile"
        )


def gray_to_srgb(gray: NDArray[np.uint8], profile: bytes) -> NDArray[np.uint8] | None:
    """Gray (height, width) as sRGB (height, width, 3); None where its profile is damaged."""
    levels = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    try:
        # Level by level, and so without the short cuts by which shadows are some levels off.
        converted = ImageCms.profileToProfile(
            levels,
            io.BytesIO(profile),
            ImageCms.createProfile("sRGB"),
            outputMode="RGB",
            flags=ImageCms.Flags.NOOPTIMIZE,
        )
    except ImageCms.PyCMSError:
        return None
    assert converted is not None
    srgb: NDArray[np.uint8] = np.asarray(converted, np.uint8)[0][gray]
    return srgb
