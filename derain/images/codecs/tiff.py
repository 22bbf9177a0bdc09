"""TIFF, as far as Pillow and OpenCV do not go: what its tags say, and images of every kind with them."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from derain.errors import CorruptImageError, UnsupportedFormatError
from derain.images.alpha import unmultiplied
from derain.images.codecs import opencv, pillow
from derain.images.codecs.camera_raw import refuse_raw_tiff
from derain.images.coded import Coding, Decoded, Extras, Header, Samples
from derain.images.formats import TIFF
from derain.images.metadata.captions import Captions, iptc_in_photoshop
from derain.images.metadata.exif import read_exif
from derain.images.metadata.tiff_tags import (
    LONG,
    SHORT,
    Directory,
    Field,
    TagFile,
    header,
    numbers,
    pack,
    pack_tree,
    rational,
    whole,
)
from derain.images.palette import Indexed, Palette, gray_levels, pack_bits

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES = 273, 277, 278, 279
COLOUR_MAP = 320
X_RESOLUTION, Y_RESOLUTION, PLANAR, RESOLUTION_UNIT, PREDICTOR = 282, 283, 284, 296, 317
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_BYTES = 322, 323, 324, 325
EXTRA_SAMPLES, SAMPLE_FORMAT, PROFILE = 338, 339, 34675
XMP, IPTC, PHOTOSHOP = 700, 33723, 34377
_FILL_ORDER, _JPEG_TABLES = 266, 347

MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
ASSOCIATED_ALPHA, UNASSOCIATED_ALPHA = 1, 2

_PHOTOMETRIC_NAMES = {
    -1: "a TIFF that does not say whether it is gray or RGB",
    4: "a transparency mask",
    5: "CMYK",
    8: "L*a*b*",
    9: "L*a*b*",
    10: "L*a*b*",
    32844: "LogLuv",
    32845: "LogLuv",
}
# What libtiff reads here: Pillow's images of 8 bits, and OpenCV's of 16.
_DECODED = {
    8: {1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32809, 32946, 34925, 50000},
    16: {1, 5, 8, 32773, 32946},
}
_JPEGS = (6, 7)
_COMPRESSION_NAMES = {
    7: "JPEG",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34712: "JPEG 2000",
    34887: "LERC",
    34925: "LZMA",
    34933: "PNG",
    34934: "JPEG XR",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_SAMPLE_FORMATS = {2: "signed numbers", 3: "floating point", 5: "complex numbers", 6: "complex numbers"}

_MAX_EXTRA = 5  # samples beyond the colours: alpha, spot colours, masks

# Tiles may be larger than the image; decoders make room for a whole one.
_USUAL_TILE_PIXELS = 2048 * 2048
_MAX_PAGES = 10
_PARTS = (STRIP_OFFSETS, STRIP_BYTES, TILE_OFFSETS, TILE_BYTES)
_BYTES, _MOST_NUMBERS = (1, 2, 7), 200_000  # Pillow makes objects of all others; a palette has 196,608
_MAX_STRIPS = 70_000  # of a plane: Pillow handles them one by one


@dataclass(frozen=True)
class TiffHeader(Header):
    """Of the first page."""

    format = TIFF

    photometric: int
    samples: int
    bits: int
    is_planar: bool
    extra: tuple[int, ...]  # what each sample beyond gray or RGB means
    directory: Directory

    @property
    def is_deep(self) -> bool:
        return self.bits == 16

    @property
    def is_gray(self) -> bool:
        return self.photometric in (MIN_IS_WHITE, MIN_IS_BLACK)

    @property
    def needs_gray_views(self) -> bool:
        """Neither Pillow nor OpenCV reads deep planes, planes with more than colours in them, gray with a
        deep alpha, or several samples beyond the colours."""
        if self.is_planar:
            return self.bits == 16 or bool(self.extra)
        return len(self.extra) > 1 or (self.is_gray and self.samples == 2 and self.bits == 16)

    @property
    def is_lossy(self) -> bool:
        return _one(self.directory, COMPRESSION, 1) in _JPEGS

    @property
    def alpha(self) -> int | None:
        """Which of the samples is alpha."""
        alphas = [at for at, kind in enumerate(self.extra) if kind in (ASSOCIATED_ALPHA, UNASSOCIATED_ALPHA)]
        return self.samples - len(self.extra) + alphas[0] if alphas else None

    @property
    def is_multiplied(self) -> bool:
        """The colours by alpha."""
        at = self.alpha
        return at is not None and self.extra[at - self.samples] == ASSOCIATED_ALPHA

    def decode(self, data: bytes) -> Decoded:
        if self.needs_gray_views:
            samples = self._from_gray_views(data)
        elif self.bits == 16:
            samples = _with_true_alpha(opencv.read(data), self)
        else:
            samples, _ = pillow.read(data, TIFF)
        exif, left_out = read_exif(data, is_tiff=True)
        if len(self.extra) > (self.alpha is not None):
            left_out.add("extra-samples")
        profile, xmp = self.directory.get(PROFILE), self.directory.get(XMP)
        return Decoded(
            samples,
            exif,
            profile.data if profile else None,
            is_upright=not self.needs_gray_views,  # both libraries turn it, but not the views
            coding=Coding(is_lossless=not self.is_lossy, palette=palette_of(self)),
            xmp=xmp.data if xmp else None,
            iptc=iptc_of(self.directory),
            left_out=frozenset(left_out),
        )

    def _from_gray_views(self, data: bytes) -> Samples:
        read = opencv.read if self.bits == 16 else lambda view: pillow.read(view, TIFF)[0]
        views = [read(view) for view in gray_views(data, self)]
        # As planes, one behind the other; else side by side.
        planes: NDArray[Any] = np.stack(views, axis=-1)
        if not self.is_planar:
            planes = without_differences(planes.reshape(self.height, self.width, self.samples), self)
        return _with_true_alpha(planes, self)


def read_header(data: bytes) -> TiffHeader:
    """Raises CorruptImageError, or UnsupportedFormatError for what would not come back as it is."""
    file = TagFile(data)
    directory, following = file.directory(file.first)
    refuse_raw_tiff(file, directory, following)
    width, height = (_one(directory, tag, 0) for tag in (WIDTH, HEIGHT))
    if not width or not height:
        raise CorruptImageError(f"the TIFF image's header is damaged: it is {width} x {height}")
    _refuse_pages(file, following)
    photometric = _one(directory, PHOTOMETRIC, -1)
    samples = _one(directory, SAMPLES, 1)
    bits = _few(directory, BITS, [1])
    formats = _few(directory, SAMPLE_FORMAT, [1])
    extra = _few(directory, EXTRA_SAMPLES, [])
    if photometric not in (MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, YCBCR):
        kind = _PHOTOMETRIC_NAMES.get(photometric, f"photometric interpretation {photometric}")
        raise UnsupportedFormatError(f"{kind} is not supported in TIFF: save it as gray or RGB")
    if unlike := sorted({found for found in formats if found in _SAMPLE_FORMATS}):
        kind = _SAMPLE_FORMATS[unlike[0]]
        raise UnsupportedFormatError(f"{kind} in TIFF: whole numbers of 8 or 16 bits are supported")
    colours = 3 if photometric in (RGB, YCBCR) else 1
    has_more = photometric in (MIN_IS_WHITE, MIN_IS_BLACK, RGB)
    if not colours <= samples <= colours + (_MAX_EXTRA if has_more else 0):
        raise UnsupportedFormatError(
            f"a TIFF of {samples} samples a pixel is not supported: gray and RGB are"
        )
    allowed_bits = [8]
    if photometric != YCBCR and samples == 1:
        allowed_bits = [1, 2, 4, 8]
    if photometric in (MIN_IS_WHITE, MIN_IS_BLACK, RGB):
        allowed_bits.append(16)
    if len(set(bits)) != 1 or bits[0] not in allowed_bits:
        given = "-".join(map(str, dict.fromkeys(bits)))
        raise UnsupportedFormatError(f"a TIFF of {given} bits a sample is not supported: 8 and 16 are")
    _check_compression(_one(directory, COMPRESSION, 1), bits[0])
    meant = [*extra, *[0] * samples]  # not said what the rest means
    head = TiffHeader(
        width,
        height,
        photometric,
        samples,
        bits[0],
        _one(directory, PLANAR, 1) == 2 and samples > 1,
        tuple(meant[: samples - colours]),
        directory,
    )
    _check_parts(head)
    return head


def encode(pixels: Samples | Indexed, extras: Extras, is_drawn: bool) -> bytes:
    tags, _ = read_exif(extras.exif)
    directories = (tags.main, tags.camera, tags.interoperability) if tags else ({}, {}, {})
    return write_tiff(pixels, extras.profile, directories, extras.dots_per_inch, extras.captions, is_drawn)


def _with_true_alpha(samples: Samples, header: TiffHeader) -> Samples:
    """As Pillow does it for 8 bits: white is the highest level, colours are not multiplied by alpha."""
    channels: NDArray[Any] = samples if samples.ndim == 3 else samples[..., None]
    if header.photometric == MIN_IS_WHITE:
        np.bitwise_not(channels[..., 0], out=channels[..., 0])
    colours = channels[..., : header.samples - len(header.extra)]
    if header.alpha is None:
        return colours
    with_alpha: NDArray[Any] = np.concatenate([colours, channels[..., header.alpha, None]], axis=-1)
    return unmultiplied(with_alpha) if header.is_multiplied else with_alpha


def iptc_of(directory: Directory) -> bytes | None:
    """Its datasets, from their own tag or among what Photoshop has written."""
    if IPTC not in directory:
        return iptc_in_photoshop(directory[PHOTOSHOP].data) if PHOTOSHOP in directory else None
    field = directory[IPTC]
    # Many writers say that it is numbers; then they seem to stand in the order of the file.
    return field.data if field.data[:1] == b"\x1c" else field.swapped()


def palette_of(head: TiffHeader) -> Palette | None:
    """All that the pixels can be; None where that is more than a palette."""
    if head.is_gray and head.bits < 8:
        return gray_levels(head.bits)
    field = head.directory.get(COLOUR_MAP)
    if head.photometric != PALETTE or field is None or field.count != 3 * 2**head.bits:
        return None
    table = np.array(field.numbers(), np.uint16)
    if not table.size:
        return None
    return (table >> 8).astype(np.uint8).reshape(3, -1).T


def _refuse_pages(file: TagFile, following: int) -> None:
    """Other pages are refused; smaller copies and masks of the first one are not pages."""
    for _ in range(_MAX_PAGES):
        if not 0 < following < len(file.data):
            return
        directory, following = file.directory(following)
        if directory and not _one(directory, SUBFILE, 0) & 0b101:
            break
    raise UnsupportedFormatError(pillow.SEVERAL)


def _check_compression(compression: int, bits: int) -> None:
    depth = 16 if bits == 16 else 8
    if compression not in _DECODED[depth]:
        name = _COMPRESSION_NAMES.get(compression, f"compression {compression}")
        where = "TIFF of 16 bits a sample" if compression in _DECODED[8] else "TIFF"
        raise UnsupportedFormatError(f"{name} in {where} is not supported: save it as LZW, ZIP or without")


def _check_parts(head: TiffHeader) -> None:
    """Tiles and strips as large and as many as the image has use for."""
    tile_width, tile_length = (_one(head.directory, tag, 0) for tag in (TILE_WIDTH, TILE_LENGTH))
    if tile_width * tile_length > max(4 * head.width * head.height, _USUAL_TILE_PIXELS):
        raise CorruptImageError(f"the TIFF image's header is damaged: tiles of {tile_width} x {tile_length}")
    if tile_width % 16 or tile_length % 16:  # as TIFF 6.0 has it, and libtiff; Pillow takes a pixel for one
        raise CorruptImageError(f"the TIFF image's header is damaged: tiles of {tile_width} x {tile_length}")
    for tag, field in head.directory.items():
        if tag not in _PARTS and field.kind not in _BYTES and field.count > _MOST_NUMBERS:
            raise CorruptImageError("the TIFF image's header is damaged: too many values in a tag")
    planes = head.samples if head.is_planar else 1
    most = min(head.height, _MAX_STRIPS)
    if tile_width and tile_length:
        most = -(-head.width // tile_width) * -(-head.height // tile_length)
    for tag in _PARTS:
        if tag in head.directory and head.directory[tag].count > most * planes:
            raise CorruptImageError("the TIFF image's header is damaged: it has too many strips or tiles")


def _one(directory: Directory, tag: int, default: int) -> int:
    return _few(directory, tag, [default])[0]


def _few(directory: Directory, tag: int, default: list[int]) -> list[int]:
    if tag in directory and directory[tag].count > 64:
        raise CorruptImageError("the TIFF image's header is damaged: too many values in a tag")
    return numbers(directory, tag, default)


def gray_views(data: bytes, head: TiffHeader) -> Iterator[bytes]:
    """An image that no reader at hand can read, as gray ones that they can, each a copy of the file.

    Of planes, each is one; samples side by side are one of so many times the width, in which
    `without_differences` has still to undo the predictor.
    Raises UnsupportedFormatError where that does not hold.
    """
    tags = TagFile(data)
    if tags.is_big:
        raise UnsupportedFormatError("a BigTIFF of this kind is not supported: save it as an ordinary TIFF")
    copied = (HEIGHT, COMPRESSION, _FILL_ORDER, ROWS_PER_STRIP, PREDICTOR, TILE_LENGTH, _JPEG_TABLES)
    views = head.samples if head.is_planar else 1
    scale = 1 if head.is_planar else head.samples
    if scale > 1 and _one(head.directory, PREDICTOR, 1) not in (1, _HORIZONTAL):
        raise UnsupportedFormatError("a TIFF with a predictor for floating point is not supported")
    if scale > 1 and _one(head.directory, COMPRESSION, 1) in _JPEGS:
        raise UnsupportedFormatError(f"JPEG of {head.samples} samples a pixel in TIFF is not supported")
    shared = {tag: head.directory[tag] for tag in copied if tag in head.directory}
    shared |= {
        BITS: whole(SHORT, head.bits),
        PHOTOMETRIC: whole(SHORT, MIN_IS_BLACK),
        SAMPLES: whole(SHORT, 1),
    }
    if scale > 1:
        shared.pop(PREDICTOR, None)
    for tag in (WIDTH, TILE_WIDTH):
        if tag in head.directory:
            shared[tag] = whole(LONG, scale * _one(head.directory, tag, 0))
    parts = {
        tag: np.array_split(numbers(head.directory, tag), views)
        for tag in (STRIP_OFFSETS, STRIP_BYTES, TILE_OFFSETS, TILE_BYTES)
        if tag in head.directory
    }
    start = len(data) + len(data) % 2
    body = data[8:].ljust(start - 8, b"\0")
    for view in range(views):
        own = shared | {tag: whole(LONG, *part[view]) for tag, part in parts.items()}
        yield header(start, tags.order) + body + pack(own, start, tags.order)


def without_differences(samples: Samples, head: TiffHeader) -> Samples:
    """The image (height, width, samples) of a view in which those of a pixel are side by side."""
    if _one(head.directory, PREDICTOR, 1) == _HORIZONTAL:
        step = _one(head.directory, TILE_WIDTH, head.width)
        for start in range(0, head.width, step):
            part = samples[:, start : start + step]
            np.cumsum(part, axis=1, dtype=samples.dtype, out=part)
    return samples


_STRIP_BYTES = 2**20
_DEFLATE, _HORIZONTAL = 8, 2
_DRAWN_LEVEL = 6  # of zlib


def write_tiff(
    samples: Samples | Indexed,
    profile: bytes | None,
    exif: tuple[Directory, Directory, Directory],
    dots_per_inch: tuple[float, float] | None,
    captions: Captions,
    is_drawn: bool = False,
) -> bytes:
    """Samples (height, width, channels) of 8 or 16 bits, as gray, gray with alpha, RGB or RGB with alpha.

    Written here because OpenCV writes no tags, and Pillow no RGB of 16 bits.
    """
    pixels = samples.indices if isinstance(samples, Indexed) else samples
    height, width = pixels.shape[:2]
    rows = max(1, _STRIP_BYTES // pixels[0].nbytes)
    has_predictor = not is_drawn and not isinstance(samples, Indexed)
    parts = [b""]  # the header, once it is known where the directory is
    offsets, sizes, end = [], [], 8
    for strip in _strips(samples, rows, has_predictor, is_drawn):
        offsets.append(end)
        sizes.append(len(strip))
        parts.append(strip + b"\0" * (len(strip) % 2))
        end += len(parts[-1])
    main, camera, interoperability = exif
    fields: Directory = {}
    if dots_per_inch:
        fields = {
            X_RESOLUTION: rational(dots_per_inch[0]),
            Y_RESOLUTION: rational(dots_per_inch[1]),
            RESOLUTION_UNIT: whole(SHORT, 2),
        }
    fields |= main | _kind_of(samples)
    fields |= {
        WIDTH: whole(LONG, width),
        HEIGHT: whole(LONG, height),
        COMPRESSION: whole(SHORT, _DEFLATE),
        STRIP_OFFSETS: whole(LONG, *offsets),
        ROWS_PER_STRIP: whole(LONG, rows),
        STRIP_BYTES: whole(LONG, *sizes),
        PLANAR: whole(SHORT, 1),
        PREDICTOR: whole(SHORT, _HORIZONTAL if has_predictor else 1),
    }
    blocks = {PROFILE: (7, profile), XMP: (1, captions.xmp), IPTC: (7, captions.iptc)}
    fields |= {tag: Field(kind, len(block), block) for tag, (kind, block) in blocks.items() if block}
    parts[0] = header(end)
    return b"".join([*parts, pack_tree(fields, camera, interoperability, end)])


def _kind_of(samples: Samples | Indexed) -> Directory:
    """What the samples are."""
    if isinstance(samples, Indexed):
        kind = {BITS: whole(SHORT, samples.bits), SAMPLES: whole(SHORT, 1)}
        if samples.is_gray:
            return kind | {PHOTOMETRIC: whole(SHORT, MIN_IS_BLACK)}
        table = np.zeros((2**samples.bits, 3), np.uint16)
        table[: len(samples.palette)] = samples.palette.astype(np.uint16) * 257
        return kind | {
            PHOTOMETRIC: whole(SHORT, PALETTE),
            COLOUR_MAP: whole(SHORT, *table.T.ravel().tolist()),
        }
    channels = samples.shape[2]
    kind = {
        BITS: whole(SHORT, *[8 * samples.dtype.itemsize] * channels),
        PHOTOMETRIC: whole(SHORT, RGB if channels > 2 else MIN_IS_BLACK),
        SAMPLES: whole(SHORT, channels),
    }
    return kind | {EXTRA_SAMPLES: whole(SHORT, UNASSOCIATED_ALPHA)} if channels in (2, 4) else kind


def _strips(samples: Samples | Indexed, rows: int, has_predictor: bool, is_drawn: bool) -> Iterator[bytes]:
    pixels = samples.indices if isinstance(samples, Indexed) else samples
    for start in range(0, len(pixels), rows):
        strip: Samples = pixels[start : start + rows].copy()
        if isinstance(samples, Indexed):
            strip = pack_bits(samples.indices[start : start + rows], samples.bits)
        if has_predictor:
            strip[:, 1:] -= pixels[start : start + rows, :-1]
        quickly = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
        packer = zlib.compressobj(_DRAWN_LEVEL, zlib.DEFLATED, 15, 9) if is_drawn else quickly
        little = strip.astype("<u2" if pixels.dtype == np.uint16 else "u1", copy=False)
        yield packer.compress(little.tobytes()) + packer.flush()
