"""What a camera adds after the rain: the same to rainy and clean."""

import numpy as np
import pytest

import training.camera as camera
from derain.arrays import Image
from training.camera import photograph

GREY = np.full((48, 64, 3), 128, dtype=np.uint8)


def test_index_decides(picture: Image) -> None:
    first, again, other = (photograph((picture,), 0, index)[0] for index in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == picture.shape and first.dtype == np.uint8


def test_noise_is_the_same_on_all_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "JPEG_SHARE", 0)
    monkeypatch.setattr(camera, "NOISE_SHARE", 1)
    dark, bright = photograph((GREY, GREY + 40), 0, 3)
    assert np.array_equal(dark + 40, bright)
    assert 0 < np.std(dark) < 255 * camera.NOISE


def test_jpeg_takes_what_is_fine_and_keeps_the_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "JPEG_SHARE", 1)
    monkeypatch.setattr(camera, "NOISE_SHARE", 0)
    orange = np.full((48, 64, 3), (230, 120, 30), dtype=np.uint8)
    noisy = np.random.default_rng(0).integers(0, 256, orange.shape, dtype=np.uint8)
    for index in range(5):
        flat, rough = photograph((orange, noisy), 0, index)
        assert np.abs(flat.astype(int) - orange).max() <= 6
        assert not np.array_equal(rough, noisy)
