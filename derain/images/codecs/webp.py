"""WebP. Its chunks, and the head of a VP8 frame (RFC 6386), say how the image is coded."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from derain.images.codecs import pillow
from derain.images.coded import Coding, Decoded, Extras, Header, Manner, Samples
from derain.images.formats import WEBP
from derain.images.metadata.exif import read_exif

_MAX_CHUNKS = 1000  # those of an image are ten at most
_HEAD_BYTES = 200  # of a frame, in which its quantisers are; what comes before them takes a few dozen
_EVEN = 128  # of 256: the probability that a flag is not set
_MAX_QUANTISER = 127


@dataclass(frozen=True)
class WebpHeader(Header):
    format = WEBP

    def decode(self, data: bytes) -> Decoded:
        samples, info = pillow.read(data, WEBP)
        # Its colours are never finer than this.
        coding = Coding(is_lossless(data), quality=quality(data), colour_step=(2, 2))
        exif, left_out = read_exif(info.get("exif"))
        profile, xmp = info.get("icc_profile"), info.get("xmp")
        return Decoded(samples, exif, profile, coding=coding, xmp=xmp, left_out=frozenset(left_out))


def read_header(data: bytes) -> WebpHeader:
    return WebpHeader(*pillow.read_size(data, WEBP))


def encode(samples: Samples, extras: Extras, manner: Manner) -> bytes:
    """Without loss, `quality` is the effort. Colours are kept where they are transparent as well."""
    quality, method = (manner.quality, None)
    if manner.is_lossless:
        quality, method = (75, 2) if manner.is_drawn else (20, 1)
    return pillow.write(
        samples,
        WEBP,
        quality=quality,
        method=method,
        lossless=manner.is_lossless,
        exact=True,
        icc_profile=extras.profile,
        exif=extras.exif,
        xmp=extras.captions.xmp,
    )


def chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Name and content of each, up to one that is cut short."""
    view, position = memoryview(data), 12
    for _ in range(_MAX_CHUNKS):
        if position + 8 > len(data):
            return
        name, size = struct.unpack_from("<4sI", data, position)
        yield name, view[position + 8 : position + 8 + size]
        position += 8 + size + size % 2


def is_lossless(data: bytes) -> bool:
    return any(name == b"VP8L" for name, _ in chunks(data))


def quality(data: bytes) -> int | None:
    """1 to 100, as libwebp counts, by the mean of the segments' quantisers; None without a VP8 frame."""
    for name, content in chunks(data):
        if name == b"VP8 ":
            return _quality(_quantiser(_Flags(bytes(content[10 : 10 + _HEAD_BYTES]))))
    return None


def _quality(quantiser: float) -> int:
    """What libwebp makes that quantiser of."""
    linear = (1 - quantiser / _MAX_QUANTISER) ** 3
    share = linear * 3 / 2 if linear < 0.5 else (linear + 1) / 2
    return min(100, max(1, round(100 * share)))


class _Flags:
    """Reads the flags and numbers of a frame's head, which are packed by an arithmetic coder."""

    def __init__(self, packed: bytes) -> None:
        self._packed = iter(packed)
        self._value = next(self._packed, 0) << 8 | next(self._packed, 0)
        self._range, self._shifted = 255, 0

    def flag(self) -> bool:
        split = 1 + ((self._range - 1) * _EVEN >> 8)
        is_set = self._value >= split << 8
        self._range = self._range - split if is_set else split
        self._value -= split << 8 if is_set else 0
        while self._range < 128:
            self._range <<= 1
            self._value <<= 1
            self._shifted += 1
            if self._shifted == 8:
                self._shifted = 0
                self._value |= next(self._packed, 0)
        return is_set

    def number(self, bits: int) -> int:
        value = 0
        for _ in range(bits):
            value = value << 1 | self.flag()
        return value

    def signed(self, bits: int) -> int:
        value = self.number(bits)
        return -value if self.flag() else value


def _quantiser(flags: _Flags) -> float:
    """0, fine, to 127."""
    flags.number(2)  # colour space, clamping
    is_absolute, segments = False, [0]
    if flags.flag():
        is_absolute, segments = _segments(flags)
    flags.number(1 + 6 + 3)  # of the filter
    if flags.flag() and flags.flag():
        for _ in range(8):
            if flags.flag():
                flags.signed(6)
    flags.number(2)  # partitions
    base = flags.number(7)
    each = segments if is_absolute else [base + delta for delta in segments]
    return min(_MAX_QUANTISER, max(0, sum(each) / len(each)))


def _segments(flags: _Flags) -> tuple[bool, list[int]]:
    """Whether their quantisers stand for themselves, and those."""
    has_map, has_values = flags.flag(), flags.flag()
    is_absolute, quantisers = False, [0]
    if has_values:
        is_absolute = flags.flag()
        quantisers = [flags.signed(7) if flags.flag() else 0 for _ in range(4)]
        for _ in range(4):
            if flags.flag():
                flags.signed(6)
    if has_map:
        for _ in range(3):
            if flags.flag():
                flags.number(8)
    return is_absolute, quantisers
