import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derain.arrays import AnyImage, FloatArray, Image
from derain.inference import scales as scales_module
from derain.inference.scales import reduced, scales, with_coarser
from tests.conftest import noise, scene


@pytest.mark.parametrize(
    ("side_px", "longest_px", "expected"),
    [
        (1, 10, [1]),
        (10, 10, [1]),
        (11, 10, [2, 1]),
        (20, 10, [2, 1]),
        (21, 10, [4, 2, 1]),
        (100, 10, [16, 8, 4, 2, 1]),
        (8160, 1280, [8, 4, 2, 1]),
        (8160, None, [1]),
    ],
)
def test_the_coarsest_scale_fits(side_px: int, longest_px: int | None, expected: list[int]) -> None:
    assert scales((side_px, side_px // 2 + 1, 3), longest_px) == expected
    assert scales((side_px // 2 + 1, side_px, 3), longest_px) == expected


def test_a_line_has_no_coarser_scale() -> None:
    """Its one row would be filled up to a thousand."""
    assert scales((1, 1_000_000, 3), 1280) == [1]
    assert scales((5, 1_000_000, 3), 1280) == [4, 2, 1]
    assert scales((1_000_000, 5, 3), 1280) == [4, 2, 1]


@pytest.mark.parametrize("is_deep", [False, True])
def test_a_reduced_pixel_is_the_mean_of_its_square(is_deep: bool) -> None:
    image = of_depth(noise(8, 12), is_deep)
    expected = image.reshape(2, 4, 3, 4, 3).mean(axis=(1, 3))
    assert np.abs(reduced(image, 4).astype(float) - expected).max() <= 0.5
    assert reduced(image, 4).dtype == image.dtype


def test_beyond_the_border_the_last_pixels_go_on() -> None:
    image = noise(5, 7)
    padded = np.pad(image, [(0, 3), (0, 1), (0, 0)], mode="edge")
    np.testing.assert_array_equal(reduced(image, 4), reduced(padded, 4))
    assert reduced(image, 1) is image


def of_depth(image: Image, is_deep: bool) -> AnyImage:
    return np.asarray(image.astype(np.uint16) * 257, np.uint16) if is_deep else image


def enlarged(difference: FloatArray) -> FloatArray:
    """All at once, by OpenCV."""
    size = difference.shape[1] * 2, difference.shape[0] * 2
    return np.asarray(cv2.resize(difference, size, interpolation=cv2.INTER_LINEAR), np.float32)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 40), st.integers(1, 9), st.booleans())
def test_strips_of_any_size_are_the_whole(height: int, width: int, strip_rows: int, is_deep: bool) -> None:
    image = of_depth(noise(height, width), is_deep)
    means = reduced(image, 2)
    coarser = of_depth(noise(means.shape[0], means.shape[1], seed=1), is_deep)
    whole = image + enlarged(coarser.astype(np.float32) - means)[:height, :width]
    expected = np.clip(np.rint(whole), 0, np.iinfo(image.dtype).max)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scales_module, "_STRIP_ROWS", strip_rows)
        changed = with_coarser(image, coarser)
    assert changed.dtype == image.dtype
    # A value between two levels may fall either way.
    assert np.abs(changed.astype(float) - expected).max() <= 1


def test_a_coarser_image_that_is_the_same_changes_nothing() -> None:
    image = scene(37, 51)
    np.testing.assert_array_equal(with_coarser(image, reduced(image, 2)), image)


def test_what_is_wide_is_as_the_coarser_image_has_it_and_what_is_fine_stays() -> None:
    """Of a scene that comes 30 levels darker at the coarser scale, with a grid of single pixels."""
    grid = np.zeros((64, 64, 3), np.uint8)
    grid[::2, ::2] = 40
    image = scene(64, 64) // 2 + 80 + grid
    got = with_coarser(image, reduced(image, 2) - 30)
    np.testing.assert_array_equal(got, image - 30)
