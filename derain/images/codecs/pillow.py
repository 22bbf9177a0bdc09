"""Reading and writing by Pillow."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
from PIL import Image as PilImage
from PIL import UnidentifiedImageError

from derain.errors import CorruptImageError, UnsupportedFormatError
from derain.images.coded import Samples
from derain.images.formats import ImageFormat

Info = dict[str | tuple[int, int], Any]  # what Pillow says of a file

SEVERAL = "several frames or pages: send them one by one as still images"

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
    """Width and height; raises CorruptImageError, and UnsupportedFormatError for more than one frame."""
    try:
        with _opened(data, image_format) as image:
            if getattr(image, "is_animated", False):
                raise UnsupportedFormatError(SEVERAL)
            return image.size
    except UnidentifiedImageError as error:  # its words are about our buffer
        raise CorruptImageError(f"the {image_format.name} image's header is damaged") from error


def read(data: bytes, image_format: ImageFormat) -> tuple[Samples, Info]:
    """The samples, and what Pillow says of the file."""
    try:
        with _opened(data, image_format) as image:
            image.load()
            plain = image.convert(_PLAIN_MODES[image.mode]) if image.mode in _PLAIN_MODES else image
            return np.asarray(plain), image.info
    except UnidentifiedImageError as error:
        name = image_format.name
        raise UnsupportedFormatError(f"a {name} of this kind is not supported, or it is damaged") from error


@contextmanager
def _opened(data: bytes, image_format: ImageFormat) -> Iterator[PilImage.Image]:
    with _unlimited, PilImage.open(io.BytesIO(data), formats=[image_format.name]) as image:
        yield image


class _Unlimited:
    """Pillow's limit of pixels is lifted as long as a thread of ours is inside.

    It is for the whole process, and our caller's to set; what is read here was checked by `read_header`.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._limit: int | None = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._limit, PilImage.MAX_IMAGE_PIXELS = PilImage.MAX_IMAGE_PIXELS, None
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                PilImage.MAX_IMAGE_PIXELS = self._limit


_unlimited = _Unlimited()


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
