"""Where to cut an image into tiles, so that the parts put together equal the whole.

Pure geometry. A network that sees `overlap_px` around each pixel gives the same result on a
tile as on the image, except within `overlap_px` of a border of the tile that is not a
border of the image. So tiles overlap by twice that, and only their inside is kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np

from derain.arrays import FloatArray, SameImage

# To be done sooner on many threads, an image may take this many times the work of the whole.
_MAX_WORK = 2


@dataclass(frozen=True)
class Span:
    """One tile along one axis: [start, stop) is read, [keep_start, keep_stop) is kept."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int

    @property
    def kept(self) -> slice:
        return slice(self.keep_start, self.keep_stop)

    @property
    def kept_of_read(self) -> slice:
        return slice(self.keep_start - self.start, self.keep_stop - self.start)


@dataclass(frozen=True)
class Tile:
    rows: Span
    columns: Span

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def of(self, image: SameImage) -> SameImage:
        """What of the image is read."""
        read = image[self.rows.start : self.rows.stop, self.columns.start : self.columns.stop]
        return cast(SameImage, read)

    def of_channels(self, values: FloatArray) -> FloatArray:
        """What of an array (channels, height, width) is read."""
        read = values[:, self.rows.start : self.rows.stop, self.columns.start : self.columns.stop]
        return np.ascontiguousarray(read)

    def keep(self, result: FloatArray, whole: FloatArray) -> None:
        """Writes what no border has spoilt of a tile's result; both are (channels, height, width)."""
        whole[:, self.rows.kept, self.columns.kept] = self.inside(result)

    def inside(self, result: FloatArray) -> FloatArray:
        """What of a tile's result, (channels, height, width), no border has spoilt."""
        return result[:, self.rows.kept_of_read, self.columns.kept_of_read]


@dataclass(frozen=True)
class Cutter:
    """Cuts images for a network into tiles that so many threads run."""

    overlap_px: int
    alignment_px: int  # of the cells that the network works on
    tile_pixels: int
    threads: int

    def cut(self, height: int, width: int) -> list[Tile]:
        """Tiles, all of one shape, that cover the image; each pixel is kept by just one of them.

        `height` and `width` are multiples of `alignment_px`, and so is every start and stop: the network sees
        the same cells in the tile.

        No tile has more than `tile_pixels`, or than `min_tile_pixels` where that is more. Of the grids that
        are left it is the one to be done soonest, see `_price`.
        """
        assert height % self.alignment_px == 0, "pad the image first"
        assert width % self.alignment_px == 0, "pad the image first"
        row_px, column_px = self._tile_size(height, width)
        columns = self.spans(width, column_px)
        return [Tile(row, column) for row in self.spans(height, row_px) for column in columns]

    @property
    def min_tile_pixels(self) -> int:
        """What any image can be cut into: at worst, half of a tile is overlap in each direction."""
        return (2 * max(self._shared_px, self.alignment_px)) ** 2

    def spans(self, length: int, tile_px: int) -> list[Span]:
        """The tiles along one axis, each of `tile_px`: as few as possible, the last flush with the end.

        Both lengths are multiples of `alignment_px`, and `tile_px` is no longer than `length`.
        """
        if tile_px == length:
            return [Span(0, length, 0, length)]
        step_px = tile_px - self._shared_px
        assert step_px > 0, "a tile has no inside"
        starts = [*range(0, length - tile_px, step_px), length - tile_px]
        # Where two tiles meet: past the overlap of the later one, and before that of the earlier one.
        seams = [0, *(start + self.overlap_px for start in starts[1:]), length]
        return [
            Span(start, start + tile_px, first, last)
            for start, (first, last) in zip(starts, pairwise(seams), strict=True)
        ]

    @property
    def _shared_px(self) -> int:
        """What a tile has in common with the next one."""
        return _round_up(2 * self.overlap_px, self.alignment_px)

    def _tile_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the tiles, by trying every grid that might be better than those before."""
        tile_pixels = max(self.tile_pixels, self.min_tile_pixels)
        whole, shared_px = height * width, self._shared_px
        best, size = (float("inf"),) * 3, (height, width)
        for rows, row_px in self._divisions(height):
            # From here on each row adds an overlap as wide as the image.
            if _min_price((height + (rows - 1) * shared_px) * width, self.threads, whole) >= best:
                break
            for columns, column_px in self._divisions(width):
                work = (width + (columns - 1) * shared_px) * rows * row_px
                if _min_price(work, self.threads, whole) >= best:
                    break
                price = _price(rows * columns, row_px * column_px, self.threads, whole)
                if row_px * column_px <= tile_pixels and price < best:
                    best, size = price, (row_px, column_px)
        return size

    def _divisions(self, length: int) -> Iterator[tuple[int, int]]:
        """Ways to cut one axis: the number of tiles and the length of each, from one tile upwards."""
        yield 1, length
        inside_px = length - self._shared_px
        most = inside_px // self.alignment_px
        shortest_px = inside_px
        for count in range(2, most + 1):
            step_px = _round_up(-(-inside_px // count), self.alignment_px)
            if step_px < shortest_px:  # else it is the same as with fewer tiles
                shortest_px = step_px
                yield -(-inside_px // step_px), step_px + self._shared_px


def _price(tiles: int, pixels: int, threads: int, whole: int) -> tuple[float, float, float]:
    """What so many tiles of so many pixels cost an image of `whole` pixels; the lowest is the best.

    It is the time that the image takes, which is that of the thread with the most tiles, plus the
    time that its work takes from the images after it, which is that of all tiles over all threads.
    Grids that take too much work come after all others, the least work first.
    """
    work = tiles * pixels
    rounds = -(-tiles // threads)
    return max(work, _MAX_WORK * whole), rounds * pixels + work / threads, tiles


def _min_price(work: int, threads: int, whole: int) -> tuple[float, float, float]:
    """No grid with that much work or more has a lower price, however well it suits the threads."""
    return max(work, _MAX_WORK * whole), 2 * work / threads, 0


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
