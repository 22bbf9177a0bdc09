"""PNG, as far as OpenCV does not go: what its chunks say, and images of every kind with them."""

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from derain.errors import CorruptImageError, UnsupportedFormatError
from derain.images.codecs import opencv, pillow
from derain.images.coded import Coding, Decoded, Extras, Header, Samples
from derain.images.colour import MAX_PROFILE_BYTES
from derain.images.formats import PNG
from derain.images.metadata.captions import MAX_XMP_BYTES
from derain.images.metadata.exif import read_exif
from derain.images.palette import Indexed, Palette, gray_levels, pack_bits

SIGNATURE = b"\x89PNG\r\n\x1a\n"

GRAY, RGB, PALETTE, GRAY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6  # colour types

# How the values are to be understood, besides a profile.
COLOUR_CHUNKS = (b"cICP", b"gAMA", b"cHRM", b"sRGB")

_USUAL_COLOURS = {
    b"gAMA": (45_455,),
    b"cHRM": (31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000),
}
_UNSEEN = 1_000  # of 100 000: what writers round

_MAX_CHUNKS = 200_000  # pieces of half a kilobyte, of the largest upload

_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")

_XMP_KEYWORD = b"XML:com.adobe.xmp"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_KNOWN_TEXTS = {"comment", "content-credentials", "exif", "iptc", "xmp"}
_RAW_PROFILE = b"Raw profile type "  # as ImageMagick writes what has no chunk of its own

_DRAWN_LEVEL = 6  # of zlib; 9 takes seven times as long for a sixth of the bytes

_METRE_INCHES = 1 / 0.0254


@dataclass(frozen=True)
class PngHeader(Header):
    format = PNG

    depth: int
    colour_type: int
    primaries_and_transfer: tuple[int, int] | None  # of a cICP chunk, where no profile says it

    @property
    def is_deep(self) -> bool:
        return self.depth == 16

    @property
    def code_points(self) -> tuple[int, int] | None:
        return self.primaries_and_transfer

    def decode(self, data: bytes) -> Decoded:
        all_chunks = list(chunks(data))
        found: dict[bytes, memoryview] = {}
        for name, content in all_chunks:
            found.setdefault(name, content)
        colour = [chunk(name, bytes(found[name])) for name in COLOUR_CHUNKS if name in found]
        exif, left_out = read_exif(bytes(found.get(b"eXIf", b"")))
        xmp, texts_left_out = read_texts(all_chunks, MAX_XMP_BYTES)
        return Decoded(
            self._samples(_pixels_only(all_chunks), found),
            exif,
            inflate(found[b"iCCP"], MAX_PROFILE_BYTES) if b"iCCP" in found else None,
            resolution(found[b"pHYs"]) if b"pHYs" in found else None,
            png_colour=b"".join(colour),
            coding=Coding(is_lossless=True, palette=palette_of(self.colour_type, self.depth, found)),
            xmp=xmp,
            left_out=frozenset(left_out | texts_left_out),
        )

    def _samples(self, data: bytes, found: Mapping[bytes, memoryview]) -> Samples:
        samples = opencv.read(data)
        if self.colour_type == GRAY_ALPHA and samples.ndim == 3:
            return samples[..., 2:]  # OpenCV gives gray three times
        if self.colour_type == GRAY and len(found.get(b"tRNS", b"")) == 2:
            return _with_one_gray_transparent(samples, int.from_bytes(found[b"tRNS"], "big"), self.depth)
        return samples


def read_header(data: bytes) -> PngHeader:
    if data[12:16] != b"IHDR" or len(data) < 33:
        raise CorruptImageError("the PNG image's header is damaged or cut short")
    width, height, depth, colour_type = struct.unpack_from(">IIBB", data, 16)
    if not width or not height:
        raise CorruptImageError(f"the PNG image's header is damaged: it is {width} x {height}")
    found: dict[bytes, memoryview] = {}
    try:
        for name, content in chunks(data):
            if name == b"IDAT":
                break
            found[name] = content
    except CorruptImageError:
        pass  # its size is known all the same; what is wrong is said when the pixels are read
    if int.from_bytes(found.get(b"acTL", b"")[:4], "big") > 1:
        raise UnsupportedFormatError(pillow.SEVERAL)
    points = found.get(b"cICP", b"")
    has_points = len(points) == 4 and b"iCCP" not in found
    return PngHeader(width, height, depth, colour_type, (points[0], points[1]) if has_points else None)


def encode(pixels: Samples | Indexed, extras: Extras, is_drawn: bool) -> bytes:
    colour = b"" if extras.profile else extras.png_colour  # a profile says it all
    dots, xmp = extras.dots_per_inch, extras.captions.xmp
    return write_png(pixels, extras.profile, extras.exif, dots, colour, xmp, is_drawn)


