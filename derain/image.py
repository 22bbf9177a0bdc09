"""Bytes to pictures and back.

A picture is RGB, uint8 (height, width, 3), upright: the EXIF orientation is applied when it
is read, and nothing of the file's metadata goes into what is written.
"""

import io
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from derain.arrays import Picture
from derain.errors import CorruptImageError, EmptyImageError, ImageTooLargeError, UnsupportedFormatError


@dataclass(frozen=True)
class ImageFormat:
    """A file format that Derain reads and writes."""

    name: str
    media_type: str
    suffixes: tuple[str, ...]  # the first is the one written
    options: tuple[int, ...] = ()  # for cv2.imencode
    longest_px: int = 1_000_000  # the longest side that a file can have; OpenCV's limit where it has none


# High quality, and colour at full resolution: what was no rain should come back as it was.
_JPEG_OPTIONS = (
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)

JPEG = ImageFormat("JPEG", "image/jpeg", (".jpg", ".jpeg"), _JPEG_OPTIONS, longest_px=65_500)
PNG = ImageFormat("PNG", "image/png", (".png",))
WEBP = ImageFormat("WebP", "image/webp", (".webp",), (cv2.IMWRITE_WEBP_QUALITY, 95), longest_px=16_383)
TIFF = ImageFormat("TIFF", "image/tiff", (".tif", ".tiff"))
BMP = ImageFormat("BMP", "image/bmp", (".bmp",))
FORMATS = (JPEG, PNG, WEBP, TIFF, BMP)

FORMAT_OF = {suffix: known for known in FORMATS for suffix in known.suffixes}
PICTURE_SUFFIXES = frozenset(FORMAT_OF)

# Pillow's names; MPO is what it calls a JPEG in which a camera has put previews as well.
_PILLOW_FORMATS = {"JPEG": JPEG, "MPO": JPEG, "PNG": PNG, "WEBP": WEBP, "TIFF": TIFF, "BMP": BMP}
_PILLOW_PARSERS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")  # of its forty; GIF to name it

# Pillow's own limit warns below it and refuses above it, whatever our caller allows; `read_header`
# checks the size itself, before anything is decoded.
Image.MAX_IMAGE_PIXELS = None

# Twice the largest sensors in cameras; pictures of this size take minutes.
DEFAULT_MAX_PIXELS = 150_000_000


@dataclass(frozen=True)
class Header:
    """What a file says of itself before any pixel is decoded."""

    format: ImageFormat
    width: int
    height: int


def read_header(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> Header:
    """Format and size, without decoding.

    Raises EmptyImageError, UnsupportedFormatError, CorruptImageError or ImageTooLargeError.
    """
    if not data:
        raise EmptyImageError("no picture: the data is empty")
    try:
        with Image.open(io.BytesIO(data), formats=_PILLOW_PARSERS) as image:
            pillow_name, (width, height) = image.format or "", image.size
            has_more = pillow_name in _PILLOW_FORMATS and _has_more_frames(image)
    except UnidentifiedImageError as error:
        raise UnsupportedFormatError(f"not a picture in a known format ({_known_formats()})") from error
    except Exception as error:  # a damaged file makes Pillow's parsers raise whatever it happens to
        raise CorruptImageError(f"the picture's header is damaged: {error}") from error
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"{width} x {height} is {width * height:,} pixels: at most {max_pixels:,} are allowed"
        )
    if pillow_name not in _PILLOW_FORMATS:
        raise UnsupportedFormatError(f"{pillow_name} is not supported ({_known_formats()} are)")
    if has_more:
        raise UnsupportedFormatError("several frames or pages: send them one by one as still pictures")
    return Header(_PILLOW_FORMATS[pillow_name], width, height)


def decode(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> tuple[Picture, ImageFormat]:
    """The picture, uint8 RGB (height, width, 3), upright, and the format it was in.

    Raises what `read_header` raises, and CorruptImageError where the pixels are damaged.
    """
    header = read_header(data, max_pixels)
    return decode_pixels(data, header), header.format


def decode_pixels(data: bytes, header: Header) -> Picture:
    """The picture whose header was read before; raises CorruptImageError."""
    if header.format == PNG:
        _check_chunks(data)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise CorruptImageError(f"the {header.format.name} picture cannot be decoded: {error.err}") from error
    if pixels is None:
        raise CorruptImageError(f"the {header.format.name} picture is damaged or cut short")
    return np.asarray(pixels, dtype=np.uint8)


def check_size(width: int, height: int, image_format: ImageFormat) -> None:
    """Raises ImageTooLargeError for a picture that the format cannot hold."""
    if max(width, height) > image_format.longest_px:
        limit = f"at most {image_format.longest_px:,} a side"
        raise ImageTooLargeError(f"{width} x {height} is too large for {image_format.name}: {limit}")


def encode(picture: Picture, image_format: ImageFormat) -> bytes:
    """The picture, uint8 RGB (height, width, 3), as a file; raises ImageTooLargeError."""
    check_size(picture.shape[1], picture.shape[0], image_format)
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(image_format.suffixes[0], bgr, image_format.options)
    assert done
    return data.tobytes()


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
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _check_chunks(data: bytes) -> None:
    """OpenCV makes room for as many bytes as a PNG chunk claims to have, up to gigabytes."""
    position, end_of_file = 8, len(data)  # after the signature
    while position + 8 <= end_of_file:
        claimed = int.from_bytes(data[position : position + 4], "big")
        position += 12 + claimed  # length, name and checksum are four bytes each
        if position > end_of_file:
            raise CorruptImageError("the PNG picture is damaged or cut short")


def _has_more_frames(image: Image.Image) -> bool:
    """Does not count them: that takes as long as the sender likes."""
    # An MPO is a photograph and its previews.
    return image.format != "MPO" and bool(getattr(image, "is_animated", False))


def _known_formats() -> str:
    return ", ".join(known.name for known in FORMATS)
