"""Façades before backgrounds: regular, everywhere or in part, and no two alike."""

import numpy as np

from training.data.distractors.facades import draw_facade

GREY = np.full((96, 128, 3), 128, dtype=np.uint8)


def test_index_decides_and_the_background_stays() -> None:
    first, again, other = (draw_facade(GREY, 0, index) for index in (1, 1, 2))
    assert first.shape == GREY.shape
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert (GREY == 128).all()


def test_some_fill_the_picture_and_before_others_the_background_shows() -> None:
    drawn = [(draw_facade(GREY, 0, index) != 128).any(axis=2).mean() for index in range(60)]
    assert 0.3 < (np.array(drawn) > 0.9).mean() < 0.8
    assert min(drawn) < 0.6


def test_what_is_built_repeats() -> None:
    """Most of what a façade is made of lies at few frequencies, as that of noise does not."""

    def concentration(image: np.ndarray) -> float:
        grey = image.mean(axis=2)
        power = np.sort(np.abs(np.fft.rfft2(grey - grey.mean())).ravel() ** 2)
        return float(power[-len(power) // 100 :].sum() / power.sum())

    built = [concentration(draw_facade(GREY, 0, index)) for index in range(40)]
    noise = np.random.default_rng(0).integers(0, 256, GREY.shape, dtype=np.uint8)
    assert np.median(built) > 0.6 > 4 * concentration(noise)


def test_any_size_can_be_drawn() -> None:
    assert draw_facade(GREY[:1, :5], 0, 3).shape == (1, 5, 3)