def _with_one_gray_transparent(gray: Samples, level: int, depth: int) -> Samples:
    """OpenCV leaves out the alpha of gray images in which one level is transparent."""
    opaque = np.iinfo(gray.dtype).max
    if depth < 8:
        level = level * 255 // (2**depth - 1)
    alpha = np.where(gray == level, 0, opaque).astype(gray.dtype)
    return np.stack([gray, alpha], axis=-1)


def chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Name and content of each; raises CorruptImageError at one that is not whole.

    OpenCV makes room for as many bytes as a chunk claims to have, up to gigabytes.
    """
    view, position = memoryview(data), len(SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        if position + 8 > len(data):
            return
        claimed = int.from_bytes(view[position : position + 4], "big")
        end = position + 12 + claimed  # length, name and checksum are four bytes each
        if end > len(data):
            raise CorruptImageError("the PNG image is damaged or cut short")
        yield bytes(view[position + 4 : position + 8]), view[position + 8 : end - 4]
        position = end
    raise CorruptImageError("the PNG image is damaged: it is in too many pieces")


def _pixels_only(all_chunks: Iterable[tuple[bytes, memoryview]]) -> bytes:
    """The same image without the text, metadata and animation beside it, which OpenCV would read."""
    kept = [chunk(name, bytes(content)) for name, content in all_chunks if name in _PIXEL_CHUNKS]
    return b"".join([SIGNATURE, *kept])


def check_chunks(data: bytes) -> None:
    """Raises CorruptImageError where one is not whole."""
    for _ in chunks(data):
        pass


def inflate(content: memoryview, most: int) -> bytes | None:
    """The profile in an iCCP chunk; None where it is damaged or longer than `most`."""
    _, found, packed = bytes(content).partition(b"\0")
    try:
        unpacker = zlib.decompressobj()
        profile = unpacker.decompress(packed[1:], most)
    except zlib.error:
        return None
    return profile if found and unpacker.eof else None


def tells_gamma(colour_chunks: bytes) -> bool:
    """Whether the file states another gamma or white than sRGB's."""
    found = dict(chunks(SIGNATURE + colour_chunks))
    if b"sRGB" in found:
        return False
    for name, usual in _USUAL_COLOURS.items():
        content = found.get(name, b"")
        if len(content) == 4 * len(usual):
            stated = struct.unpack(f">{len(usual)}I", content)
            if any(abs(one - other) > _UNSEEN for one, other in zip(stated, usual, strict=True)):
                return True
    return False


def read_texts(all_chunks: Iterable[tuple[bytes, memoryview]], most: int) -> tuple[bytes | None, set[str]]:
    """The XMP among the texts, of at most so many bytes, and what else there is that is not carried on."""
    packet, names = None, set[str]()
    for name, content in all_chunks:
        if name == b"caBX":
            names.add("content-credentials")
        if name not in _TEXTS:
            continue
        keyword, _, rest = bytes(content[: most + 1000]).partition(b"\0")
        if name == b"iTXt" and keyword == _XMP_KEYWORD:
            packet = rest
        elif keyword.startswith(_RAW_PROFILE):
            names.add(keyword.removeprefix(_RAW_PROFILE).decode("latin-1")[:20])
        else:
            names.add("comment")
    return _text_of(packet, most) if packet is not None else None, names & _KNOWN_TEXTS


def _text_of(rest: bytes, most: int) -> bytes | None:
    """Of an iTXt chunk behind its keyword: flag, method, language, translated keyword, text."""
    is_packed, (_, _, text) = rest[:1] == b"\1", (*rest[2:].split(b"\0", 2), b"", b"")[:3]
    if not is_packed:
        return text
    try:
        return zlib.decompressobj().decompress(text, most)
    except zlib.error:
        return None


def resolution(content: memoryview) -> tuple[float, float] | None:
    """Dots per inch by a pHYs chunk."""
    if len(content) != 9 or content[8] != 1:
        return None
    across, down, _ = struct.unpack(">IIB", content)
    return across / _METRE_INCHES, down / _METRE_INCHES


