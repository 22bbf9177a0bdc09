"""Scenes in another light, in mist that is no rain, and at night."""

import numpy as np

from derain.arrays import to_float
from training.tone import _night, tone

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
