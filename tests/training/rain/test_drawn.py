"""Rain of another make."""

import ast
from pathlib import Path

import numpy as np
import pytest

import training.rain.drawn
from derain.arrays import Image
from training.rain.drawn import DOWNPOUR, DRAWN, DrawnRain, draw_streaks


def test_seed_and_index_decide_the_picture(picture: Image) -> None:
    numbers = [(seed, index) for seed in range(2) for index in range(3)]
    first = [DOWNPOUR.add(picture, *pair) for pair in numbers]
    again = [DOWNPOUR.add(picture, *pair) for pair in reversed(numbers)][::-1]
    np.testing.assert_array_equal(first, again)
    assert len({rainy.tobytes() for rainy in first}) == len(numbers)
    assert len({draw_streaks(DOWNPOUR, 40, 56, *pair).tobytes() for pair in numbers}) == len(numbers)


def test_nothing_is_shared_with_training_rain() -> None:
    tree = ast.parse(Path(training.rain.drawn.__file__).read_text())
    imported = {
        name
        for node in ast.walk(tree)
        for alias in (node.names if isinstance(node, ast.Import | ast.ImportFrom) else [])
        for name in (alias.name, f"{getattr(node, 'module', '')}.{alias.name}")
    }
    assert "derain.arrays.Image" in imported, "this test sees the imports"
    assert not [name for name in imported if name.startswith("training.rain")]


def test_it_does_what_training_rain_never_does(picture: Image) -> None:
    """Translucent grey darkens what is brighter than the sky; added light cannot."""
    white = np.full_like(picture, 255)
    assert DOWNPOUR.add(white, 0, 0).min() < 255


def test_heavier_families_hide_more() -> None:
    hidden = [np.stack([draw_streaks(family, 96, 160, 0, i) for i in range(8)]) for family in DRAWN[:3]]
    assert all(h.min() >= 0 and h.max() <= 1 for h in hidden)
    drizzle, shower, downpour = (h.mean() for h in hidden)
    assert 0 < 2 * drizzle < shower < downpour / 2


@pytest.mark.parametrize("dry", [DrawnRain("none", (0, 0), (1, 1)), DrawnRain("clear", (5000, 5000), (0, 0))])
def test_no_drops_or_clear_ones_change_nothing(picture: Image, dry: DrawnRain) -> None:
    np.testing.assert_array_equal(dry.add(picture, 0, 0), picture)
