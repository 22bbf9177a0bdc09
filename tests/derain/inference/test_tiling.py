from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from derain.arrays import middle
from derain.inference.tiling import Cutter, Span, Tile


@dataclass(frozen=True)
class Case(Cutter):
    height: int
    width: int

    @property
    def tiles(self) -> list[Tile]:
        return self.cut(self.height, self.width)

    @property
    def most_pixels(self) -> int:
        return max(self.tile_pixels, self.min_tile_pixels)


SMALL = Cutter(overlap_px=9, alignment_px=4, tile_pixels=10_000, threads=1)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    alignment_px = draw(st.integers(1, 16))
    return Case(
        height=draw(st.integers(1, 40)) * alignment_px,
        width=draw(st.integers(1, 40)) * alignment_px,
        threads=draw(st.integers(1, 17)),
        tile_pixels=draw(st.integers(1, 40_000)),
        overlap_px=draw(st.integers(0, 40)),
        alignment_px=alignment_px,
    )


def size(tiles: list[Tile]) -> tuple[int, int]:
    """Height and width of all tiles."""
    ((height, width),) = {tile.shape for tile in tiles}
    return height, width


def price(threads: int, tiles: int, pixels: int, whole: int) -> tuple[float, float]:
    """Of a grid: the work, as far as it is too much; then the time of the thread with the most tiles,
    and that of all of them over all threads."""
    work = tiles * pixels
    return max(work, 2 * whole), -(-tiles // threads) * pixels + work / threads


def test_the_middle_has_as_much_on_one_side_as_on_the_other() -> None:
    image = np.arange(13 * 20 * 3, dtype=np.uint16).reshape(13, 20, 3)
    np.testing.assert_array_equal(middle(image, 5, 6), image[4:9, 7:13])
    np.testing.assert_array_equal(middle(image, 50, 6), image[:, 7:13])


@given(cases())
def test_every_pixel_is_kept_by_just_one_tile(case: Case) -> None:
    times = np.zeros((case.height, case.width), dtype=int)
    for tile in case.tiles:
        rows, columns = tile.rows, tile.columns
        assert rows.keep_start < rows.keep_stop
        assert columns.keep_start < columns.keep_stop
        times[rows.keep_start : rows.keep_stop, columns.keep_start : columns.keep_stop] += 1
    assert np.all(times == 1)


@given(cases())
def test_tiles_are_of_one_size_within_the_budget(case: Case) -> None:
    height, width = size(case.tiles)
    assert height * width <= case.most_pixels


@given(cases())
def test_tiles_see_what_they_need(case: Case) -> None:
    """In whole cells of the network."""
    for tile in case.tiles:
        for span, length in ((tile.rows, case.height), (tile.columns, case.width)):
            assert 0 <= span.start < span.stop <= length
            assert span.start % case.alignment_px == 0
            assert span.stop % case.alignment_px == 0
            assert span.start == 0 or span.keep_start - span.start >= case.overlap_px
            assert span.stop == length or span.stop - span.keep_stop >= case.overlap_px


@given(cases())
def test_no_other_grid_is_done_sooner(case: Case) -> None:
    """Of all that there are: tiles of every height and width."""
    shared_px = -(-2 * case.overlap_px // case.alignment_px) * case.alignment_px

    def counts(length: int) -> list[tuple[int, int]]:
        """The number of tiles along an axis, by their length."""
        shorter = range(shared_px + case.alignment_px, length, case.alignment_px)
        cut_up = [(-(-(length - shared_px) // (tile_px - shared_px)), tile_px) for tile_px in shorter]
        return [(1, length), *cut_up]

    whole = case.height * case.width
    best = min(
        price(case.threads, rows * columns, row_px * column_px, whole)
        for rows, row_px in counts(case.height)
        for columns, column_px in counts(case.width)
        if row_px * column_px <= case.most_pixels
    )
    tiles = case.tiles
    height, width = size(tiles)
    assert price(case.threads, len(tiles), height * width, whole) == best


@pytest.mark.parametrize(
    ("height", "width", "threads", "tile_pixels", "tiles", "work"),
    [
        (320, 480, 1, 8 * 1024**2, 1, 1.0),
        (1080, 1920, 1, 2_100_000, 1, 1.0),
        (1080, 1920, 2, 8 * 1024**2, 2, 1.09),
        (1080, 1920, 16, 8 * 1024**2, 15, 1.72),  # in less than an eighth of the time
        (3000, 4000, 2, 8 * 1024**2, 2, 1.05),
        (4000, 6000, 1, 8 * 1024**2, 4, 1.07),
        (4000, 6000, 16, 2_100_000, 16, 1.21),
    ],
)
def test_what_photographs_cost(
    height: int, width: int, threads: int, tile_pixels: int, tiles: int, work: float
) -> None:
    """With the overlap of the shipped model: how many tiles, and how many times the image's pixels."""
    found = Cutter(75, 8, tile_pixels, threads).cut(height, width)
    tile_height, tile_width = size(found)
    assert len(found) == tiles
    assert tiles * tile_height * tile_width <= work * height * width


def test_a_budget_that_is_too_small_is_not_kept() -> None:
    cutter = replace(SMALL, tile_pixels=1)
    assert cutter.min_tile_pixels == 40 * 40
    assert size(cutter.cut(400, 400)) == (40, 40)


def test_a_strip_of_an_image_is_cut_into_long_tiles() -> None:
    assert size(replace(SMALL, tile_pixels=40_000).cut(8, 100_000))[0] == 8


def test_what_is_no_longer_than_a_tile_is_one() -> None:
    assert SMALL.spans(32, 32) == [Span(0, 32, 0, 32)]


def test_the_last_tile_is_flush_with_the_end() -> None:
    first, last = SMALL.spans(44, 36)
    assert first == Span(0, 36, 0, 17)
    assert last == Span(8, 44, 17, 44)


def test_an_image_that_is_not_padded() -> None:
    with pytest.raises(AssertionError, match="pad the image first"):
        SMALL.cut(9, 8)
