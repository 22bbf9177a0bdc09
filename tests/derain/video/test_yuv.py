"""Frames to RGB as FFmpeg does it, and the change of it back."""

from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from derain.video.encoder import planes_of
from derain.video.yuv import BT601, BT709, BT2020, Samples, add_change, to_rgb, usual_matrix
from tests.conftest import noise, scene


def frame_of(rgb: NDArray[Any], pixel_format: str, matrix: int, is_full: bool) -> av.VideoFrame:
    """As FFmpeg makes it."""
    given = av.VideoFrame.from_ndarray(rgb, format="rgb24" if rgb.dtype == np.uint8 else "rgb48le")
    swscale = {BT709: 1, BT601: 5, BT2020: 9}[matrix]
    frame = given.reformat(format=pixel_format, dst_colorspace=swscale, dst_color_range=2 if is_full else 1)
    frame.make_writable()
    return frame


@pytest.mark.parametrize("matrix", [BT709, BT601, BT2020])
@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize("pixel_format", ["yuv444p", "yuv422p", "yuv420p", "yuv444p10le", "yuv420p10le"])
def test_colours_are_those_that_ffmpeg_was_given(pixel_format: str, is_full: bool, matrix: int) -> None:
    depth = 10 if "10" in pixel_format else 8
    rgb: NDArray[Any] = scene(48, 64)
    if depth > 8:
        rgb = rgb.astype(np.uint16) * 257
    planes = planes_of(frame_of(rgb, pixel_format, matrix, is_full))
    found = to_rgb(planes, Samples(depth, matrix, is_full))
    assert found.dtype == rgb.dtype
    levels = np.abs(found.astype(float) - rgb) / np.iinfo(rgb.dtype).max * 255
    assert levels.max() < 4.5  # 8 bits of a third of the range, and coarse colours
    assert levels.mean() < 1


@pytest.mark.parametrize("depth", [8, 10, 12])
def test_where_nothing_changes_no_level_moves(depth: int) -> None:
    """Not even where levels are outside of what RGB can show."""
    rng = np.random.default_rng(1)
    kind = np.uint8 if depth == 8 else np.uint16
    planes = [rng.integers(0, 1 << depth, shape).astype(kind) for shape in ((7, 9), (4, 5), (4, 5))]
    before = [plane.copy() for plane in planes]
    samples = Samples(depth, BT709)
    rgb = to_rgb(planes, samples)
    add_change(planes, rgb, rgb.copy(), samples, 1.0)
    assert all(np.array_equal(one, other) for one, other in zip(planes, before, strict=True))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_change_of_rgb_arrives(share: float) -> None:
    before, after = scene(16, 24), scene(16, 24)[::-1].copy()
    samples = Samples(8, BT709)
    planes = planes_of(frame_of(before, "yuv444p", BT709, False))
    rgb = to_rgb(planes, samples)
    add_change(planes, rgb, after, samples, share)
    wanted = before + share * (after.astype(float) - before)
    assert np.abs(to_rgb(planes, samples) - wanted).max() < 4


def test_gray_changes_by_its_brightness() -> None:
    planes = [np.full((4, 4), 126, np.uint8)]
    samples = Samples(8, BT709)
    rgb = to_rgb(planes, samples)
    assert rgb.tolist() == np.full((4, 4, 3), 128).tolist()
    add_change(planes, rgb, np.zeros_like(rgb), samples, 1.0)
    assert set(planes[0].ravel()) == {16}


def test_other_planes_are_let_be() -> None:
    planes = [*planes_of(frame_of(noise(8, 8), "yuv444p", BT709, False)), np.full((8, 8), 77, np.uint8)]
    samples = Samples(8, BT709)
    add_change(planes, to_rgb(planes, samples), noise(8, 8, 1), samples, 1.0)
    assert set(planes[3].ravel()) == {77}


def test_a_matrix_that_is_not_named() -> None:
    assert [usual_matrix(height) for height in (480, 576, 720, 2160)] == [BT601, BT601, BT709, BT709]
