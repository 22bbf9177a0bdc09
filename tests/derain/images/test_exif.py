"""EXIF of every make: what one tag has wrong costs no other, and texts come back byte for byte."""

import struct

import pytest

from derain.images.metadata.exif import read_exif

_AUTHOR, _MAKE, _MODEL, _ORIENTATION = 315, 271, 272, 274


def block(*entries: tuple[int, int, int, bytes], order: str = "<") -> bytes:
    """Of one directory: tag, type, count and value, or where it is."""
    start = 8 + 2 + 12 * len(entries) + 4
    packed, values = struct.pack(order + "H", len(entries)), b""
    for tag, kind, count, value in entries:
        field = value.ljust(4, b"\0")
        if len(value) > 4:
            field = struct.pack(order + "I", start + len(values))
            values += value
        packed += struct.pack(order + "HHI", tag, kind, count) + field
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    return b"Exif\0\0" + head + packed + struct.pack(order + "I", 0) + values


@pytest.mark.parametrize("author", ["Müller".encode(), "Müller".encode("latin-1"), "雨".encode("shift_jis")])
def test_texts_come_back_byte_for_byte(author: bytes) -> None:
    exif, _ = read_exif(block((_AUTHOR, 2, len(author) + 1, author + b"\0")))
    assert exif is not None
    again, _ = read_exif(exif.to_bytes(10, 10))
    assert again is not None
    assert again.main[_AUTHOR].data == author + b"\0"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("count", [8, 50, 100_000])
def test_a_tag_that_lies_outside_costs_no_other(count: int, order: str) -> None:
    """How it is to be turned comes behind the make."""
    outside = struct.pack(order + "I", 99_999)
    six = struct.pack(order + "H", 6)
    exif, left_out = read_exif(
        block((_MAKE, 2, count, outside), (_MODEL, 2, 4, b"Abc\0"), (_ORIENTATION, 3, 1, six), order=order)
    )
    assert exif is not None
    assert exif.orientation == 6
    assert exif.main.keys() == {_MODEL, _ORIENTATION}
    assert not left_out
