"""JPEG: what it says of itself, and its pixels, which are whole or an error.

libjpeg only warns of data that are missing or damaged, and fills the hole with gray. Here a warning is an
error. What it warns of though nothing is lost is put right before it decodes: stray bytes between the parts
of the header, an odd version or transform, a missing end marker, padding.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from derain.errors import CorruptImageError, UnsupportedFormatError
from derain.images.codecs import pillow
from derain.images.coded import Coding, Decoded, Extras, Header, Manner, Samples
from derain.images.formats import JPEG
from derain.images.metadata.captions import PHOTOSHOP_PREFIX, in_photoshop, iptc_in_photoshop
from derain.images.metadata.exif import read_exif

SIGNATURE = b"\xff\xd8\xff"
EXIF_PREFIX = b"Exif\0\0"
_PROFILE_PREFIX = b"ICC_PROFILE\0"
_MAX_EXIF_BYTES = 65_533 - len(EXIF_PREFIX)
_MAX_DENSITY = 65_535
_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"

_START, _END, _START_OF_SCAN, _QUANTISATION = 0xD8, 0xD9, 0xDA, 0xDB
_APP0, _APP1, _APP2, _APP11, _APP13, _APP14, _COMMENT = 0xE0, 0xE1, 0xE2, 0xEB, 0xED, 0xEE, 0xFE
_END_BYTES = bytes([0xFF, _END])
_STANDALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a segment
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
# Baseline, extended and progressive, with Huffman or arithmetic coding; others are lossless or hierarchical.
_DECODED_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
_PROGRESSIVE_FRAMES = {0xC2, 0xCA}
_NOTES = {*range(0xE0, 0xF0), 0xFE}  # metadata and comments: no pixel depends on them

# In front of restarts and scans: more of it, and less.
# A run is looked at from its beginning alone: from each of its bytes, a long one would take hours.
_PADDING_IN_SCAN = [re.compile(rb"(?<!\0)\0{%d,}(?=\xff[\xc4\xd0-\xd7\xda])" % least) for least in (8, 1)]

# What is not carried on: marker, start of the content, and what it is called.
_LEFT_OUT = (
    (_APP1, b"http://ns.adobe.com/xmp/extension/\0", "xmp"),
    (_APP2, b"urn:iso:std:iso:ts:21496:-1\0", "gain-map"),
    (_APP11, b"JP", "content-credentials"),
    (_COMMENT, b"", "comment"),
)
# Where Ultra HDR and Apple say that another image in the file is a gain map.
_GAIN_MAP_MARKS = (b"http://ns.adobe.com/hdr-gain-map/1.0/", b"HDRGainMap", b"hdrgainmap")
_MAX_PADDING = 64

# What ends the coded data of a scan: no stuffed zero, no restart, no filling.
_MARKER_BEHIND_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")

# Of other frames a scan of all components is the only one that is decoded. A progressive image has about
# ten scans. Each costs the time of a whole image, and needs few bytes.
_MAX_SCANNED_PIXELS = 3_000_000_000
_USUAL_SCANS = 20

_FILL = re.compile(rb"\xff+")

_MAX_SEGMENTS = 20_000  # and stray markers; a profile, scans and notes make some hundreds

# libjpeg reads 8 bytes ahead: so few that are left over it notices by chance. Webcams leave some.
_MAX_LEFT_OVER = 8
_WEBCAM_PIXELS = 16_000_000  # or each damaged photograph would be decoded eight times more

_STANDARD_SUM = 3688  # of the luminance table in the JPEG standard's annex K, which libjpeg calls quality 50


@dataclass(frozen=True)
class _Segment:
    """A marker, what it carries and, of a scan, its coded data."""

    marker: int
    stray: bytes  # between the segment before and this one: belongs to neither
    content: bytes
    data_start: int  # of the coded data, or of nothing
    end: int


@dataclass(frozen=True)
class JpegHeader(Header):
    format = JPEG

    segments: tuple[_Segment, ...]
    components: tuple[tuple[int, int], ...]  # how often each is sampled, across and down
    quality: int | None  # 1 to 100, as libjpeg counts, by the quantisation table of the luminance
    exif: bytes | None  # without its prefix
    profile: bytes | None
    dots_per_inch: tuple[float, float] | None
    has_several_scans: bool
    xmp: bytes | None
    photoshop: bytes  # resources, IPTC among them
    left_out: frozenset[str]  # what is never carried on

    @property
    def is_gray(self) -> bool:
        return len(self.components) == 1

    @property
    def colour_step(self) -> tuple[int, int]:
        """Pixels across and down for each sample of colour; the finer of the two colours."""
        across, down = self.components[0]
        colours = self.components[1:] or self.components
        return (
            max(1, across // max(one[0] for one in colours)),
            max(1, down // max(one[1] for one in colours)),
        )

    def decode(self, data: bytes) -> Decoded:
        exif, left_out = read_exif(self.exif)
        return Decoded(
            read_pixels(data, self),
            exif,
            self.profile,
            self.dots_per_inch,
            coding=Coding(quality=self.quality, colour_step=self.colour_step),
            xmp=self.xmp,
            iptc=iptc_in_photoshop(self.photoshop),
            left_out=self.left_out | left_out,
        )


def read_header(data: bytes) -> JpegHeader:
    """Raises CorruptImageError, or UnsupportedFormatError for what would not come back as it is."""
    segments = tuple(_segments(data))
    scans = [segment for segment in segments if segment.marker == _START_OF_SCAN and segment.content]
    notes = _Notes(segments[: segments.index(scans[0])] if scans else segments)
    frame = next((segment for segment in notes.segments if segment.marker in _FRAMES), None)
    if frame is None or len(frame.content) < 6:
        raise CorruptImageError("the JPEG image is damaged or cut short")
    width, height, components = _read_frame(frame.marker, frame.content)
    is_split = bool(scans) and scans[0].content[0] != len(components)
    has_several_scans = frame.marker in _PROGRESSIVE_FRAMES or is_split or not scans
    if has_several_scans and len(scans) > _USUAL_SCANS and len(scans) * width * height > _MAX_SCANNED_PIXELS:
        raise UnsupportedFormatError(f"the JPEG image has {len(scans)} scans: too many for its size")
    xmp = next(iter(notes.of(_APP1, _XMP_PREFIX)), None)
    end = segments[-1].end if segments else len(data)
    return JpegHeader(
        width,
        height,
        segments,
        components,
        quality=_quality(notes.table_sums().get(frame.content[8], 0)),
        exif=b"".join(notes.of(_APP1, EXIF_PREFIX)) or None,
        profile=notes.profile(),
        dots_per_inch=notes.dots_per_inch(),
        has_several_scans=has_several_scans,
        xmp=xmp,
        photoshop=b"".join(notes.of(_APP13, PHOTOSHOP_PREFIX)),
        left_out=frozenset(notes.left_out() | _behind(data[end:], xmp or b"")),
    )


@dataclass(frozen=True)
class _Notes:
    """What the segments in front of the first scan say."""

    segments: tuple[_Segment, ...]

    def of(self, marker: int, prefix: bytes) -> list[bytes]:
        """The contents of such segments, behind their prefix."""
        return [
            segment.content[len(prefix) :]
            for segment in self.segments
            if segment.marker == marker and segment.content.startswith(prefix)
        ]

    def profile(self) -> bytes | None:
        """Its parts in the order of their numbers, where all are there."""
        parts = [part for part in self.of(_APP2, _PROFILE_PREFIX) if len(part) > 2]
        numbered = {part[0]: part[2:] for part in parts}
        is_whole = bool(parts) and sorted(numbered) == list(range(1, parts[-1][1] + 1))
        return b"".join(numbered[number] for number in sorted(numbered)) if is_whole else None

    def dots_per_inch(self) -> tuple[float, float] | None:
        found = [jfif for jfif in self.of(_APP0, b"JFIF\0") if len(jfif) >= 7]
        if not found:
            return None
        unit, across, down = struct.unpack_from(">BHH", found[-1], 2)
        per_inch = {1: 1.0, 2: 2.54}.get(unit)
        return (across * per_inch, down * per_inch) if per_inch and across and down else None

    def table_sums(self) -> dict[int, int]:
        """Of the quantisation tables, by their number."""
        return {
            number: table_sum
            for content in self.of(_QUANTISATION, b"")
            for number, table_sum in _table_sums(content).items()
        }

    def left_out(self) -> set[str]:
        return {name for marker, start, name in _LEFT_OUT if self.of(marker, start)}


def encode(samples: Samples, extras: Extras, manner: Manner) -> bytes:
    exif, iptc, dots = extras.exif, extras.captions.iptc, extras.dots_per_inch
    # One segment holds no more; so much of text in EXIF is lost rather than the image.
    has_room = exif is not None and len(exif) <= _MAX_EXIF_BYTES
    return pillow.write(
        samples,
        JPEG,
        quality=manner.quality,
        subsampling=manner.sampling,
        dpi=dots if dots and max(dots) <= _MAX_DENSITY else None,
        icc_profile=extras.profile,
        exif=EXIF_PREFIX + exif if exif and has_room else None,
        xmp=extras.captions.xmp,
        extra=iptc_segment(iptc) if iptc else None,
    )


def _read_frame(process: int, content: bytes) -> tuple[int, int, tuple[tuple[int, int], ...]]:
    """Width, height and how each component is sampled."""
    precision, height, width, count = struct.unpack_from(">BHHB", content)
    if not width or not height:
        raise CorruptImageError(f"the JPEG image's header is damaged: it is {width} x {height}")
    if precision != 8 or process not in _DECODED_FRAMES:
        kind = f"a JPEG of {precision} bits" if precision != 8 else "a lossless or hierarchical JPEG"
        raise UnsupportedFormatError(f"{kind} is not supported: send it as an ordinary one, or as PNG")
    if count == 4:
        raise UnsupportedFormatError("CMYK is not supported: convert it to RGB, which depends on its profile")
    if count not in (1, 3):
        raise UnsupportedFormatError(f"a JPEG of {count} components is not supported: gray and RGB are")
    sampled = [content[7 + 3 * number] for number in range(count) if 8 + 3 * number < len(content)]
    if len(sampled) < count or not all(one >> 4 and one & 15 for one in sampled):
        raise CorruptImageError("the JPEG image's header is damaged: its components are not described")
    return width, height, tuple((one >> 4, one & 15) for one in sampled)


def iptc_segment(iptc: bytes) -> bytes:
    """For the header of a file that has none."""
    return _segment(_APP13, PHOTOSHOP_PREFIX + in_photoshop(iptc))


def read_pixels(data: bytes, head: JpegHeader) -> NDArray[np.uint8]:
    """Gray (height, width, 1) or RGB (height, width, 3), as in the file, which may be turned.

    Raises CorruptImageError where libjpeg warns that something is missing or damaged.
    """
    plain = _for_decoder(data, head)
    try:
        return _decode(plain, head)
    except CorruptImageError:
        for shorter in _without_padding(plain, head):
            try:
                return _decode(shorter, head)
            except CorruptImageError:
                continue
        raise


def _decode(plain: bytes, head: JpegHeader) -> NDArray[np.uint8]:
    colours = "GRAY" if head.is_gray else "RGB"
    try:
        simplejpeg.decode_jpeg_header(plain, strict=False)
    except ValueError:  # colours sampled in a way that TurboJPEG has no name for
        return _decode_odd(plain, head)
    try:
        return np.asarray(simplejpeg.decode_jpeg(plain, colours), np.uint8)
    except ValueError as error:
        raise CorruptImageError("the JPEG image is damaged or cut short: it lacks data") from error


def _decode_odd(plain: bytes, head: JpegHeader) -> NDArray[np.uint8]:
    flags = cv2.IMREAD_GRAYSCALE if head.is_gray else cv2.IMREAD_COLOR_RGB
    pixels = cv2.imdecode(np.frombuffer(plain, np.uint8), flags)
    if pixels is None:
        raise CorruptImageError("the JPEG image is damaged or cut short")
    return np.asarray(pixels, np.uint8).reshape(*pixels.shape[:2], -1)


def _for_decoder(data: bytes, head: JpegHeader) -> bytes:
    """The image alone: no metadata, nothing behind its end, and nothing libjpeg warns of without need."""
    view = memoryview(data)
    parts: list[bytes | memoryview] = [bytes([0xFF, _START])]
    is_sequential = may_skip = True
    reached = 2
    for segment in head.segments:
        # Behind a table they may be its own: then its length is wrong, and with it what was read of it.
        if not may_skip and len(set(segment.stray)) > 1:
            parts.append(segment.stray)
        may_skip = segment.marker in _NOTES
        is_sequential &= segment.marker not in _PROGRESSIVE_FRAMES
        reached = segment.end
        if segment.marker == _END:
            return b"".join([*parts, _END_BYTES])
        if (content := _as_usual(segment, is_sequential)) is not None:
            parts += (_segment(segment.marker, content), view[segment.data_start : reached])
        if segment.marker == _START_OF_SCAN and not head.has_several_scans:
            return b"".join([*parts, _END_BYTES])
    parts.append(view[reached:])
    # Of several scans the last ones may be missing, and nothing in those that are there says so.
    return b"".join(parts if head.has_several_scans else [*parts, _END_BYTES])


def _as_usual(segment: _Segment, is_sequential: bool) -> bytes | None:
    """Its content, where the pixels need it, with what libjpeg takes for the usual, and warns of, said so."""
    content = bytearray(segment.content)
    if segment.marker == _APP0 and content.startswith(b"JFIF\0") and len(content) >= 14:
        content[5] = 1  # the version
    elif segment.marker == _APP14 and content.startswith(b"Adobe") and len(content) >= 12:
        content[11] = 0 if content[11] == 0 else 1  # RGB or YCbCr
    elif segment.marker in _NOTES:
        return None
    elif segment.marker == _START_OF_SCAN and is_sequential and len(content) >= 4:
        content[-3:] = (0, 63, 0)  # all frequencies at once
    return bytes(content)


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _without_padding(plain: bytes, head: JpegHeader) -> Iterator[bytes]:
    """The image without what may only fill it up in front of its markers."""
    for padding in _PADDING_IN_SCAN:
        if padding.search(plain):
            yield padding.sub(b"", plain)
    data = plain[: -len(_END_BYTES)]
    shorter = data.rstrip(data[-1:])
    if len(data) - len(shorter) > _MAX_LEFT_OVER:
        for kept in (0, 1):  # the last byte of the data may look the same
            yield shorter + data[-1:] * kept + _END_BYTES
    if not head.has_several_scans and head.width * head.height <= _WEBCAM_PIXELS:
        for left in range(1, _MAX_LEFT_OVER + 1):
            yield data[:-left] + _END_BYTES


def _behind(rest: bytes, xmp: bytes) -> set[str]:
    """What lies behind the image's end, by name; some bytes of padding are nothing."""
    if len(rest) <= _MAX_PADDING and b"\xff\xd8" not in rest:
        return set()
    names = set()
    if any(mark in xmp or mark in rest for mark in _GAIN_MAP_MARKS):
        names.add("gain-map")
    elif b"\xff\xd8\xff" in rest:
        names.add("other-images")
    if b"ftyp" in rest:
        names.add("video")
    return names or {"appended-data"}


