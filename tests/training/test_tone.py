"""Scenes in another light, and in mist that is no rain."""

import numpy as np

from training.tone import tone

# From black at the left to white at the right.
RAMP = np.repeat(np.linspace(0, 255, 128).astype(np.uint8)[None, :, None], 96, axis=0).repeat(3, axis=2)


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
    blacks = toned[:, :, :2].mean(axis=(1, 2, 3))
    assert 0.2 < (blacks > 10).mean() < 0.7  # under mist nothing is black
    assert blacks.max() < 0.5 * 255


def test_what_was_brighter_stays_brighter() -> None:
    for index in range(60):
        rows = tone(RAMP, 0, index).astype(np.float32).mean(axis=(0, 2))
        assert rows[:8].mean() < rows[-8:].mean() - 40
