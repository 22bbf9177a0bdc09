"""The size and the quantiser of an AV1 still image (AV1 specification, 5.5 to 5.9), before it is decoded."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_SEQUENCE_HEADER = 1  # types of OBUs, which a stream is made of
_FRAME_HEADERS = (3, 6)  # alone, and with the frame
_MAX_OBUS = 8  # in front of the frame; there are two or three
_HEAD_BYTES = 64  # of an OBU: far more than what is read here
_MAX_TILE_PX, _MAX_TILE_PIXELS, _MAX_TILES = 4096, 4096 * 2304, 64
# Asked for, and the index of the quantiser that comes of it.
_QUALITIES = (
    (100, 0),
    (95, 15),
    (90, 33),
    (80, 60),
    (70, 93),
    (60, 121),
    (50, 149),
    (40, 171),
    (20, 217),
    (1, 255),
)


class _Bits:
    """Of the first bytes of an OBU."""

    def __init__(self, content: memoryview) -> None:
        head = bytes(content[:_HEAD_BYTES])
        self._bits = int.from_bytes(head, "big")
        self._left = 8 * len(head)

    def read(self, count: int = 1) -> int:
        """Raises IndexError behind the end."""
        self._left -= count
        if self._left < 0:
            raise IndexError("behind the end")
        return self._bits >> self._left & (1 << count) - 1


@dataclass(frozen=True)
class Still:
    """A stream of one still image."""

    width: int
    height: int
    quality: int | None  # 1 to 100, as libavif counts; None where that is hard to find


@dataclass(frozen=True)
class _Sequence:
    width: int
    height: int
    block_px: int  # 64 or 128: what tiles are made of
    has_superres: bool


def read_still(stream: memoryview) -> Still | None:
    """By the headers in front of the frame; None where the stream is not of one still image, or damaged."""
    sequence: _Sequence | None = None
    try:
        for kind, content in _obus(stream):
            bits = _Bits(content)
            if kind == _SEQUENCE_HEADER:
                sequence = _read_sequence(bits)
            elif kind in _FRAME_HEADERS:
                return Still(sequence.width, sequence.height, _quality(bits, sequence)) if sequence else None
    except IndexError:
        pass
    return None


def _read_sequence(bits: _Bits) -> _Sequence | None:
    bits.read(4)  # profile, still image
    if not bits.read():  # the short header, of one still image
        return None
    bits.read(5)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    width, height = bits.read(width_bits) + 1, bits.read(height_bits) + 1
    block_px = 128 if bits.read() else 64
    bits.read(2)
    return _Sequence(width, height, block_px, bool(bits.read()))


def _quality(bits: _Bits, sequence: _Sequence) -> int | None:
    """What libavif 1.4 is to be asked for to get the frame's quantiser: measured, and linear between."""
    bits.read()
    if has_tools := bits.read():  # of screen content
        bits.read()
    if sequence.has_superres and bits.read():
        return None
    if bits.read():  # the size at which it is to be shown
        bits.read(32)
    if has_tools:
        bits.read()
    if not _skip_tiles(bits, sequence):
        return None
    asked, found = zip(*_QUALITIES, strict=True)
    return round(float(np.interp(bits.read(8), found, asked)))


def _skip_tiles(bits: _Bits, sequence: _Sequence) -> bool:
    """Whether they are all of one size."""
    block_px = sequence.block_px
    columns, rows = -(-sequence.width // block_px), -(-sequence.height // block_px)
    min_across = _doublings(_MAX_TILE_PX // block_px, columns)
    least = max(min_across, _doublings(_MAX_TILE_PIXELS // block_px**2, columns * rows))
    if not bits.read():
        return False
    across = min_across
    while across < _doublings(1, min(columns, _MAX_TILES)) and bits.read():
        across += 1
    down = max(least - across, 0)
    while down < _doublings(1, min(rows, _MAX_TILES)) and bits.read():
        down += 1
    if across or down:
        bits.read(across + down + 2)
    return True


def _doublings(size: int, target: int) -> int:
    """How often the size is to be doubled to reach the target."""
    count = 0
    while size << count < target:
        count += 1
    return count


def _obus(stream: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Type and content of the first ones; raises IndexError behind the end."""
    position = 0
    for _ in range(_MAX_OBUS):
        head = stream[position]
        position += 2 if head & 4 else 1  # with an extension
        size = len(stream) - position
        if head & 2:
            size = 0
            for place in range(8):  # leb128()
                byte = stream[position]
                size |= (byte & 0x7F) << 7 * place
                position += 1
                if not byte & 0x80:
                    break
        yield head >> 3 & 15, stream[position : position + size]
        position += size
