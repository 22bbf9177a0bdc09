"""Images of few colours: drawings, screenshots, scans. What came with a palette goes back with one."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Palette = NDArray[np.uint8]  # (colours, channels), as the channels of the image
Bytes = NDArray[np.uint8]

MAX_COLOURS = 256

_BLOCK_PIXELS = 2**20  # at once: the numbers in between take several times the memory of the image
_CHUNK = 4096  # colours that are looked at at once
_ALPHA_WEIGHT = 8  # transparency is not to change because of a colour
# The bits of a colour that decide which of the palette is next, and the middle of the rest; fewer beside
# transparency, of which all bits count.
_COARSE, _MIDDLE = 0b11111000, 0b100
_COARSER, _LOWER_MIDDLE = 0b11110000, 0b1000


@dataclass(frozen=True)
class Indexed:
    """An image as numbers of colours."""

    indices: Bytes  # (height, width)
    palette: Palette

    @property
    def is_gray(self) -> bool:
        return int(self.palette.shape[1]) == 1

    @property
    def bits(self) -> int:
        """1, 2, 4 or 8 for an index, as files have them."""
        return next(bits for bits in (1, 2, 4, 8) if len(self.palette) <= 2**bits)


def gray_levels(bits: int) -> Palette:
    """All that so few bits can say, from black to white."""
    levels = np.arange(2**bits) * 255 // (2**bits - 1)
    return np.asarray(levels, np.uint8).reshape(-1, 1)


def fit(samples: Bytes, palette: Palette) -> Indexed:
    """The image (height, width, channels) in the palette that it came with.

    Colours that are new are added while there is room. Beyond that they become the nearest ones of the
    palette: it was good enough for the image that came. Gray keeps its levels.
    """
    order = np.unique(_packed(palette), return_index=True)[1]
    known: Palette = palette[order]  # sorted by their packed numbers
    if known.shape[1] > 1:
        known = _with_new(samples, known)
    finder = _Finder(known)
    indices = np.concatenate([_indices(block, known, finder) for block in _blocks(samples)])
    if known.shape[1] > 1:
        indices, known = _used_only(indices, known)
    return Indexed(indices, known)


def pack_bits(indices: Bytes, bits: int) -> Bytes:
    """Rows of indices as rows of bytes, the first index in the highest bits."""
    if bits == 8:
        return indices
    height, width = indices.shape
    each = 8 // bits
    padded = np.zeros((height, -(-width // each) * each), np.uint8)
    padded[:, :width] = indices
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    packed: Bytes = np.bitwise_or.reduce(padded.reshape(height, -1, each) << shifts, axis=2)
    return packed


def _blocks(samples: Bytes) -> Iterator[Bytes]:
    rows = max(1, _BLOCK_PIXELS // samples.shape[1])
    for start in range(0, len(samples), rows):
        yield samples[start : start + rows]


def _packed(colours: Bytes) -> NDArray[np.uint32]:
    """A number for each."""
    packed = np.zeros(colours.shape[:-1], np.uint32)
    for channel in range(colours.shape[-1]):
        packed = packed << np.uint32(8) | colours[..., channel]
    return packed


def _unpacked(packed: NDArray[np.uint32], channels: int) -> Bytes:
    shifts = np.arange(8 * channels - 8, -1, -8, dtype=np.uint32)
    return (packed[..., None] >> shifts & np.uint32(255)).astype(np.uint8)


class _Finder:
    """Where colours are among sorted ones, if they are."""

    def __init__(self, palette: Palette) -> None:
        self.known = _packed(palette)
        self._table = None
        if palette.shape[1] < 4:  # faster than to search, and little of it is ever touched
            self._table = np.zeros(256 ** palette.shape[1], np.uint8)
            self._table[self.known] = np.arange(len(palette))

    def places(self, packed: NDArray[np.uint32]) -> Bytes:
        if self._table is not None:
            return self._table[packed]
        found = np.minimum(np.searchsorted(self.known, packed), len(self.known) - 1)
        return found.astype(np.uint8)


def _with_new(samples: Bytes, palette: Palette) -> Palette:
    """And the colours that are new, if there is room for all of them."""
    finder = _Finder(palette)
    known = finder.known
    for block in _blocks(samples):
        packed = _packed(block)
        new = packed[finder.known[finder.places(packed)] != packed]
        for start in range(0, len(new), _CHUNK):  # the first few mostly show that there are too many
            known = np.union1d(known, new[start : start + _CHUNK])
            if len(known) > MAX_COLOURS:
                return palette
    return _unpacked(known, palette.shape[1])


def _indices(block: Bytes, palette: Palette, finder: _Finder) -> Bytes:
    packed = _packed(block)
    places = finder.places(packed)
    is_new = finder.known[places] != packed
    if is_new.any():
        coarse = block[is_new]
        colours = coarse[:, : 3 if coarse.shape[1] > 2 else 1]
        bits, middle = (_COARSER, _LOWER_MIDDLE) if coarse.shape[1] == 4 else (_COARSE, _MIDDLE)
        colours[:] = colours & bits | middle
        each, which = np.unique(_packed(coarse), return_inverse=True)
        places[is_new] = _nearest(_unpacked(each, block.shape[2]), palette)[which]
    return places


def _nearest(colours: Bytes, palette: Palette) -> NDArray[np.intp]:
    weights = np.ones(palette.shape[1], np.float32)
    if palette.shape[1] in (2, 4):
        weights[-1] = _ALPHA_WEIGHT
    aims = palette * weights
    lengths = (aims**2).sum(axis=1)
    found = [np.empty(0, np.intp)]
    for start in range(0, len(colours), _CHUNK):
        chunk = colours[start : start + _CHUNK] * weights
        # (chunk - aim)², without the part that is the same for all aims
        found.append((lengths - 2 * chunk @ aims.T).argmin(axis=1))
    return np.concatenate(found)


def _used_only(indices: Bytes, palette: Palette) -> tuple[Bytes, Palette]:
    used = np.bincount(indices.ravel(), minlength=len(palette)) > 0
    renumbered = (np.cumsum(used) - 1).astype(np.uint8)
    return renumbered[indices], palette[used]
