"""Reading and writing by Pillow.

Its plugins are called by name, not by `Image.open`: that one has a limit of pixels for the whole process,
which is our caller's to set. `read_header` has checked the size before anything is decoded.
"""

import io
import os
from typing import Any, BinaryIO

import numpy as np
from PIL import Image as PilImage
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from derain.errors import CorruptImageError, UnsupportedFormatError
from derain.images.coded import Samples
from derain.images.formats import AVIF, BMP, TIFF, WEBP, ImageFormat

Info = dict[str | tuple[int, int], Any]  # what Pillow says of a file

SEVERAL = "several frames or pages: send them one by one as still images"

_PLUGINS: dict[str, type[ImageFile]] = {
    AVIF.name: AvifImageFile,
    BMP.name: BmpImageFile,
    TIFF.name: TiffImageFile,
    WEBP.name: WebPImageFile,
}
_PLAIN_MODES = {
    "1": "L",
    "P": "RGB",
    "PA": "RGBA",
    "La": "LA",
    "RGBa": "RGBA",
    "RGBX": "RGB",
    "YCbCr": "RGB",
}


def read_size(data: bytes, image_format: ImageFormat) -> tuple[int, int]:
    """Width and height; raises UnsupportedFormatError for more than one frame."""
    try:
        image = _PLUGINS[image_format.name](io.BytesIO(data))
    except SyntaxError as error:  # as plugins say that they do not know it
        raise CorruptImageError(f"the {image_format.name} image's header is damaged") from error
    with image:
        if getattr(image, "is_animated", False):
            raise UnsupportedFormatError(SEVERAL)
        return image.size


def read(data: bytes, image_format: ImageFormat) -> tuple[Samples, Info]:
    """The samples, and what Pillow says of the file."""
    try:
        image = _PLUGINS[image_format.name](io.BytesIO(data))
    except SyntaxError as error:
        name = image_format.name
        raise UnsupportedFormatError(f"a {name} of this kind is not supported, or it is damaged") from error
    with image:
        image.load()
        plain = image.convert(_PLAIN_MODES[image.mode]) if image.mode in _PLAIN_MODES else image
        return np.asarray(plain), image.info


def write(samples: Samples, image_format: ImageFormat, **options: Any) -> bytes:
    """Samples of 8 bits, (height, width, 1, 3 or 4); what is None or empty is left out."""
    image = PilImage.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    with _file_in_memory() as file:
        image.save(file, image_format.name, **{name: value for name, value in options.items() if value})
        file.seek(0)
        return file.read()


def _file_in_memory() -> BinaryIO:
    """With a descriptor, where the system has such: then Pillow lets other threads run while it encodes."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("image"), "w+b")
    return io.BytesIO()
