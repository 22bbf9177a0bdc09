"""What a JPEG says of itself in front of its pixels."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from derain.errors import CorruptImageError, UnsupportedFormatError

SIGNATURE = b"\xff\xd8\xff"
EXIF_PREFIX = b"Exif\0\0"
_PROFILE_PREFIX = b"ICC_PROFILE\0"

_START_OF_SCAN, _APP0, _APP1, _APP2 = 0xDA, 0xE0, 0xE1, 0xE2
_STANDALONE = {0x01, *range(0xD0, 0xDA)}  # markers without a segment
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
# Baseline, extended and progressive, with Huffman or arithmetic coding; others are lossless or hierarchical.
_DECODED_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
_PROGRESSIVE_FRAMES = {0xC2, 0xCA}

# Of other frames a scan of all components is the only one that is decoded. A progressive picture has about
# ten scans. Each costs the time of a whole picture, and needs few bytes.
_MOST_SCANNED_PIXELS = 3_000_000_000
_USUAL_SCANS = 20


@dataclass(frozen=True)
class JpegHead:
    width: int
    height: int
    is_gray: bool
    exif: bytes | None  # without its prefix
    profile: bytes | None
    dots_per_inch: tuple[float, float] | None


def read_head(data: bytes) -> JpegHead:
    """Raises CorruptImageError, or UnsupportedFormatError for what would not come back as it is."""
    frame: tuple[int, bytes] | None = None
    exif, dots = b"", None
    profile_parts: dict[int, bytes] = {}
    parts_claimed = components_in_scan = 0
    for marker, content in _segments(data):
        if marker in _FRAMES and frame is None:
            frame = marker, content
        elif marker == _APP0 and content.startswith(b"JFIF\0") and len(content) >= 12:
            dots = _resolution(content)
        elif marker == _APP1 and content.startswith(EXIF_PREFIX):
            exif += content[len(EXIF_PREFIX) :]
        elif marker == _APP2 and content.startswith(_PROFILE_PREFIX) and len(content) > 14:
            number, parts_claimed = content[12:14]
            profile_parts[number] = content[14:]
        elif marker == _START_OF_SCAN and content:
            components_in_scan = content[0]
    if frame is None or len(frame[1]) < 6:
        raise CorruptImageError("the JPEG picture is damaged or cut short")
    process, (precision, height, width, components) = frame[0], struct.unpack_from(">BHHB", frame[1])
    if not width or not height:
        raise CorruptImageError(f"the JPEG picture's header is damaged: it is {width} x {height}")
    if precision != 8 or process not in _DECODED_FRAMES:
        kind = f"a JPEG of {precision} bits" if precision != 8 else "a lossless or hierarchical JPEG"
        raise UnsupportedFormatError(f"{kind} is not supported: send it as an ordinary one, or as PNG")
    if components == 4:
        raise UnsupportedFormatError("CMYK is not supported: convert it to RGB, which depends on its profile")
    if components not in (1, 3):
        raise UnsupportedFormatError(f"a JPEG of {components} components is not supported: gray and RGB are")
    if process in _PROGRESSIVE_FRAMES or components_in_scan != components:
        scans = data.count(bytes([0xFF, _START_OF_SCAN]))
        if scans > _USUAL_SCANS and scans * width * height > _MOST_SCANNED_PIXELS:
            raise UnsupportedFormatError(f"the JPEG picture has {scans} scans: too many for its size")
    whole = sorted(profile_parts) == list(range(1, parts_claimed + 1))
    profile = b"".join(profile_parts[number] for number in sorted(profile_parts)) if whole else b""
    return JpegHead(width, height, components == 1, exif or None, profile or None, dots)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Markers and what they carry, up to the first scan's; stray bytes are skipped, as decoders do."""
    position = 2
    while True:
        position = data.find(b"\xff", position)
        if position < 0:
            return
        while data[position : position + 1] == b"\xff":  # any number of them may fill up
            position += 1
        if position >= len(data):
            return
        marker = data[position]
        position += 1
        if marker == 0 or marker in _STANDALONE:
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        if length < 2 or position + length > len(data):
            return
        yield marker, data[position + 2 : position + length]
        if marker == _START_OF_SCAN:
            return
        position += length


def _resolution(jfif: bytes) -> tuple[float, float] | None:
    unit, across, down = struct.unpack_from(">BHH", jfif, 7)
    per_inch = {1: 1.0, 2: 2.54}.get(unit)
    return (across * per_inch, down * per_inch) if per_inch and across and down else None
