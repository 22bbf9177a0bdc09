"""What the boxes of an AVIF or a HEIC say of the picture in it (ISO 14496-12, 23008-12)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from derain.errors import CorruptImageError

_MOST_BOXES = 10_000  # in one other; a picture has a few dozen


@dataclass(frozen=True)
class ItemHead:
    """Of the primary picture, before it is turned."""

    width: int
    height: int
    has_profile: bool
    code_points: tuple[int, int] | None  # colour primaries and transfer characteristics, as in H.273


def brands(data: bytes) -> tuple[bytes, ...]:
    """The major one first; none where it is no file of boxes."""
    if data[4:8] != b"ftyp":
        return ()
    end = min(int.from_bytes(data[:4], "big"), len(data), 1024)
    return (data[8:12], *(data[place : place + 4] for place in range(16, end - 3, 4)))


def read_item(data: bytes) -> ItemHead:
    """Raises CorruptImageError."""
    try:
        return _read_item(memoryview(data))
    except (struct.error, StopIteration, IndexError, KeyError) as error:
        raise CorruptImageError("the picture's header is damaged or cut short") from error


def _read_item(data: memoryview) -> ItemHead:
    meta = dict(_boxes(_first(data, b"meta")[4:]))  # behind version and flags
    primary = meta[b"pitm"]
    (item,) = struct.unpack_from(">I" if primary[0] else ">H", primary, 4)
    described = meta[b"iprp"]
    properties = list(_boxes(_first(described, b"ipco")))
    own: list[tuple[bytes, memoryview]] = []
    for name, content in _boxes(described):
        if name == b"ipma":
            own += [properties[number - 1] for number in _numbers_of(item, content) if number]
    width, height = struct.unpack_from(">II", next(content for name, content in own if name == b"ispe"), 4)
    if not width or not height:
        raise CorruptImageError(f"the picture's header is damaged: it is {width} x {height}")
    colours = [content for name, content in own if name == b"colr"]
    points = [struct.unpack_from(">HH", colour, 4) for colour in colours if bytes(colour[:4]) == b"nclx"]
    has_profile = any(bytes(colour[:4]) in (b"prof", b"rICC") for colour in colours)
    return ItemHead(width, height, has_profile, points[0] if points else None)


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    position = 0
    for _ in range(_MOST_BOXES):
        if position + 8 > len(data):
            return
        size, name = struct.unpack_from(">I4s", data, position)
        start = position + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        end = position + size if size else len(data)
        if end < start:
            raise CorruptImageError("the picture's header is damaged: a box smaller than its own head")
        yield name, data[start:end]
        position = end


def _first(data: memoryview, name: bytes) -> memoryview:
    return next(content for found, content in _boxes(data) if found == name)


def _numbers_of(item: int, associations: memoryview) -> Iterator[int]:
    """Which properties an item has, counted from 1."""
    version, flags = associations[0], associations[3]
    (entries,) = struct.unpack_from(">I", associations, 4)
    position = 8
    for _ in range(min(entries, _MOST_BOXES)):
        (found,) = struct.unpack_from(">I" if version else ">H", associations, position)
        position += 4 if version else 2
        count, position = associations[position], position + 1
        for _ in range(count):
            (number,) = struct.unpack_from(">H" if flags & 1 else ">B", associations, position)
            position += 2 if flags & 1 else 1
            if found == item:
                yield number & (0x7FFF if flags & 1 else 0x7F)
