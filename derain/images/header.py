"""Which format a file has, and what it says of itself before any pixel is decoded."""

from collections.abc import Callable

from derain.errors import (
    CorruptImageError,
    EmptyImageError,
    ImageError,
    ImageTooLargeError,
    UnsupportedFormatError,
)
from derain.images.codecs import avif, bmp, heic, isobmff, jpeg, png, tiff, webp
from derain.images.codecs.camera_raw import refuse_raw
from derain.images.coded import Header
from derain.images.formats import AVIF, BMP, HEIC, JPEG, PNG, TIFF, WEBP, ImageFormat, known_formats

# Twice the largest sensors in cameras; images of this size take minutes.
DEFAULT_MAX_PIXELS = 150_000_000

_READERS: dict[str, Callable[[bytes], Header]] = {
    JPEG.name: jpeg.read_header,
    PNG.name: png.read_header,
    WEBP.name: webp.read_header,
    TIFF.name: tiff.read_header,
    BMP.name: bmp.read_header,
    AVIF.name: avif.read_header,
    HEIC.name: heic.read_header,
}

# To say what was sent, rather than that it is unknown.
_OTHERS = {
    b"GIF8": "GIF",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"8BPS": "Photoshop",
    b"%PDF": "PDF",
}


def read_header(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> Header:
    """Format and size, without decoding.

    Raises EmptyImageError, UnsupportedFormatError, CorruptImageError or ImageTooLargeError.
    """
    if not data:
        raise EmptyImageError("no image: the data is empty")
    name = _format_of(data).name
    try:
        header = _READERS[name](data)
    except ImageError:
        raise
    except Exception as error:  # a damaged file makes parsers raise whatever it happens to
        raise CorruptImageError(f"the {name} image's header is damaged: {error}") from error
    if header.pixels > max_pixels:
        size = f"{header.width} x {header.height} is {header.pixels:,} pixels"
        raise ImageTooLargeError(f"{size}: at most {max_pixels:,} are allowed")
    return header


def _format_of(data: bytes) -> ImageFormat:
    """By its first bytes; raises UnsupportedFormatError."""
    if data.startswith(jpeg.SIGNATURE):
        return JPEG
    if data.startswith(png.SIGNATURE):
        return PNG
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WEBP
    if data.startswith(tiff.SIGNATURES):
        return TIFF
    if data.startswith(b"BM"):
        return BMP
    brands = set(isobmff.brands(data))
    if brands & avif.BRANDS:
        return AVIF
    if brands & heic.BRANDS:
        return HEIC
    refuse_raw(data)
    for start, name in _OTHERS.items():
        if data.startswith(start):
            raise UnsupportedFormatError(f"{name} is not supported ({known_formats()} are)")
    raise UnsupportedFormatError(f"not an image in a known format ({known_formats()})")
