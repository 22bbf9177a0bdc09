"""What a file says of itself before any pixel is decoded, and whether that can be derained."""

import io
import struct
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from derain import av1, bmp, boxes, jpeg, png, tiff
from derain.colour import check_code_points
from derain.errors import (
    CorruptImageError,
    EmptyImageError,
    ImageError,
    ImageTooLargeError,
    UnsupportedFormatError,
)
from derain.formats import AVIF, BMP, HEIC, JPEG, PNG, TIFF, WEBP, ImageFormat, known_formats
from derain.raw import refuse_raw
from derain.tags import TagFile

# Twice the largest sensors in cameras; pictures of this size take minutes.
DEFAULT_MAX_PIXELS = 150_000_000

# Pillow's own limit warns below it and refuses above it, whatever our caller allows; `read_header`
# checks the size itself, before anything is decoded.
Image.MAX_IMAGE_PIXELS = None

_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_SEQUENCE_BRANDS = {b"avis", b"msf1", b"hevc", b"hevx", b"hevm", b"hevs"}

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

_MOST_EXIF = 16  # blocks of it in a file; one is usual

_LARGEST_PART_PX = 1024  # a side of a tile, which may stand out over a smaller picture

_SEVERAL = "several frames or pages: send them one by one as still pictures"


@dataclass(frozen=True)
class Header:
    """Format and size; width and height as in the file, which may be turned."""

    format: ImageFormat
    width: int
    height: int
    is_deep: bool = False  # of 16 bits a channel
    code_points: tuple[int, int] | None = None  # primaries and transfer of a PNG without a profile

    @property
    def pixels(self) -> int:
        return self.width * self.height


def read_header(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> Header:
    """Format and size, without decoding.

    Raises EmptyImageError, UnsupportedFormatError, CorruptImageError or ImageTooLargeError.
    """
    if not data:
        raise EmptyImageError("no picture: the data is empty")
    image_format = _format_of(data)
    try:
        width, height = _READERS[image_format.name](data)
    except ImageError:
        raise
    except UnidentifiedImageError as error:  # its words are about our buffer
        raise CorruptImageError(f"the {image_format.name} picture's header is damaged") from error
    except Exception as error:  # a damaged file makes Pillow's parsers raise whatever it happens to
        raise CorruptImageError(f"the {image_format.name} picture's header is damaged: {error}") from error
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"{width} x {height} is {width * height:,} pixels: at most {max_pixels:,} are allowed"
        )
    code_points = png.code_points(data) if image_format == PNG else None
    return Header(image_format, width, height, _is_deep(data, image_format), code_points)


def check_target(code_points: tuple[int, int] | None, target: ImageFormat) -> None:
    """Raises UnsupportedFormatError for colours that only PNG's chunk of code points can tell."""
    if code_points and target != PNG:
        check_code_points(*code_points)


def _is_deep(data: bytes, image_format: ImageFormat) -> bool:
    """Of a file whose header was found sound."""
    if image_format == PNG:
        return data[24] == 16
    return image_format == TIFF and tiff.read_head(data).bits == 16


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
    brands = set(boxes.brands(data))
    if brands & _AVIF_BRANDS:
        return AVIF
    if brands & _HEIC_BRANDS:
        return HEIC
    refuse_raw(data)
    for start, name in _OTHERS.items():
        if data.startswith(start):
            raise UnsupportedFormatError(f"{name} is not supported ({known_formats()} are)")
    raise UnsupportedFormatError(f"not a picture in a known format ({known_formats()})")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    head = jpeg.read_head(data)
    return head.width, head.height


def _png_size(data: bytes) -> tuple[int, int]:
    if data[12:16] != b"IHDR" or len(data) < 33:
        raise CorruptImageError("the PNG picture's header is damaged or cut short")
    width, height = struct.unpack_from(">II", data, 16)
    if not width or not height:
        raise CorruptImageError(f"the PNG picture's header is damaged: it is {width} x {height}")
    try:
        for name, content in png.chunks(data):
            if name == b"acTL" and int.from_bytes(content[:4], "big") > 1:
                raise UnsupportedFormatError(_SEVERAL)
            if name == b"IDAT":
                break
    except CorruptImageError:
        pass  # its size is known all the same
    return width, height


def _pillow_size(data: bytes, pillow_name: str) -> tuple[int, int]:
    with Image.open(io.BytesIO(data), formats=[pillow_name]) as image:
        if getattr(image, "is_animated", False):
            raise UnsupportedFormatError(_SEVERAL)
        return image.size


def _bmp_size(data: bytes) -> tuple[int, int]:
    bmp.refuse_rare(data)
    return _pillow_size(bmp.with_true_palette(data), "BMP")


def _tiff_size(data: bytes) -> tuple[int, int]:
    head = tiff.read_head(data)
    return head.width, head.height


def _avif_size(data: bytes) -> tuple[int, int]:
    """What the boxes say, and the frames do not exceed: those are decoded whole, whatever the boxes say."""
    if boxes.brands(data)[0] != b"avif" and boxes.has_tracks(data):  # libavif would take the first track
        raise UnsupportedFormatError(_SEVERAL)
    head = _item_head(data)
    for stream in head.streams:
        spare_px = 0 if stream.is_primary else _LARGEST_PART_PX
        for width, height in av1.frame_sizes(stream.data):
            if width > max(head.width, spare_px) or height > max(head.height, spare_px):
                raise CorruptImageError(
                    f"the AVIF picture is larger than its header says: a frame of {width} x {height} "
                    f"in a picture of {head.width} x {head.height}"
                )
    return head.width, head.height


def _heic_size(data: bytes) -> tuple[int, int]:
    head = _item_head(data)
    return head.width, head.height


def _item_head(data: bytes) -> boxes.ItemHead:
    """Of an AVIF or a HEIC."""
    if boxes.brands(data)[0] in _SEQUENCE_BRANDS:
        raise UnsupportedFormatError(_SEVERAL)
    head = boxes.read_item(data)
    if head.code_points and not head.has_profile:
        check_code_points(*head.code_points)
    _check_tags(data)
    return head


def _check_tags(data: bytes) -> None:
    """Pillow reads the EXIF of an AVIF without a bound; raises CorruptImageError where that takes one."""
    view = memoryview(data)
    for signature in tiff.SIGNATURES:
        if data.count(signature) > _MOST_EXIF:
            raise CorruptImageError("the picture's header is damaged: too many EXIF blocks")
        place = data.find(signature)
        while 0 <= place <= len(data) - 16:
            tags = TagFile(view[place:])
            if 0 < tags.first <= len(tags.data) - 8:
                tags.directory(tags.first)
            place = data.find(signature, place + 1)


_READERS = {
    JPEG.name: _jpeg_size,
    PNG.name: _png_size,
    WEBP.name: lambda data: _pillow_size(data, "WEBP"),
    TIFF.name: _tiff_size,
    BMP.name: _bmp_size,
    AVIF.name: _avif_size,
    HEIC.name: _heic_size,
}
