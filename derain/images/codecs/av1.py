"""How large the frames of an AV1 bit stream are (AV1 specification, 5.3 to 5.9), before one is decoded."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from derain.errors import CorruptImageError, UnsupportedFormatError

# Types of OBUs, which a stream is made of.
_SEQUENCE_HEADER = 1
_FRAME_HEADERS = (3, 6, 7)  # alone, with the frame, and once more
_KEY_FRAME, _SWITCH_FRAME = 0, 3
_MAX_OBUS = 64  # in a still image; there are three or four
_HEAD_BYTES = 256  # the longest sequence header, of 32 operating points, has less
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
_MAX_TILE_PX, _MAX_TILE_PIXELS, _MAX_TILES = 4096, 4096 * 2304, 64
_SELECT = 2  # the frames say it themselves


class _Bits:
    """Of the first bytes of an OBU, which are enough for its head."""

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

    def skip_variable(self) -> None:
        """uvlc()"""
        for zeros in range(32):
            if self.read():
                self.read(zeros)
                return


@dataclass(frozen=True)
class _Sequence:
    """What is said for all frames."""

    width: int
    height: int
    is_reduced: bool  # one still image, with nothing to say in its frame
    presentation_bits: int  # of the time in each frame that is shown
    frame_id_bits: int
    screen_content: int
    integer_motion: int
    block_px: int  # 64 or 128: what tiles are made of
    order_bits: int  # of the order in which frames are shown
    has_superres: bool


def quality(stream: memoryview) -> int | None:
    """1 to 100, as libavif counts, by the quantiser of the first frame; None where that is hard to find."""
    sequence = None
    try:
        for kind, content in _obus(stream):
            if kind == _SEQUENCE_HEADER:
                sequence = _read_sequence(_Bits(content))
            elif kind in _FRAME_HEADERS and sequence:
                index = _quantiser_index(_Bits(content), sequence)
                return None if index is None else _quality(index)
    except (IndexError, CorruptImageError):
        pass
    return None


def colour_step(stream: memoryview) -> tuple[int, int]:
    """Pixels across and down for each sample of colour, by the profile: gray is in the first one."""
    try:
        profiles = [_Bits(content).read(3) for kind, content in _obus(stream) if kind == _SEQUENCE_HEADER]
    except (IndexError, CorruptImageError):
        profiles = []
    return {1: (1, 1), 2: (2, 1)}.get(profiles[0] if profiles else 0, (2, 2))


def _quality(index: int) -> int:
    """What libavif 1.4 is to be asked for to get that quantiser: measured, and linear between."""
    asked, found = zip(*_QUALITIES, strict=True)
    return round(float(np.interp(index, found, asked)))


def _quantiser_index(bits: _Bits, sequence: _Sequence) -> int | None:
    """0, without loss, to 255; of an image that is a key frame of its sequence's size."""
    if not sequence.is_reduced:
        if bits.read() or bits.read(2) != _KEY_FRAME or not bits.read():
            return None
        bits.read(sequence.presentation_bits)
    keeps_statistics = bits.read()
    has_tools = bits.read() if sequence.screen_content == _SELECT else sequence.screen_content
    if has_tools and sequence.integer_motion == _SELECT:
        bits.read()
    if not sequence.is_reduced:
        bits.read(sequence.frame_id_bits)
        if bits.read():  # it has a size of its own
            return None
    bits.read(sequence.order_bits)
    if sequence.has_superres and bits.read():
        return None
    if bits.read():  # the size at which it is to be shown
        bits.read(32)
    if has_tools:
        bits.read()
    if not (sequence.is_reduced or keeps_statistics):
        bits.read()
    return bits.read(8) if _skip_tiles(bits, sequence) else None


