"""BMP: which of its many kinds are read, and the others' names; and how one with a palette is written."""

import struct
from dataclasses import dataclass

import numpy as np

from derain.errors import CorruptImageError, UnsupportedFormatError
from derain.images.codecs import opencv, pillow
from derain.images.coded import Coding, Decoded, Extras, Header, Samples
from derain.images.formats import BMP
from derain.images.palette import Indexed, Palette, gray_levels, pack_bits

RUNS = (1, 2)  # compressions of 8 and of 4 bits

_OS2_1, _OS2_2 = 12, 64  # sizes of the header behind the file's own 14 bytes
_WINDOWS = (40, 52, 56, 108, 124)
_BIT_FIELDS = 3
_METRE_INCHES = 0.0254
_MOST_DOTS_PER_INCH = 5e7  # of what fits into the header
_RARE_BITS = {2, 64}
_RARE_COMPRESSIONS = {
    4: "JPEG in BMP",
    5: "PNG in BMP",
    6: "a BMP with bit fields of alpha",
    11: "CMYK in BMP",
    12: "CMYK in BMP",
    13: "CMYK in BMP",
}
_RARE_OS2_COMPRESSIONS = {3: "Huffman coding in BMP", 4: "24-bit runs in BMP"}
# Red, green and blue, and alpha where it is there, by bits: those that Pillow reads.
_USUAL_FIELDS: dict[int, set[tuple[int, ...]]] = {
    16: {(0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)},
    24: {(0xFF0000, 0xFF00, 0xFF)},
    32: {
        (0xFF0000, 0xFF00, 0xFF, 0),
        (0xFF000000, 0xFF0000, 0xFF00, 0),
        (0xFF000000, 0xFF00, 0xFF, 0),
        (0xFF000000, 0xFF0000, 0xFF00, 0xFF),
        (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
        (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
        (0xFF000000, 0xFF00, 0xFF, 0xFF0000),
        (0, 0, 0, 0),
    },
}


@dataclass(frozen=True)
class BmpHeader(Header):
    format = BMP

    def decode(self, data: bytes) -> Decoded:
        palette = palette_of(data)
        if compression(data) in RUNS:  # which Pillow takes apart in Python
            return Decoded(opencv.read(data), coding=Coding(palette=palette))
        samples, info = pillow.read(with_true_palette(data), BMP)
        if samples.ndim == 2 and palette is not None:  # it is all the grays that there are
            palette = gray_levels(1) if len(palette) == 2 else None
        return Decoded(samples, dots_per_inch=info.get("dpi"), coding=Coding(palette=palette))


def read_header(data: bytes) -> BmpHeader:
    """Raises UnsupportedFormatError for rare kinds."""
    refuse_rare(data)
    return BmpHeader(*pillow.read_size(with_true_palette(data), BMP))


def encode(pixels: Samples | Indexed, extras: Extras) -> bytes:
    if isinstance(pixels, Indexed):
        return write_bmp(pixels, extras.dots_per_inch)
    dots = extras.dots_per_inch
    return pillow.write(pixels, BMP, dpi=dots and tuple(min(each, _MOST_DOTS_PER_INCH) for each in dots))


def compression(data: bytes) -> int:
    (header,) = struct.unpack_from("<I", data, 14)
    (found,) = struct.unpack_from("<I", data, 30) if header >= _WINDOWS[0] else (0,)
    return int(found)


def refuse_rare(data: bytes) -> None:
    """Raises UnsupportedFormatError for what the standard has and no reader here, CorruptImageError where
    the header is cut short."""
    try:
        kind = _rare_kind(data)
    except struct.error as error:
        raise CorruptImageError("the BMP image's header is damaged or cut short") from error
    if kind:
        raise UnsupportedFormatError(f"{kind} is not supported: save it with 24 bits a pixel, or as PNG")


def _rare_kind(data: bytes) -> str | None:
    (header,) = struct.unpack_from("<I", data, 14)
    if header == _OS2_1:
        return None
    if header != _OS2_2 and header not in _WINDOWS:
        is_short = 16 <= header < _OS2_2 and header % 2 == 0
        return f"a BMP with an OS/2 header of {header} bytes" if is_short else None
    bits, packed = struct.unpack_from("<HI", data, 28)
    named = _RARE_OS2_COMPRESSIONS if header == _OS2_2 else _RARE_COMPRESSIONS
    if packed in named:
        return named[packed]
    if bits in _RARE_BITS:
        return f"a BMP of {bits} bits a pixel"
    if packed == _BIT_FIELDS and bits in _USUAL_FIELDS:
        count = 3 if bits < 32 else 4
        has_alpha = count == 4 and header >= _WINDOWS[2]
        fields = struct.unpack_from(f"<{count if has_alpha else 3}I", data, 54)
        if tuple([*fields, 0][:count]) not in _USUAL_FIELDS[bits]:
            return "a BMP of unusual bit fields"
    return None


def with_true_palette(data: bytes) -> bytes:
    """The header may claim more colours than the pixels can name, which Pillow does not take."""
    (header, bits), at = struct.unpack_from("<I10xH", data, 14), 46
    if header < _WINDOWS[0] or bits > 8:
        return data
    (colours,) = struct.unpack_from("<I", data, at)
    return data if colours <= 2**bits else data[:at] + struct.pack("<I", 2**bits) + data[at + 4 :]


def palette_of(data: bytes) -> Palette | None:
    """RGB (colours, 3), where the pixels are numbers of colours."""
    (header,) = struct.unpack_from("<I", data, 14)
    (bits,) = struct.unpack_from("<H", data, 24 if header == _OS2_1 else 28)
    if bits > 8:
        return None
    (colours,) = (0,) if header == _OS2_1 else struct.unpack_from("<I", data, 46)
    entry = 3 if header == _OS2_1 else 4
    start, count = 14 + header, min(colours or 2**bits, 2**bits)
    table = np.frombuffer(data[start : start + count * entry], np.uint8)
    return table[: len(table) // entry * entry].reshape(-1, entry)[:, 2::-1] if len(table) >= entry else None


def write_bmp(indexed: Indexed, dots_per_inch: tuple[float, float] | None) -> bytes:
    """With a palette of 1, 4 or 8 bits; Pillow writes it with 8."""
    height, width = indexed.indices.shape
    bits = 4 if indexed.bits == 2 else indexed.bits
    packed = pack_bits(indexed.indices, bits)
    rows = np.zeros((height, -(-packed.shape[1] // 4) * 4), np.uint8)
    rows[:, : packed.shape[1]] = packed[::-1]  # the lowest first
    table = np.zeros((len(indexed.palette), 4), np.uint8)
    table[:, :3] = indexed.palette[:, ::-1]
    dots = (min(each, _MOST_DOTS_PER_INCH) for each in dots_per_inch or (0, 0))
    across, down = (round(each / _METRE_INCHES) for each in dots)
    sizes = (width, height, 1, bits, 0, rows.size, across, down, len(table), 0)
    start = 14 + _WINDOWS[0] + table.size
    return b"".join(
        [
            b"BM" + struct.pack("<IHHI", start + rows.size, 0, 0, start),
            struct.pack("<IiiHHIIiiII", _WINDOWS[0], *sizes),
            table.tobytes(),
            rows.tobytes(),
        ]
    )
