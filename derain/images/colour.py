"""What the values of an image mean: which code points are the usual colours, and gray in formats without."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL import ImageCms

from derain.errors import UnsupportedFormatError
from derain.images.formats import PNG, ImageFormat

# Colour profiles with tables have up to 4 MB.
MAX_PROFILE_BYTES = 8_000_000

# Of H.273: what every reader takes untold images for, or what differs from it by nothing that is seen.
_USUAL_PRIMARIES = {1, 2, 5, 6, 7}
_USUAL_TRANSFERS = {1, 2, 6, 13, 14, 15}


def check_code_points(primaries: int, transfer: int) -> None:
    """Raises UnsupportedFormatError for colours that nobody knows who does not know the code points."""
    if primaries not in _USUAL_PRIMARIES or transfer not in _USUAL_TRANSFERS:
        raise UnsupportedFormatError(
            f"its colours (code points {primaries}/{transfer}: HDR or wide gamut without an ICC profile) "
            "would not come back right: send it as sRGB, or with a profile"
        )


def check_target(code_points: tuple[int, int] | None, target: ImageFormat) -> None:
    """Raises UnsupportedFormatError for colours that only PNG's chunk of code points can tell."""
    if code_points and target != PNG:
        check_code_points(*code_points)


def profile_fits(profile: bytes | None, is_gray: bool) -> bool:
    """An ICC profile of a gray or an RGB image, as the case may be."""
    if profile is None or not 128 <= len(profile) <= MAX_PROFILE_BYTES or profile[36:40] != b"acsp":
        return False
    return profile[16:20] == (b"GRAY" if is_gray else b"RGB ")


def gray_to_srgb(gray: NDArray[np.uint8], profile: bytes) -> NDArray[np.uint8] | None:
    """Gray (height, width) as sRGB (height, width, 3); None where its profile is damaged."""
    levels = PilImage.fromarray(np.arange(256, dtype=np.uint8)[None])
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
