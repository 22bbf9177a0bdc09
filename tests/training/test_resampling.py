"""Rain at other scales."""

import numpy as np
import pytest

from tests.conftest import noise
from training.resampling import LARGEST, SMALLEST, draw_scale, resized


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
