"""Where to cut a picture into tiles, so that the parts put together equal the whole.

Pure geometry. A network that sees `overlap_px` around each pixel gives the same result on a
tile as on the picture, except within `overlap_px` of a border of the tile that is not a
border of the picture. So tiles overlap by twice that, and only their inside is kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Span:
    """One tile along one axis: [start, stop) is read, [keep_start, keep_stop) is kept."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


@dataclass(frozen=True)
class Tile:
    rows: Span
    columns: Span


def cut(height: int, width: int, tile_px: int, overlap_px: int, alignment_px: int) -> Iterator[Tile]:
    """Tiles, all of one shape, that cover the picture; each pixel is kept by just one of them.

    `height` and `width` are multiples of `alignment_px`, and so is every start and stop: a
    network that works on cells of that size sees the same cells in the tile. Along an axis
    no longer than `tile_px` there is one tile.
    """
    columns = spans(width, tile_px, overlap_px, alignment_px)
    for row in spans(height, tile_px, overlap_px, alignment_px):
        for column in columns:
            yield Tile(row, column)


def smallest_tile_px(overlap_px: int, alignment_px: int) -> int:
    """A tile of this size has an inside to keep, one cell wide."""
    return 2 * _round_up(overlap_px, alignment_px) + alignment_px


def spans(length: int, tile_px: int, overlap_px: int, alignment_px: int) -> list[Span]:
    """The tiles along one axis: as few as possible, equally long, the last flush with the end.

    `tile_px` is at least `smallest_tile_px`, and `length` a multiple of `alignment_px`.
    """
    assert length % alignment_px == 0, "pad the picture first"
    assert tile_px >= smallest_tile_px(overlap_px, alignment_px), "a tile has no inside"
    overlap_px = _round_up(overlap_px, alignment_px)
    tile_px = tile_px // alignment_px * alignment_px
    if length <= tile_px:
        return [Span(0, length, 0, length)]
    step_px = tile_px - 2 * overlap_px
    # As many tiles as the largest size needs, then as small as that number allows.
    count = -(-(length - 2 * overlap_px) // step_px)
    step_px = _round_up(-(-(length - 2 * overlap_px) // count), alignment_px)
    size_px = step_px + 2 * overlap_px
    starts = [min(number * step_px, length - size_px) for number in range(count)]
    # Where two tiles meet: past the overlap of the later one, which is within the earlier one's.
    seams = [0, *(start + overlap_px for start in starts[1:]), length]
    return [
        Span(start, start + size_px, first, last)
        for start, (first, last) in zip(starts, pairwise(seams), strict=True)
    ]


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
