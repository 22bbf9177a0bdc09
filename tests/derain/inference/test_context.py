import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from derain.inference.context import context_windows
from tests.conftest import noise


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40))
def test_windows_are_as_large_as_can_be_and_lie_in_the_image(height: int, width: int, side_px: int) -> None:
    image = noise(height, width)
    for window in context_windows(image, side_px):
        assert window.shape == (min(side_px, height), min(side_px, width), 3)
        assert np.shares_memory(window, image)


@pytest.mark.parametrize(
    ("height", "width", "count"),
    [(10, 10, 1), (14, 10, 1), (16, 10, 2), (24, 16, 4), (30, 30, 9), (900, 900, 9), (900, 10, 3)],
)
def test_there_are_as_many_as_fit_up_to_three_a_side(height: int, width: int, count: int) -> None:
    assert len(context_windows(noise(height, width), 10)) == count


@given(st.integers(1, 200), st.integers(1, 200))
def test_they_are_spread_evenly(height: int, width: int) -> None:
    rows = np.repeat(np.arange(height, dtype=np.uint16)[:, None], width, axis=1)
    image = np.repeat(rows[..., None], 3, axis=2)
    tops = sorted({int(window[0, 0, 0]) for window in context_windows(image, 10)})
    middles = [(number + 0.5) * height / len(tops) for number in range(len(tops))]
    wanted = [min(max(middle - 5, 0), max(height - 10, 0)) for middle in middles]
    np.testing.assert_allclose(tops, wanted, atol=0.51)


def test_one_window_is_all_of_a_small_image() -> None:
    image = noise(7, 9)
    (window,) = context_windows(image, 10)
    np.testing.assert_array_equal(window, image)
