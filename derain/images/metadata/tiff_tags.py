"""The directories of tags in TIFF files, and in EXIF, which is a TIFF without an image.

Read from strangers, so bounded: no value is read before its size is known, and what
overlaps others is not read many times over.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from derain.errors import CorruptImageError

SHORT, LONG, RATIONAL = 3, 4, 5

EXIF, INTEROPERABILITY = 34665, 40965  # tags that say where another directory is

# Bytes of one value, by type of TIFF 6.0 and of BigTIFF, and of the numbers it is made of.
_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_NUMBERS = _SIZES | {5: 4, 10: 4}
_WHOLE = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}

# Some writers let two tags share a value; a few thousand bytes of that are no attack.
_SHARED_BYTES = 65_536
_MAX_ENTRIES = 4096  # of a directory: real ones have some hundred


@dataclass(frozen=True)
class Field:
    """What one tag holds, in little-endian order whatever the file was in."""

    kind: int
    count: int
    data: bytes

    def numbers(self, most: int | None = None) -> list[int]:
        """Whole numbers, all or so many of the first; none where it holds something else."""
        if self.kind not in _WHOLE:
            return []
        there = np.frombuffer(self.data, "<" + _WHOLE[self.kind])
        values: list[int] = there[:most].tolist()
        return values

    def swapped(self) -> bytes:
        """Its data in the other byte order."""
        return np.frombuffer(self.data, f"u{_NUMBERS[self.kind]}").byteswap().tobytes()


Directory = dict[int, Field]


def whole(kind: int, *values: int) -> Field:
    return Field(kind, len(values), np.array(values, "<" + _WHOLE[kind]).tobytes())


def rational(value: float) -> Field:
    return Field(RATIONAL, 1, struct.pack("<II", min(round(value * 10_000), 2**32 - 1), 10_000))


class TagFile:
    """The directories of a TIFF or an EXIF block; raises CorruptImageError where it is neither."""

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = memoryview(data)
        self.order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]), "")
        if not self.order or len(data) < 8:
            raise CorruptImageError("no TIFF header")
        (version,) = struct.unpack_from(self.order + "H", data, 2)
        self.is_big = version == 43
        if version not in (42, 43) or (self.is_big and len(data) < 16):
            raise CorruptImageError("no TIFF header")
        # How many entries a directory has; an entry's tag, type and count; an offset.
        self._number, self._entry, self._offset = ("Q", "HHQ", "Q") if self.is_big else ("H", "HHI", "I")
        (self.first,) = struct.unpack_from(self.order + self._offset, data, 8 if self.is_big else 4)

    def directory(self, start: int) -> tuple[Directory, int]:
        """The directory at an offset, and the offset of the next one or 0.

        Entries that lie outside the data or are of no known type are left out, as readers commonly do.
        Raises CorruptImageError for a directory that is outside itself, or whose values overlap.
        """
        number_size, offset_size = struct.calcsize("<" + self._number), struct.calcsize("<" + self._offset)
        entry_size = struct.calcsize("<" + self._entry) + offset_size
        if not 0 < start <= len(self.data) - number_size:
            raise CorruptImageError("a directory of tags lies outside the file")
        (entries,) = struct.unpack_from(self.order + self._number, self.data, start)
        if entries > _MAX_ENTRIES:  # each takes time
            raise CorruptImageError("a directory of tags has too many entries")
        position, fields = start + number_size, Directory()
        # What is there of a directory that is cut short can still be of use.
        there = min(entries, (len(self.data) - position) // entry_size)
        left_bytes = len(self.data) + _SHARED_BYTES
        for place in range(position, position + there * entry_size, entry_size):
            tag, kind, count = struct.unpack_from(self.order + self._entry, self.data, place)
            size = _SIZES.get(kind, 0) * count
            at = place + entry_size - offset_size
            if size > offset_size:
                (at,) = struct.unpack_from(self.order + self._offset, self.data, at)
            if not size or at + size > len(self.data):
                continue
            left_bytes -= size
            if left_bytes < 0:
                raise CorruptImageError("its tags overlap one another")
            field = Field(kind, count, bytes(self.data[at : at + size]))
            fields[tag] = field if self.order == "<" else Field(kind, count, field.swapped())
        position += entries * entry_size
        if position + offset_size > len(self.data):
            return fields, 0
        (following,) = struct.unpack_from(self.order + self._offset, self.data, position)
        return fields, following


def pack(directory: Directory, start: int, order: str = "<") -> bytes:
    """The directory as bytes that are to stand at an offset of an ordinary TIFF."""
    values_start = start + 2 + 12 * len(directory) + 4
    entries, values = [struct.pack(order + "H", len(directory))], b""
    for tag, field in sorted(directory.items()):
        data = field.data if order == "<" else field.swapped()
        entry = struct.pack(order + "HHI", tag, field.kind, field.count)
        if len(data) > 4:
            entry += struct.pack(order + "I", values_start + len(values))
            values += data + b"\0" * (len(data) % 2)
        else:
            entry += data.ljust(4, b"\0")
        entries.append(entry)
    return b"".join([*entries, struct.pack(order + "I", 0), values])


def pack_tree(main: Directory, camera: Directory, interoperability: Directory, start: int) -> bytes:
    """The main directory and, where they are not empty, the one of EXIF in it and the one in that."""
    if interoperability:
        camera = camera | {INTEROPERABILITY: whole(LONG, 0)}
    if camera:
        main = main | {EXIF: whole(LONG, 0)}
    camera_start = start + len(pack(main, start))
    interoperability_start = camera_start + len(pack(camera, camera_start))
    packed = b""
    if interoperability:
        packed = pack(interoperability, interoperability_start)
        camera = camera | {INTEROPERABILITY: whole(LONG, interoperability_start)}
    if camera:
        packed = pack(camera, camera_start) + packed
        main = main | {EXIF: whole(LONG, camera_start)}
    return pack(main, start) + packed


def header(first: int, order: str = "<") -> bytes:
    return (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, first)


def numbers(directory: Directory, tag: int, default: Iterable[int] = ()) -> list[int]:
    field = directory.get(tag)
    return (field.numbers() if field else []) or list(default)


def number(directory: Directory, tag: int, default: int) -> int:
    """The first one: a tag may claim millions."""
    field = directory.get(tag)
    return ((field.numbers(1) if field else []) or [default])[0]
