"""Bytes to plain images and back: what training sees, and what it shows.

An image is RGB, uint8 (height, width, 3), upright: the EXIF orientation is applied when it
is read, and nothing of the file's metadata goes into what is written. `derain.images.photo` keeps more.
"""

from pathlib import Path

import cv2
import numpy as np

from derain.arrays import Image, to_8_bits
from derain.errors import CorruptImageError, EmptyImageError, ImageTooLargeError, UnsupportedFormatError
from derain.images.codecs import png
from derain.images.coded import Header
from derain.images.encoding import encode_photo
from derain.images.formats import (
    AVIF,
    HEIC,
    IMAGE_SUFFIXES,
    JPEG,
    PNG,
    ImageFormat,
)
from derain.images.header import DEFAULT_MAX_PIXELS, read_header
from derain.images.photo import Photo, decode_photo


def decode(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> tuple[Image, ImageFormat]:
    """The image, uint8 RGB (height, width, 3), upright, and the format it was in.

    Raises what `read_header` raises, and CorruptImageError where the pixels are damaged.
    """
    header = read_header(data, max_pixels)
    return _decode_pixels(data, header), header.format


def _decode_pixels(data: bytes, header: Header) -> Image:
    """The image whose header was read before; raises CorruptImageError."""
    if header.format in (JPEG, AVIF, HEIC):
        return to_8_bits(decode_photo(data, header).image)
    if header.format == PNG:
        png.check_chunks(data)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise CorruptImageError(f"the {header.format.name} image cannot be decoded: {error.err}") from error
    if pixels is None:
        raise CorruptImageError(f"the {header.format.name} image is damaged or cut short")
    return np.asarray(pixels, dtype=np.uint8)


def encode(image: Image, image_format: ImageFormat, quality: int | None = None) -> bytes:
    """The image, uint8 RGB (height, width, 3), as a file; raises what `encode_photo` raises."""
    return encode_photo(Photo(image, None, False, None, None, image_format), image_format, quality)


def is_image(path: Path) -> bool:
    """A file that is named as one; hidden ones are not: macOS leaves `._photo.jpg` beside `photo.jpg`."""
    is_named_so = path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    return is_named_so and path.is_file()


def read_image(path: Path, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image:
    """The image in a file; raises what `decode` raises, with the file's name."""
    try:
        return decode(path.read_bytes(), max_pixels)[0]
    except (EmptyImageError, UnsupportedFormatError, CorruptImageError, ImageTooLargeError) as error:
        raise type(error)(f"{path}: {error}") from error
