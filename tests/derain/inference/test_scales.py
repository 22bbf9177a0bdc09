import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derain.arrays import AnyImage, FloatArray, Image
from derain.inference import scales as scales_module
from derain.inference.scales import add_change, reduced, scales
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
    assert scales(side_px, longest_px) == expected


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


def enlarged_change(before: AnyImage, after: AnyImage, scale: int) -> FloatArray:
    """All at once, by OpenCV."""
    change = after.astype(np.float32) - before
    size = change.shape[1] * scale, change.shape[0] * scale
    return np.asarray(cv2.resize(change, size, interpolation=cv2.INTER_LINEAR), np.float32)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 40), st.sampled_from([2, 4, 8]), st.integers(1, 9), st.booleans())
def test_strips_of_any_size_are_the_whole(
    height: int, width: int, scale: int, strip_rows: int, is_deep: bool
) -> None:
    image = of_depth(noise(height, width), is_deep)
    before = reduced(image, scale)
    after = of_depth(noise(before.shape[0], before.shape[1], seed=1), is_deep)
    whole = image + enlarged_change(before, after, scale)[:height, :width]
    expected = np.clip(np.rint(whole), 0, np.iinfo(image.dtype).max)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scales_module, "_STRIP_ROWS", strip_rows)
        changed = add_change(image, before, after, scale)
    assert changed.dtype == image.dtype
    # A value between two levels may fall either way.
    assert np.abs(changed.astype(float) - expected).max() <= 1


def test_no_change_at_a_coarser_scale_is_none() -> None:
    image = scene(37, 51)
    before = reduced(image, 4)
    np.testing.assert_array_equal(add_change(image, before, before, 4), image)
