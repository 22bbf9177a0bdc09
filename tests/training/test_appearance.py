"""What a survey is told of how a picture looks."""

import pytest
import torch
from torch import Tensor

from training.appearance import appearance, appearance_count

SCALES = 4
DARK_END = 12  # levels of each scale of darkness
DETAILS = (SCALES + 2) * DARK_END


@pytest.fixture
def scene() -> Tensor:
    torch.manual_seed(0)
    return torch.rand(1, 3, 64, 96) ** 3


def darkness(found: Tensor) -> Tensor:
    return found[:, :DETAILS].reshape(-1, SCALES + 2, DARK_END)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (64, 96), (256, 256)])
def test_there_are_as_many_numbers_as_promised_for_every_size(height: int, width: int) -> None:
    found = appearance(torch.rand(2, 3, height, width), SCALES)
    assert found.shape == (2, appearance_count(SCALES))
    assert found.isfinite().all()


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_picture_without_anything_in_it_has_finite_numbers(level: float) -> None:
    found = appearance(torch.full((1, 3, 32, 32), level), SCALES)
    assert found.isfinite().all()
    assert found.abs().max() < 4


def test_a_veil_leaves_nothing_dark_and_details_as_they_are(scene: Tensor) -> None:
    lifted = scene * 0.8
    veiled = lifted + 0.15
    before, after = appearance(lifted, SCALES), appearance(veiled, SCALES)
    assert (darkness(after) <= darkness(before)).all()
    assert darkness(after)[0, :, :5].max() == 0, "levels below the veil"
    torch.testing.assert_close(after[:, DETAILS:-6], before[:, DETAILS:-6], atol=1e-3, rtol=0)
    torch.testing.assert_close(after[:, -6:-3], before[:, -6:-3] + 0.15)


def test_the_larger_a_cell_the_darker_is_its_darkest_pixel(scene: Tensor) -> None:
    cells = darkness(appearance(scene, SCALES))[0, 1:]
    assert (cells[1:] >= cells[:-1] - 1e-6).all()


def test_streaks_are_lopsided_and_rain_that_closes_is_not() -> None:
    torch.manual_seed(0)
    noise = torch.randn(1, 1, 128, 128).expand(-1, 3, -1, -1)
    closed, streaks = 0.5 + 0.05 * noise, 0.5 + 0.3 * (noise > 2.3)
    # Of a cell of 2 x 2 the differences from its own mean: one that is wet is far from it, three are near.
    skewness, kurtosis = DETAILS + 2, DETAILS + 3
    of_closed, of_streaks = appearance(closed, SCALES)[0], appearance(streaks, SCALES)[0]
    assert abs(of_closed[skewness]) < 0.1
    assert of_streaks[skewness] > 0.4
    assert of_streaks[kurtosis] > of_closed[kurtosis] + 1
