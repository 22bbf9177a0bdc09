"""What light, mist, scale and cameras do to a scene."""

import numpy as np
import pytest

from derain.arrays import Image, to_float
from tests.conftest import noise
from training.data import appearance
from training.data.appearance import LARGEST, SMALLEST, _night, draw_scale, photograph, resized, tone

# From black at the left to white at the right.
RAMP = np.repeat(np.linspace(0, 255, 128).astype(np.uint8)[None, :, None], 96, axis=0).repeat(3, axis=2)
GREY = np.full((96, 128, 3), 140, dtype=np.uint8)


def test_index_decides_and_the_background_stays() -> None:
    before = RAMP.copy()
    first, again, other = (tone(RAMP, 0, index) for index in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(before, RAMP)


def test_scenes_come_darker_and_brighter_and_in_mist() -> None:
    toned = np.stack([tone(RAMP, 0, index) for index in range(60)]).astype(np.float32)
    middles = toned[:, :, 56:72].mean(axis=(1, 2, 3))
    assert middles.min() < 110 and middles.max() > 150
    blacks = np.median(toned[:, :, :2], axis=(1, 2, 3))
    assert 0.2 < (blacks > 10).mean() < 0.7  # under mist nothing is black
    assert (blacks < 0.5 * 255).mean() > 0.95, "but where a lamp shines"


def test_what_was_brighter_stays_brighter() -> None:
    """But where a lamp shines."""
    ordered = 0
    for index in range(60):
        rows = np.median(tone(RAMP, 0, index).astype(np.float32).mean(axis=2), axis=0)
        ordered += rows[:8].mean() < rows[-8:].mean() - 25
    assert ordered >= 57


def test_a_fifth_are_nights() -> None:
    """No other light makes a middle grey as dark."""
    toned = np.stack([tone(GREY, 0, index) for index in range(150)]).astype(np.float32)
    darkest = np.percentile(toned, 5, axis=(1, 2, 3))
    assert 0.08 < (darkest < 50).mean() < 0.25


def test_the_smallest_scene_has_a_night() -> None:
    """A patch of 16 px may be drawn at 4 and enlarged."""
    assert (
        len({_night(to_float(noise(4, 4)), np.random.default_rng(seed)).tobytes() for seed in range(40)}) > 30
    )


def test_a_night_is_darker_than_its_day_but_for_its_lamps() -> None:
    day = to_float(GREY)
    nights = [_night(day, np.random.default_rng(seed)) for seed in range(40)]
    assert all(night.dtype == np.float32 and night.min() >= 0 and night.max() <= 1 for night in nights)
    darkest = np.array([night.min() for night in nights])
    assert (darkest < 0.8 * day.mean()).mean() > 0.9
    # Some have no lamp and are even; lamps shine in most, up to white, in the middle more than around.
    shine = np.array([np.ptp(night.mean(axis=2)) for night in nights])
    assert 0.02 < (shine < 0.01).mean() < 0.35
    assert (shine > 0.3).mean() > 0.4


def test_lamps_light_what_is_near_and_some_are_mirrored_downwards() -> None:
    """The light of a lamp falls off evenly, but where wet ground draws it out it is higher than wide."""
    black = np.zeros((160, 160, 3), dtype=np.float32)
    ratios = []
    for seed in range(80):
        light = _night(black, np.random.default_rng(seed)).max(axis=2)
        if light.max() > 0.15:
            top, left = np.unravel_index(light.argmax(), light.shape)
            bright = light > 0.6 * light.max()
            ratios.append(bright[:, left].sum() / bright[top].sum())
    assert np.median(ratios) < 3
    assert 0.05 < (np.array(ratios) > 2.5).mean() < 0.6


GREY = np.full((48, 64, 3), 128, dtype=np.uint8)


def test_index_decides(image: Image) -> None:
    first, again, other = (photograph((image,), 0, index)[0] for index in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == image.shape and first.dtype == np.uint8


def test_noise_is_the_same_on_all_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appearance, "JPEG_SHARE", 0)
    monkeypatch.setattr(appearance, "NOISE_SHARE", 1)
    dark, bright = photograph((GREY, GREY + 40), 0, 3)
    assert np.array_equal(dark + 40, bright)
    assert 0 < np.std(dark) < 255 * appearance.NOISE


def test_jpeg_takes_what_is_fine_and_keeps_the_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appearance, "JPEG_SHARE", 1)
    monkeypatch.setattr(appearance, "NOISE_SHARE", 0)
    orange = np.full((48, 64, 3), (230, 120, 30), dtype=np.uint8)
    noisy = np.random.default_rng(0).integers(0, 256, orange.shape, dtype=np.uint8)
    for index in range(5):
        flat, rough = photograph((orange, noisy), 0, index)
        assert np.abs(flat.astype(int) - orange).max() <= 6
        assert not np.array_equal(rough, noisy)


def test_shares_are_enlarged_and_reduced_and_the_others_stay() -> None:
    scales = np.array([draw_scale(0.3, 0.2, 0, index) for index in range(3000)])
    enlarged, reduced = scales[scales > 1], scales[scales < 1]
    assert len(enlarged) / 3000 == pytest.approx(0.3, abs=0.03)
    assert len(reduced) / 3000 == pytest.approx(0.2, abs=0.03)
    assert (scales == 1).mean() == pytest.approx(0.5, abs=0.03)
    # Log-uniformly: as many between 1 and 2 as between 2 and 4.
    assert enlarged.max() <= LARGEST and reduced.min() >= SMALLEST
    assert np.median(enlarged) == pytest.approx(LARGEST**0.5, rel=0.1)
    assert np.median(reduced) == pytest.approx(SMALLEST**0.5, rel=0.1)


@pytest.mark.parametrize(("enlarged", "reduced"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)])
def test_shares_of_none_and_all(enlarged: float, reduced: float) -> None:
    scales = np.array([draw_scale(enlarged, reduced, 0, index) for index in range(50)])
    assert (scales >= 1).all() == (reduced == 0)
    assert (scales == 1).all() == (enlarged == reduced == 0)


def test_seed_and_index_decide_the_scale() -> None:
    first, again, other = ([draw_scale(1, 0, seed, index) for index in range(9)] for seed in (0, 0, 1))
    assert first == again
    assert len({*first, *other}) == 18


def test_what_has_the_side_already_is_not_touched() -> None:
    image = noise(24, 24)
    assert resized(image, 24) is image


@pytest.mark.parametrize("side_px", [8, 96])
def test_another_size_is_the_same_picture(side_px: int) -> None:
    """By means over areas where it is reduced; where it is enlarged it can be reduced again."""
    image = np.repeat(np.repeat(noise(8, 8) // 2 + 60, 3, axis=0), 3, axis=1)
    other = resized(image, side_px)
    assert other.shape == (side_px, side_px, 3)
    assert other.dtype == np.uint8
    cells = other.reshape(8, side_px // 8, 8, side_px // 8, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(cells, image[1::3, 1::3], atol=0.5 if side_px == 8 else 12)
