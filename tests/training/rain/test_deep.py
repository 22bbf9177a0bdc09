"""Rain in planes: what distance does to them."""

from itertools import pairwise

import numpy as np

from training.rain.deep import DEEP
from training.rain.varied import Streaks

PICTURES = range(60)
GREY = np.full((160, 160, 3), 90, dtype=np.uint8)


def test_farther_planes_are_shorter_thinner_fainter_and_lean_alike() -> None:
    for index in PICTURES:
        planes = DEEP.layers_of(0, index)
        assert DEEP.planes[0] <= len(planes) <= DEEP.planes[1]
        leans = [plane.fall.angle_deg for plane in planes]
        assert max(leans) - min(leans) < 8 * DEEP.sways_deg
        for near, far in pairwise(planes):
            assert isinstance(far, Streaks)
            assert far.fall.length_px < near.fall.length_px
            assert far.fall.sigma_px <= near.fall.sigma_px
            assert far.brightness < near.brightness


def test_no_plane_closes_and_together_they_are_no_wall() -> None:
    for index in PICTURES:
        planes = DEEP.layers_of(0, index)
        for plane in planes:
            assert isinstance(plane, Streaks)
            most = DEEP.most_cover if plane.hardness is None else DEEP.most_hard_cover
            assert plane.cover <= most * (1 + 1e-6)
        assert sum(plane.mean for plane in planes) <= DEEP.highest_mean[1] * (1 + 1e-6)


def test_it_leaves_dark_places_dark() -> None:
    """A tenth of the pixels at least is as it was, in nine pictures of ten: that is what makes it no veil."""
    untouched = [(DEEP.layer(160, 160, 0, index) < 0.02).mean() for index in PICTURES]
    assert np.mean(np.array(untouched) > 0.1) >= 0.9


def test_a_picture_is_a_function_of_seed_and_index() -> None:
    rainy = DEEP.add(GREY, 1, 2)
    assert np.array_equal(rainy, DEEP.add(GREY, 1, 2))
    assert not np.array_equal(rainy, DEEP.add(GREY, 1, 3))
    assert not np.array_equal(rainy, DEEP.add(GREY, 2, 2))
