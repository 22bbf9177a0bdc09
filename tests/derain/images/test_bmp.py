"""Kinds of BMP that are valid and rare are unsupported, not damaged."""

import struct

import numpy as np
import pytest
from PIL import Image as PilImage

from derain.errors import CorruptImageError, UnsupportedFormatError
from derain.images.encoding import encode_photo
from derain.images.formats import FORMATS
from derain.images.header import read_header
from derain.images.photo import decode_photo
from tests.conftest import scene
from tests.derain.images.test_plain import by_pillow

PIXELS = bytes(4 * 64)  # 8 x 8 of up to 32 bits


def bmp(header: int, bits: int, compression: int = 0, fields: bytes = b"", colours: int = 0) -> bytes:
    info = struct.pack("<IiiHHIIiiII", header, 8, 8, 1, bits, compression, len(PIXELS), 0, 0, colours, 0)
    info = (info + fields).ljust(max(header, len(info + fields)), b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(info) + len(PIXELS), 0, 0, 14 + len(info)) + info + PIXELS


FOURS = struct.pack("<IIII", 0xF00, 0xF0, 0xF, 0xF000)
TENS = struct.pack("<III", 0x3FF00000, 0xFFC00, 0x3FF)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (bmp(40, 0, 4), "JPEG in BMP"),
        (bmp(124, 0, 5), "PNG in BMP"),
        (bmp(40, 2), "a BMP of 2 bits a pixel"),
        (bmp(40, 64), "a BMP of 64 bits a pixel"),
        (bmp(108, 16, 3, FOURS), "a BMP of unusual bit fields"),
        (bmp(40, 32, 3, TENS), "a BMP of unusual bit fields"),
        (bmp(40, 32, 6, FOURS), "a BMP with bit fields of alpha"),
        (bmp(40, 32, 11), "CMYK in BMP"),
        (bmp(64, 1, 3), "Huffman coding in BMP"),
        (bmp(64, 24, 4), "24-bit runs in BMP"),
        (bmp(16, 8)[:30] + bytes(400), "a BMP with an OS/2 header of 16 bytes"),
    ],
)
def test_a_rare_kind_is_named(data: bytes, named: str) -> None:
    with pytest.raises(UnsupportedFormatError, match=f"{named} is not supported: save it with 24 bits"):
        read_header(data)


@pytest.mark.parametrize("data", [bmp(41, 24), bmp(40, 25), bmp(40, 24)[:20]])
def test_what_is_no_kind_at_all_is_damaged(data: bytes) -> None:
    with pytest.raises(CorruptImageError, match="header is damaged"):
        read_header(data)


@pytest.mark.parametrize(
    "data",
    [bmp(40, 24), bmp(64, 24), bmp(124, 32), bmp(56, 16, 3, struct.pack("<IIII", 0x7C00, 0x3E0, 0x1F, 0))],
)
def test_the_usual_kinds_are_read(data: bytes) -> None:
    assert decode_photo(data, read_header(data)).image.shape == (8, 8, 3)


def test_a_palette_that_claims_more_colours_than_there_can_be() -> None:
    data = by_pillow(PilImage.fromarray(scene(20, 30)).quantize(200), "BMP")
    claiming = data[:46] + struct.pack("<I", 300) + data[50:]
    got = decode_photo(claiming, read_header(claiming)).image
    assert np.array_equal(got, decode_photo(data, read_header(data)).image)


@pytest.mark.parametrize("is_drawn", [False, True], ids=["photograph", "palette"])
def test_a_resolution_that_cannot_be_is_bounded(is_drawn: bool) -> None:
    image = PilImage.fromarray(scene(20, 20))
    exif = PilImage.Exif()
    exif[0x011A], exif[0x011B], exif[0x0128] = 4294967295.0, 4294967295.0, 2
    data = by_pillow(image.quantize(4) if is_drawn else image, "PNG", exif=exif)
    photo = decode_photo(data, read_header(data))
    assert photo.dots_per_inch is not None
    for target in (known for known in FORMATS if known.writable):
        written = encode_photo(photo, target)
        assert decode_photo(written, read_header(written)).image.shape == (20, 20, 3), target.name
