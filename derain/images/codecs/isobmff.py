"""What the boxes of an AVIF or a HEIC say of the image in it (ISO 14496-12, 23008-12)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from derain.errors import CorruptImageError, UnsupportedFormatError
from derain.images.codecs.pillow import SEVERAL
from derain.images.colour import check_code_points

_MAX_ASSOCIATIONS, _MAX_PROPERTIES = 4, 256  # one box for each version and width; of an item
_MAX_BOXES = 10_000  # in one other; an image has a few dozen
_HEAD_BYTES = 65_536  # in which all boxes of an image are, but for its data
_OTHER_IMAGES = {b"hdrgainmap": "gain-map", b"tmap": "gain-map", b"auxid:2\0": "depth-map"}
_SEQUENCE_BRANDS = {b"avis", b"msf1", b"hevc", b"hevx", b"hevm", b"hevs"}


@dataclass(frozen=True)
class Item:
    """Of the primary image, before it is turned."""

    width: int
    height: int
    has_profile: bool
    av1: memoryview | None  # its stream, or the start of it
    colour_step: tuple[int, int]  # of AV1: pixels across and down for each sample of colour
    code_points: tuple[int, int] | None  # colour primaries and transfer characteristics, as in H.273
    matrix: int | None  # coefficients of the same


def brands(data: bytes) -> tuple[bytes, ...]:
    """The major one first; none where it is no file of boxes."""
    if data[4:8] != b"ftyp":
        return ()
    end = min(int.from_bytes(data[:4], "big"), len(data), 1024)
    return (data[8:12], *(data[place : place + 4] for place in range(16, end - 3, 4)))


def has_tracks(data: bytes) -> bool:
    return any(name == b"moov" for name, _ in _boxes(memoryview(data)))


def other_images(data: bytes) -> set[str]:
    """What the file says that there is besides the primary image, by name."""
    head = data[:_HEAD_BYTES]
    return {name for mark, name in _OTHER_IMAGES.items() if mark in head}


def read_still(data: bytes) -> Item:
    """The primary image of a file that holds no more of its kind; raises as `read_item` does, and
    UnsupportedFormatError for sequences, and for colours that only code points define."""
    if brands(data)[0] in _SEQUENCE_BRANDS:
        raise UnsupportedFormatError(SEVERAL)
    item = read_item(data)
    if item.code_points and not item.has_profile:
        check_code_points(*item.code_points)
    return item


def read_item(data: bytes) -> Item:
    """Raises CorruptImageError."""
    try:
        return _read_item(memoryview(data))
    except (struct.error, StopIteration, IndexError, KeyError) as error:
        raise CorruptImageError("the image's header is damaged or cut short") from error


def _read_item(data: memoryview) -> Item:
    meta = dict(_boxes(_first(data, b"meta")[4:]))  # behind version and flags
    primary = meta[b"pitm"]
    (item,) = struct.unpack_from(">I" if primary[0] else ">H", primary, 4)
    described = meta[b"iprp"]
    properties = list(_boxes(_first(described, b"ipco")))
    own: list[tuple[bytes, memoryview]] = []
    associations = (content for name, content in _boxes(described) if name == b"ipma")
    for content in islice(associations, _MAX_ASSOCIATIONS):
        numbers = islice(_numbers_of(item, content), _MAX_PROPERTIES)
        own += [properties[number - 1] for number in numbers if number]
    width, height = struct.unpack_from(">II", next(content for name, content in own if name == b"ispe"), 4)
    if not width or not height:
        raise CorruptImageError(f"the image's header is damaged: it is {width} x {height}")
    colours = [content for name, content in own if name == b"colr"]
    points = [struct.unpack_from(">HHH", colour, 4) for colour in colours if bytes(colour[:4]) == b"nclx"]
    primaries, transfer, matrix = points[0] if points else (None, None, None)
    has_profile = any(bytes(colour[:4]) in (b"prof", b"rICC") for colour in colours)
    code_points = None if primaries is None else (primaries, transfer)
    av1, colour_step = None, (1, 1)
    if (setup := next((content for name, content in own if name == b"av1C"), None)) is not None:
        av1 = _start_of_data(data, meta[b"iloc"], item)
        colour_step = 1 + (setup[2] >> 3 & 1), 1 + (setup[2] >> 2 & 1)
    return Item(width, height, has_profile, av1, colour_step, code_points, matrix)


def _start_of_data(data: memoryview, locations: memoryview, item: int) -> memoryview | None:
    """The first piece of an item's data, where it lies in the file itself."""
    version = locations[0]
    offset_bytes, length_bytes = locations[4] >> 4, locations[4] & 15
    base_bytes, index_bytes = locations[5] >> 4, locations[5] & 15 if version else 0
    position = 6

    def read(count: int) -> int:
        nonlocal position
        position += count
        if position > len(locations):
            raise IndexError("behind the end")
        return int.from_bytes(locations[position - count : position], "big")

    wide = 4 if version == 2 else 2
    for _ in range(min(read(wide), _MAX_BOXES)):
        number = read(wide)
        method = read(2) & 15 if version else 0
        read(2)
        base, count = read(base_bytes), read(2)
        if number == item and not method and count:
            read(index_bytes)
            start = base + read(offset_bytes)
            return data[start : start + read(length_bytes)]
        position += count * (index_bytes + offset_bytes + length_bytes)
    return None


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    position = 0
    for _ in range(_MAX_BOXES):
        if position + 8 > len(data):
            return
        size, name = struct.unpack_from(">I4s", data, position)
        start = position + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        end = position + size if size else len(data)
        if end < start:
            raise CorruptImageError("the image's header is damaged: a box smaller than its own head")
        yield name, data[start:end]
        position = end


def _first(data: memoryview, name: bytes) -> memoryview:
    return next(content for found, content in _boxes(data) if found == name)


def _numbers_of(item: int, associations: memoryview) -> Iterator[int]:
    """Which properties an item has, counted from 1."""
    version, flags = associations[0], associations[3]
    (entries,) = struct.unpack_from(">I", associations, 4)
    position = 8
    for _ in range(min(entries, _MAX_BOXES)):
        (found,) = struct.unpack_from(">I" if version else ">H", associations, position)
        position += 4 if version else 2
        count, position = associations[position], position + 1
        if found != item:
            position += count * (2 if flags & 1 else 1)
            continue
        for _ in range(count):
            (number,) = struct.unpack_from(">H" if flags & 1 else ">B", associations, position)
            position += 2 if flags & 1 else 1
            yield number & (0x7FFF if flags & 1 else 0x7F)