def _segments(data: bytes) -> Iterator[_Segment]:
    """Up to the end marker; stray bytes are skipped, as decoders do."""
    reached = position = 2
    for _ in range(_MAX_SEGMENTS):
        position = data.find(b"\xff", position)
        if position < 0:
            return
        stray_end = position
        filled = _FILL.match(data, position)  # any number of them may fill up
        assert filled is not None
        position = filled.end()
        if position >= len(data):
            return
        marker = data[position]
        position += 1
        if marker == 0 or marker in _STANDALONE:
            continue
        stray = data[reached:stray_end]
        if marker == _END:
            yield _Segment(marker, stray, b"", position, position)
            return
        length = int.from_bytes(data[position : position + 2], "big")
        if length < 2 or position + length > len(data):
            return
        content = data[position + 2 : position + length]
        start = reached = position + length
        if marker == _START_OF_SCAN:
            behind = _MARKER_BEHIND_SCAN.search(data, start)
            reached = behind.start() if behind else len(data)
        yield _Segment(marker, stray, content, start, reached)
        position = reached
    raise CorruptImageError("the JPEG image is damaged: it is in too many pieces")


def _table_sums(content: bytes) -> dict[int, int]:
    """Of the quantisation tables in a segment, by their number."""
    sums: dict[int, int] = {}
    position = 0
    while position < len(content):
        kind, number = "B" if content[position] < 16 else "H", content[position] & 15
        end = position + 1 + struct.calcsize(f">64{kind}")
        if end > len(content):
            break
        sums[number] = sum(struct.unpack_from(f">64{kind}", content, position + 1))
        position = end
    return sums


def _quality(table_sum: int) -> int | None:
    """By how libjpeg scales the standard's table."""
    if not table_sum:
        return None
    percent = 100 * table_sum / _STANDARD_SUM
    quality = 5000 / percent if percent > 100 else (200 - percent) / 2
    return min(100, max(1, round(quality)))
