"""Pictures cut and shrunk."""

import numpy as np
import pytest
from numpy.typing import NDArray

from derain.arrays import Image, middle
from training.pictures import beside, caption, difference, shrink, square


def numbered(height: int, width: int) -> Image:
    """Each pixel says where it is: red its row, green its column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [(4, 6, range(3, 7), range(7, 13)), (10, 2, range(10), range(9, 11)), (99, 99, range(10), range(20))],
)
def test_middle_is_as_far_from_each_side(height: int, width: int, rows: range, columns: range) -> None:
    cut = middle(numbered(10, 20), height, width)
    expected: NDArray[np.uint8] = numbered(10, 20)[rows.start : rows.stop, columns.start : columns.stop]
    np.testing.assert_array_equal(cut, expected)


@pytest.mark.parametrize(("height", "width"), [(10, 20), (20, 10), (10, 10)])
def test_square_is_the_largest_in_the_middle(height: int, width: int) -> None:
    picture = numbered(height, width)
    np.testing.assert_array_equal(square(picture, 10), middle(picture, 10, 10))
    halves = middle(picture, 10, 10).reshape(5, 2, 5, 2, 3).mean(axis=(1, 3))
    assert np.abs(square(picture, 5) - halves).max() <= 0.5
    assert square(picture, 33).shape == (33, 33, 3)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((60, 100), (30, 50)),
        ((100, 60), (50, 30)),
        ((50, 50), (50, 50)),
        ((300, 1), (50, 1)),
        ((1, 9), (1, 9)),
    ],
)
def test_only_what_is_longer_is_shrunk(before: tuple[int, int], after: tuple[int, int]) -> None:
    assert shrink(np.zeros((*before, 3), dtype=np.uint8), 50).shape == (*after, 3)


def test_a_difference_is_grey_where_there_is_none() -> None:
    one = np.array([[[10, 10, 10]]], dtype=np.uint8)
    other = np.array([[[10, 12, 200]]], dtype=np.uint8)
    assert difference(one, other, 8).tolist() == [[[128, 112, 0]]]
    assert difference(other, one, 8).tolist() == [[[128, 144, 255]]]


def test_beside_one_another_on_white() -> None:
    row = beside([numbered(2, 3), numbered(4, 2)], gap_px=1)
    assert row.shape == (4, 6, 3)
    np.testing.assert_array_equal(row[:2, :3], numbered(2, 3))
    np.testing.assert_array_equal(row[:, 4:], numbered(4, 2))
    assert (row[2:, :3] == 255).all() and (row[:, 3] == 255).all()


def test_a_caption_has_its_texts_at_the_left_of_equal_columns() -> None:
    strip = caption(200, "one", "two")
    assert strip.shape[1] == 200
    inked = (strip.min(axis=(0, 2)) < 128).nonzero()[0]
    assert all(any(left < x < left + 40 for x in inked) for left in (0, 100))
    assert all(x % 100 < 50 for x in inked)