def write_png(
    samples: Samples | Indexed,
    profile: bytes | None,
    exif: bytes | None,
    dots_per_inch: tuple[float, float] | None,
    colour_chunks: bytes,
    xmp: bytes | None = None,
    is_drawn: bool = False,
) -> bytes:
    """Samples (height, width, channels) of 8 or 16 bits, as gray, gray with alpha, RGB or RGB with alpha.

    Written here because OpenCV writes no gray with alpha, and Pillow no RGB of 16 bits. The differences
    to the row above, packed as runs, take the time of OpenCV's choice and four fifths of its bytes. What is
    drawn becomes a fraction of that by looking for repetitions, which photographs have not.
    """
    if isinstance(samples, Indexed):
        (height, width), depth = samples.indices.shape, samples.bits
        colour_type = GRAY if samples.is_gray else PALETTE
    else:
        height, width, channels = samples.shape
        depth = 8 * samples.dtype.itemsize
        colour_type = {1: GRAY, 2: GRAY_ALPHA, 3: RGB, 4: RGB_ALPHA}[channels]
    parts = [SIGNATURE, chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))]
    if profile:
        parts.append(chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(profile)))
    parts.append(colour_chunks)
    if dots_per_inch:
        across, down = (min(round(value * _METRE_INCHES), 2**31 - 1) for value in dots_per_inch)
        parts.append(chunk(b"pHYs", struct.pack(">IIB", across, down, 1)))
    if exif:
        parts.append(chunk(b"eXIf", exif))
    if xmp:
        parts.append(chunk(b"iTXt", _XMP_KEYWORD + b"\0" * 5 + xmp))
    if isinstance(samples, Indexed) and not samples.is_gray:
        parts += _palette_chunks(samples.palette)
    return b"".join([*parts, *_rows(samples, is_drawn), chunk(b"IEND", b"")])


def _palette_chunks(palette: Palette) -> list[bytes]:
    has_alpha = palette.shape[1] in (2, 4)
    colours = palette[:, :-1] if has_alpha else palette
    parts = [chunk(b"PLTE", np.broadcast_to(colours, (len(palette), 3)).tobytes())]
    return [*parts, chunk(b"tRNS", palette[:, -1].tobytes())] if has_alpha else parts


def palette_of(colour_type: int, depth: int, found: Mapping[bytes, memoryview]) -> Palette | None:
    """All that the pixels can be, with alpha where some have it; None where that is more than a palette."""
    transparent = bytes(found.get(b"tRNS", b""))
    if colour_type == PALETTE and len(found.get(b"PLTE", b"")) % 3 == 0 and b"PLTE" in found:
        colours = np.frombuffer(found[b"PLTE"], np.uint8).reshape(-1, 3)[: 2**depth]
        if not transparent:
            return colours
        alpha = np.frombuffer(transparent.ljust(len(colours), b"\xff")[: len(colours)], np.uint8)
        return np.column_stack([colours, alpha])
    if colour_type == GRAY and depth < 8:
        levels = gray_levels(depth)
        if len(transparent) != 2:
            return levels
        opaque = np.arange(len(levels)) != int.from_bytes(transparent, "big")
        return np.column_stack([levels, (opaque * 255).astype(np.uint8)])
    return None


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


_BLOCK_BYTES = 2**20  # of rows that are filtered at once
_TRIED_BYTES = 2**18
_NONE, _UP = 0, 2  # filters


def _rows(samples: Samples | Indexed, is_drawn: bool) -> Iterator[bytes]:
    packer = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    filter_type = _UP
    if is_drawn:
        filter_type = _best_filter(next(_row_bytes(samples)))
        packer = zlib.compressobj(_DRAWN_LEVEL, zlib.DEFLATED, 15, 9)
    above = None
    for rows in _row_bytes(samples):
        if packed := packer.compress(_filtered(rows, above, filter_type)):
            yield chunk(b"IDAT", packed)
        above = rows[-1:]
    yield chunk(b"IDAT", packer.flush())


def _row_bytes(samples: Samples | Indexed) -> Iterator[NDArray[np.uint8]]:
    """As they stand in the file, (rows, bytes), some rows at a time."""
    if isinstance(samples, Indexed):
        for part in _blocks(samples.indices):
            yield pack_bits(part.astype(np.uint8, copy=False), samples.bits)
        return
    for part in _blocks(samples):
        rows = np.ascontiguousarray(part, ">u2" if part.dtype == np.uint16 else "u1").view(np.uint8)
        yield rows.reshape(len(part), -1)


def _blocks(pixels: Samples) -> Iterator[Samples]:
    rows = max(1, _BLOCK_BYTES // pixels[0].nbytes)
    for start in range(0, len(pixels), rows):
        yield pixels[start : start + rows]


def _filtered(rows: NDArray[np.uint8], above: NDArray[np.uint8] | None, filter_type: int) -> bytes:
    filtered = np.full((len(rows), 1 + rows.shape[1]), filter_type, np.uint8)
    filtered[:, 1:] = rows
    if filter_type == _UP:
        filtered[1:, 1:] -= rows[:-1]
        filtered[:1, 1:] -= above if above is not None else 0
    return filtered.tobytes()


def _best_filter(rows: NDArray[np.uint8]) -> int:
    few = rows[: max(1, _TRIED_BYTES // rows.shape[1])]
    sizes = {kind: len(zlib.compress(_filtered(few, None, kind), _DRAWN_LEVEL)) for kind in (_NONE, _UP)}
    return min(sizes, key=lambda kind: sizes[kind])
