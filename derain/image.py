"""Bytes to plain pictures and back: what training sees, and what it shows.

A picture is RGB, uint8 (height, width, 3), upright: the EXIF orientation is applied when it
is read, and nothing of the file's metadata goes into what is written. `derain.photo` keeps more.
"""

import hashlib
import os
from pathlib import Path

import cv2
import numpy as np

from derain import png
from derain.arrays import Picture
from derain.errors import CorruptImageError, EmptyImageError, ImageTooLargeError, UnsupportedFormatError
from derain.formats import (
    AVIF,
    BMP,
    FORMAT_OF,
    FORMATS,
    HEIC,
    JPEG,
    PICTURE_SUFFIXES,
    PNG,
    TIFF,
    WEBP,
    ImageFormat,
    check_size,
)
from derain.header import DEFAULT_MAX_PIXELS, Header, read_header
from derain.photo import Photo, decode_photo, encode_photo, to_8_bits

__all__ = [
    "AVIF",
    "BMP",
    "DEFAULT_MAX_PIXELS",
    "FORMATS",
    "FORMAT_OF",
    "HEIC",
    "JPEG",
    "PICTURE_SUFFIXES",
    "PNG",
    "TIFF",
    "WEBP",
    "Header",
    "ImageFormat",
    "check_size",
    "decode",
    "encode",
    "is_picture",
    "read_header",
    "read_picture",
    "write_atomically",
]


def decode(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> tuple[Picture, ImageFormat]:
    """The picture, uint8 RGB (height, width, 3), upright, and the format it was in.

    Raises what `read_header` raises, and CorruptImageError where the pixels are damaged.
    """
    header = read_header(data, max_pixels)
    return _decode_pixels(data, header), header.format


def _decode_pixels(data: bytes, header: Header) -> Picture:
    """The picture whose header was read before; raises CorruptImageError."""
    if header.format in (JPEG, AVIF, HEIC):
        return to_8_bits(decode_photo(data, header).picture)
    if header.format == PNG:
        for _ in png.chunks(data):  # raises
            pass
    try:
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise CorruptImageError(f"the {header.format.name} picture cannot be decoded: {error.err}") from error
    if pixels is None:
        raise CorruptImageError(f"the {header.format.name} picture is damaged or cut short")
    return np.asarray(pixels, dtype=np.uint8)


def encode(picture: Picture, image_format: ImageFormat, quality: int | None = None) -> bytes:
    """The picture, uint8 RGB (height, width, 3), as a file; raises what `encode_photo` raises."""
    return encode_photo(Photo(picture, None, False, None, None, image_format), image_format, quality)


def is_picture(path: Path) -> bool:
    """A file that is named as one; hidden ones are not: macOS leaves `._photo.jpg` beside `photo.jpg`."""
    is_named_so = path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")
    return is_named_so and path.is_file()


def read_picture(path: Path, max_pixels: int = DEFAULT_MAX_PIXELS) -> Picture:
    """The picture in a file; raises what `decode` raises, with the file's name."""
    try:
        return decode(path.read_bytes(), max_pixels)[0]
    except (EmptyImageError, UnsupportedFormatError, CorruptImageError, ImageTooLargeError) as error:
        raise type(error)(f"{path}: {error}") from error


def write_atomically(path: Path, data: bytes) -> None:
    """`path` is never half written: it appears whole, or not at all."""
    # A short name of its own: one longer than the file's might be too long for the disk.
    name = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    unfinished = path.with_name(f".{name}.{os.getpid()}.unfinished")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
