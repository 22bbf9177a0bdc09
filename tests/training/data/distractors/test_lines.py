"""Lines over backgrounds that are no rain."""

import numpy as np

from training.data.distractors.lines import draw_lines

GREY = np.full((128, 128, 3), 128, dtype=np.uint8)


def test_index_decides_and_the_background_stays() -> None:
    first, again, other = (draw_lines(GREY, 0, index) for index in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert (GREY == 128).all()


def test_most_of_the_background_shows() -> None:
    drawn = [draw_lines(GREY, 0, index) != 128 for index in range(60)]
    shares = np.array([mask.any(axis=2).mean() for mask in drawn])
    assert (shares > 0).mean() > 0.9  # some run beside the image
    assert shares.mean() < 0.4


def test_lines_are_darker_and_brighter_than_the_background() -> None:
    drawn = np.stack([draw_lines(GREY, 0, index) for index in range(40)])
    assert (drawn < 90).any() and (drawn > 200).any()
