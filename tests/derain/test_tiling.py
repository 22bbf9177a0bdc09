from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from derain.tiling import Span, cut, smallest_tile_px, spans


@dataclass(frozen=True)
class Cut:
    length: int
    tile_px: int
    overlap_px: int
    alignment_px: int


@st.composite
def cuts(draw: st.DrawFn) -> Cut:
    alignment_px = draw(st.integers(1, 16))
    overlap_px = draw(st.integers(0, 40))
    # The least tile that has an inside, or more; not itself aligned.
    least_px = 2 * -(-overlap_px // alignment_px) * alignment_px + alignment_px
    tile_px = least_px + draw(st.integers(0, 200))
    length = draw(st.integers(1, 60)) * alignment_px
    return Cut(length, tile_px, overlap_px, alignment_px)


@given(cuts())
def test_along_an_axis(case: Cut) -> None:
    tiles = spans(case.length, case.tile_px, case.overlap_px, case.alignment_px)

    kept = [px for tile in tiles for px in range(tile.keep_start, tile.keep_stop)]
    assert kept == list(range(case.length))  # each once
    assert all(tile.keep_start < tile.keep_stop for tile in tiles)
    assert len({tile.stop - tile.start for tile in tiles}) == 1
    for tile in tiles:
        assert 0 <= tile.start < tile.stop <= case.length
        assert tile.stop - tile.start <= case.tile_px
        assert tile.start % case.alignment_px == 0
        assert tile.stop % case.alignment_px == 0
        assert tile.start == 0 or tile.keep_start - tile.start >= case.overlap_px
        assert tile.stop == case.length or tile.stop - tile.keep_stop >= case.overlap_px


@given(cuts(), cuts())
def test_every_pixel_is_kept_by_just_one_tile(rows: Cut, columns: Cut) -> None:
    height = rows.length // rows.alignment_px * columns.alignment_px
    tiles = list(cut(height, columns.length, columns.tile_px, columns.overlap_px, columns.alignment_px))

    times = np.zeros((height, columns.length), dtype=int)
    for tile in tiles:
        times[
            tile.rows.keep_start : tile.rows.keep_stop, tile.columns.keep_start : tile.columns.keep_stop
        ] += 1
    assert np.all(times == 1)
    assert len({(t.rows.stop - t.rows.start, t.columns.stop - t.columns.start) for t in tiles}) == 1


@given(cuts())
def test_there_are_as_few_tiles_as_can_be(case: Cut) -> None:
    fewer = len(spans(case.length, case.tile_px, case.overlap_px, case.alignment_px)) - 1
    largest_px = case.tile_px // case.alignment_px * case.alignment_px
    shared_px = 2 * -(-case.overlap_px // case.alignment_px) * case.alignment_px
    assert fewer * (largest_px - shared_px) + shared_px < case.length or not fewer


def test_what_fits_is_one_tile() -> None:
    assert spans(32, 35, overlap_px=9, alignment_px=4) == [Span(0, 32, 0, 32)]


def test_a_tile_that_is_all_overlap() -> None:
    assert smallest_tile_px(overlap_px=9, alignment_px=4) == 28
    assert len(spans(64, 28, overlap_px=9, alignment_px=4)) == 10
    with pytest.raises(AssertionError, match="no inside"):
        spans(64, 27, overlap_px=9, alignment_px=4)