def _skip_tiles(bits: _Bits, sequence: _Sequence) -> bool:
    """Whether they are all of one size."""
    columns = -(-sequence.width // sequence.block_px)
    rows = -(-sequence.height // sequence.block_px)
    least_columns = _doublings(_MAX_TILE_PX // sequence.block_px, columns)
    least = max(least_columns, _doublings(_MAX_TILE_PIXELS // sequence.block_px**2, columns * rows))
    if not bits.read():
        return False
    across = least_columns
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


def frame_sizes(stream: memoryview) -> Iterator[tuple[int, int]]:
    """Width and height that each sequence of frames has.

    Raises CorruptImageError, and UnsupportedFormatError where a frame has another size than its sequence.
    """
    sequence = None
    try:
        for kind, content in _obus(stream):
            if kind == _SEQUENCE_HEADER:
                sequence = _read_sequence(_Bits(content))
                yield sequence.width, sequence.height
            elif kind in _FRAME_HEADERS and sequence and _has_its_own_size(_Bits(content), sequence):
                raise UnsupportedFormatError("AVIF with frames of several sizes is not supported")
    except IndexError as error:
        raise CorruptImageError("the AVIF image is damaged or cut short") from error


def _obus(stream: memoryview) -> Iterator[tuple[int, memoryview]]:
    position = 0
    for _ in range(_MAX_OBUS):
        if position == len(stream):
            return
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
        position = min(position + size, len(stream))
    raise CorruptImageError("the AVIF image is damaged: it is in too many pieces")


def _read_sequence(bits: _Bits) -> _Sequence:
    bits.read(4)  # profile, still image
    is_reduced = bool(bits.read())
    presentation_bits = 0
    if is_reduced:
        bits.read(5)
    else:
        presentation_bits = _skip_operating_points(bits)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    width, height = bits.read(width_bits) + 1, bits.read(height_bits) + 1
    if is_reduced:
        block_px = 128 if bits.read() else 64
        bits.read(2)
        return _Sequence(width, height, is_reduced, 0, 0, _SELECT, _SELECT, block_px, 0, bool(bits.read()))
    frame_id_bits = bits.read(4) + 2 + bits.read(3) + 1 if bits.read() else 0
    block_px = 128 if bits.read() else 64
    bits.read(2 + 4)  # tools of frames, and between frames
    has_order = bits.read()  # of frames
    if has_order:
        bits.read(2)
    screen_content = _SELECT if bits.read() else bits.read()
    integer_motion = _SELECT
    if screen_content and not bits.read():
        integer_motion = bits.read()
    order_bits = bits.read(3) + 1 if has_order else 0
    has_superres = bool(bits.read())
    return _Sequence(
        width,
        height,
        is_reduced,
        presentation_bits,
        frame_id_bits,
        screen_content,
        integer_motion,
        block_px,
        order_bits,
        has_superres,
    )


def _skip_operating_points(bits: _Bits) -> int:
    """How many bits a frame's time has: none where no frame has one."""
    presentation_bits = delay_bits = 0
    has_model = False
    if bits.read():  # times
        bits.read(64)
        is_even = bits.read()
        if is_even:
            bits.skip_variable()
        has_model = bool(bits.read())
        if has_model:
            delay_bits = bits.read(5) + 1
            bits.read(32 + 5)
            presentation_bits = 0 if is_even else bits.read(5) + 1
            if is_even:
                bits.read(5)
    has_delay = bits.read()
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read()
        if has_model and bits.read():
            bits.read(2 * delay_bits + 1)
        if has_delay and bits.read():
            bits.read(4)
    return presentation_bits


def _has_its_own_size(bits: _Bits, sequence: _Sequence) -> bool:
    if sequence.is_reduced or bits.read():  # or it shows an earlier one
        return False
    kind = bits.read(2)
    is_shown = bits.read()
    if is_shown:
        bits.read(sequence.presentation_bits)
    else:
        bits.read()
    if not (kind == _SWITCH_FRAME or (kind == _KEY_FRAME and is_shown)):
        bits.read()
    bits.read()
    has_tools = bits.read() if sequence.screen_content == _SELECT else sequence.screen_content
    if has_tools and sequence.integer_motion == _SELECT:
        bits.read()
    bits.read(sequence.frame_id_bits)
    return kind == _SWITCH_FRAME or bool(bits.read())
