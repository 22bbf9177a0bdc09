from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from derain.arrays import Picture
from derain.tiling import QUARTERS, Span, Tile, cut, least_tile_pixels, middle, place, spans, spread


@dataclass(frozen=True)
class Case:
    height: int
    width: int
    threads: int
    tile_pixels: int
    overlap_px: int
    alignment_px: int

    def cut(self) -> list[Tile]:
        return cut(
            self.height, self.width, self.threads, self.tile_pixels, self.overlap_px, self.alignment_px
        )

    @property
    def most_pixels(self) -> int:
        return max(self.tile_pixels, least_tile_pixels(self.overlap_px, self.alignment_px))


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


def numbered(rows: int, columns: int) -> Picture:
    """Each pixel says in its first two channels where it is."""
    return np.dstack([*np.mgrid[0:rows, 0:columns], np.zeros((rows, columns))]).astype(np.uint8)


@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(1, 5).filter(lambda count: count != QUARTERS),
)
def test_windows_are_spread_evenly_over_the_longer_side(
    rows: int, columns: int, height: int, width: int, count: int
) -> None:
    windows = spread(numbered(rows, columns), count, height, width)
    assert {window.shape[:2] for window in windows} == {(min(height, rows), min(width, columns))}
    tops, lefts = ([int(window[0, 0, axis]) for window in windows] for axis in (0, 1))
    across, along, free = (
        (lefts, tops, rows - min(height, rows))
        if rows > columns
        else (tops, lefts, columns - min(width, columns))
    )
    assert len(set(across)) == 1
    # What is free before the first is free behind the last, and they go on at the same pace.
    assert abs(along[0] + along[-1] - free) <= 1
    assert along == sorted(along)
    steps = np.diff(along)
    assert not steps[1:-1].size or np.ptp(steps[1:-1]) <= 1


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.integers(1, 40))
def test_four_windows_are_of_the_quarters(rows: int, columns: int, height: int, width: int) -> None:
    windows = spread(numbered(rows, columns), QUARTERS, height, width)
    assert {window.shape[:2] for window in windows} == {(min(height, rows), min(width, columns))}
    top_left, top_right, bottom_left, bottom_right = (window[0, 0, :2].astype(int) for window in windows)
    assert (top_left[0], top_left[1]) == (top_right[0], bottom_left[1])
    assert (bottom_right[0], bottom_right[1]) == (bottom_left[0], top_right[1])
    for first, last, side, window in (
        (top_left[0], bottom_right[0], rows, min(height, rows)),
        (top_left[1], bottom_right[1], columns, min(width, columns)),
    ):
        # As far from the one border as from the other, and in the middle of its half where there is room.
        assert abs(first + last + window - side) <= 1
        assert abs(2 * first + window - max(side / 2, window)) <= 2


def test_cells_are_placed_from_border_to_border() -> None:
    whole = place(24, 16, 8)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole[0], np.repeat([[-2 / 3], [0], [2 / 3]], 2, axis=1), atol=1e-6)
    np.testing.assert_allclose(whole[1], np.repeat([[-0.5, 0.5]], 3, axis=0), atol=1e-6)


@given(cases())
def test_cells_of_a_tile_are_placed_where_they_lie_in_the_picture(case: Case) -> None:
    whole = place(case.height, case.width, case.alignment_px)
    for tile in case.cut():
        rows, columns = (
            slice(span.start // case.alignment_px, span.stop // case.alignment_px)
            for span in (tile.rows, tile.columns)
        )
        of_tile = place(case.height, case.width, case.alignment_px, tile)
        np.testing.assert_array_equal(of_tile, whole[:, rows, columns])


def test_a_single_window_is_the_middle() -> None:
    picture = np.arange(13 * 20 * 3, dtype=np.uint16).reshape(13, 20, 3)
    for seen in (middle(picture, 5, 6), *spread(picture, 1, 5, 6)):
        np.testing.assert_array_equal(seen, picture[4:9, 7:13])


@given(cases())
def test_every_pixel_is_kept_by_just_one_tile(case: Case) -> None:
    times = np.zeros((case.height, case.width), dtype=int)
    for tile in case.cut():
        rows, columns = tile.rows, tile.columns
        assert rows.keep_start < rows.keep_stop
        assert columns.keep_start < columns.keep_stop
        times[rows.keep_start : rows.keep_stop, columns.keep_start : columns.keep_stop] += 1
    assert np.all(times == 1)


@given(cases())
def test_tiles_are_of_one_size_within_the_budget(case: Case) -> None:
    height, width = size(case.cut())
    assert height * width <= case.most_pixels


@given(cases())
def test_tiles_see_what_they_need(case: Case) -> None:
    """In whole cells of the network."""
    for tile in case.cut():
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
    tiles = case.cut()
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
    """With the overlap of the shipped model: how many tiles, and how many times the picture's pixels."""
    found = cut(height, width, threads, tile_pixels, overlap_px=75, alignment_px=8)
    tile_height, tile_width = size(found)
    assert len(found) == tiles
    assert tiles * tile_height * tile_width <= work * height * width


def test_a_budget_that_is_too_small_is_not_kept() -> None:
    assert least_tile_pixels(overlap_px=9, alignment_px=4) == 40 * 40
    assert size(cut(400, 400, 1, 1, overlap_px=9, alignment_px=4)) == (40, 40)


def test_a_strip_of_a_picture_is_cut_into_long_tiles() -> None:
    assert size(cut(8, 100_000, 1, 40_000, overlap_px=9, alignment_px=4))[0] == 8


def test_what_is_no_longer_than_a_tile_is_one() -> None:
    assert spans(32, 32, overlap_px=9, alignment_px=4) == [Span(0, 32, 0, 32)]


def test_the_last_tile_is_flush_with_the_end() -> None:
    first, last = spans(44, 36, overlap_px=9, alignment_px=4)
    assert first == Span(0, 36, 0, 17)
    assert last == Span(8, 44, 17, 44)


def test_a_picture_that_is_not_padded() -> None:
    with pytest.raises(AssertionError, match="pad the picture first"):
        cut(9, 8, 1, 10_000, overlap_px=9, alignment_px=4)
