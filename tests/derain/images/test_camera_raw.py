"""Camera raw is refused by its name, wherever in the file it shows."""

import io
import struct
from typing import Any

import numpy as np
import pytest
import tifffile

from derain.errors import CorruptImageError, UnsupportedFormatError
from derain.images.header import read_header
from tests.conftest import scene

SENSOR = np.arange(80 * 120, dtype=np.uint16).reshape(80, 120)
THUMBNAIL = scene(40, 60)
MAKE, DNG_VERSION, TIFF_EP = 271, 50706, 37398


def raw(
    *tags: tuple[int, str, int, Any, bool],
    is_marked: bool = True,
    in_chain: bool = False,
    photometric: Any = "cfa",
) -> bytes:
    """A thumbnail, and what the sensor saw in a directory below it, or behind it."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(
            THUMBNAIL,
            photometric="rgb",
            subfiletype=int(is_marked),
            subifds=None if in_chain else 1,
            extratags=tags,
        )
        seen = np.stack([SENSOR] * 3, axis=-1) if photometric == "linear_raw" else SENSOR
        writer.write(seen, photometric=photometric)
    return file.getvalue()


def made_by(maker: str) -> tuple[int, str, int, Any, bool]:
    return MAKE, "s", 0, maker, True


def as_written(data: bytes, tag: int, old: int, new: int) -> bytes:
    """With another value of a tag that is a single short number."""
    before, after = (struct.pack("<HHIHH", tag, 3, 1, value, 0) for value in (old, new))
    assert before in data
    return data.replace(before, after)


def with_mark(mark: bytes) -> bytes:
    """An ordinary TIFF, but for what stands behind its header."""
    file = io.BytesIO()
    tifffile.imwrite(file, THUMBNAIL, photometric="rgb")
    data = file.getvalue()
    assert struct.unpack_from("<I", data, 4)[0] < len(data) - 100
    body = data + b"\0" * (len(data) % 2)
    first = struct.unpack_from("<I", data, 4)[0]
    moved = len(body)
    length = 2 + 12 * struct.unpack_from("<H", data, first)[0] + 4
    return data[:4] + struct.pack("<I", moved) + mark + body[8 + len(mark) :] + data[first : first + length]


RAWS = {
    "DNG": raw((DNG_VERSION, "B", 4, (1, 4, 0, 0), True)),
    "a DNG without a thumbnail": raw((DNG_VERSION, "B", 4, (1, 4, 0, 0), True), is_marked=False),
    "Nikon's NEF": raw(made_by("NIKON CORPORATION")),
    "Nikon's NEF, unmarked": raw(made_by("NIKON CORPORATION"), is_marked=False),
    "Sony's ARW": as_written(raw(made_by("SONY"), is_marked=False), 259, 1, 32767),
    "Samsung's SRW": raw(made_by("SAMSUNG"), is_marked=False, in_chain=True),
    "Hasselblad's 3FR": raw(made_by("Hasselblad"), photometric="linear_raw"),
    "Pentax's PEF": as_written(raw(made_by("PENTAX Corporation"), photometric="minisblack"), 259, 1, 65535),
    "Kodak's DCR": raw(made_by("EASTMAN KODAK COMPANY"), photometric="minisblack"),
    "Sony's ARW, an old one": raw(made_by("SONY"), (50740, "I", 1, 8, True), photometric="minisblack"),
    "Leaf's MOS": raw(made_by("Leaf"), (34310, "B", 4, (1, 2, 3, 4), True), is_marked=False),
    "of Imaginary": raw(made_by("Imaginary"), (TIFF_EP, "B", 4, (1, 0, 0, 0), True), is_marked=False),
    "Canon's CR2": with_mark(b"CR\x02\0"),
    "Phase One's IIQ": with_mark(b"IIIITwaR"),
    "Canon's CR3": b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom".ljust(100, b"\0"),
    "Canon's CRW": b"II\x1a\0\0\0HEAPCCDR".ljust(100, b"\0"),
    "Fujifilm's RAF": b"FUJIFILMCCD-RAW 0201".ljust(100, b"\0"),
    "Olympus's ORF": b"IIRO\x08\0\0\0".ljust(100, b"\0"),
    "Panasonic's RW2": b"IIU\0\x08\0\0\0".ljust(100, b"\0"),
    "Sigma's X3F": b"FOVb".ljust(100, b"\0"),
    "Minolta's MRW": b"\0MRM".ljust(100, b"\0"),
}


def test_directories_beyond_all_sense_are_damage() -> None:
    """A BigTIFF may have a million entries, and name itself as what lies below it."""
    entry = struct.pack("<HHQQ", 256, 3, 1, 1)
    data = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) + struct.pack("<Q", 40_000) + entry * 40_000 + bytes(8)
    with pytest.raises(CorruptImageError, match="too many entries"):
        read_header(data)


@pytest.mark.parametrize("kind", RAWS)
def test_camera_raw_is_named_and_refused(kind: str) -> None:
    with pytest.raises(
        UnsupportedFormatError, match=r"camera raw.*develop it to JPEG, PNG or TIFF"
    ) as refused:
        read_header(RAWS[kind])
    named = kind.removeprefix("a ").split(",")[0].split(" without")[0]
    assert named in str(refused.value)


def test_a_first_image_that_is_a_mere_copy_is_refused() -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, THUMBNAIL, photometric="rgb", subfiletype=1)
    with pytest.raises(UnsupportedFormatError, match="marked as a thumbnail"):
        read_header(file.getvalue())


def test_smaller_copies_below_and_behind_are_no_camera_raw() -> None:
    for in_chain in (False, True):
        file = io.BytesIO()
        with tifffile.TiffWriter(file) as writer:
            writer.write(scene(80, 120), photometric="rgb", subifds=None if in_chain else 1)
            writer.write(THUMBNAIL, photometric="rgb", subfiletype=1)
        assert read_header(file.getvalue()).width == 120


def test_an_image_whose_first_values_look_like_a_mark_is_none() -> None:
    image = np.full((40, 60), ord("I"), np.uint8)
    file = io.BytesIO()
    tifffile.imwrite(file, image, photometric="minisblack")
    assert read_header(file.getvalue()).width == 60
