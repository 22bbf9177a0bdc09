"""What models are scored on by default: images and rain that no recipe trains on."""

import inspect

import numpy as np
import pytest

from training import run
from training.evaluation.held_out import HELD_OUT, HeldOut
from training.rain.drawn import DRAWN
from training.recipes import RECIPES


@pytest.mark.slow
def test_every_family_of_drawn_rain_is_over_all_images(few: HeldOut) -> None:
    names, sets = zip(*few.sets(), strict=True)
    assert names == tuple(f"drawn {rain.name}" for rain in DRAWN)
    for rain, pairs in zip(DRAWN, sets, strict=True):
        assert [pair.name for pair in pairs] == ["scene", "leaves-0"]
        assert all(max(pair.clean.shape) == 128 for pair in pairs)
        for pair, again in zip(pairs, few.pairs(rain), strict=True):
            assert np.array_equal(pair.rainy, again.rainy), "the same every time"
            assert not np.array_equal(pair.rainy, pair.clean)


def test_a_model_is_scored_on_what_nothing_is_trained_on() -> None:
    """That is what the command scores on; tests of it score on less."""
    for command in (run.main, run.run):
        assert inspect.signature(command).parameters["held_out"].default is HELD_OUT
    assert len(HELD_OUT.backgrounds()) == 8
    assert HELD_OUT.longest_px == 480
    for make in RECIPES.values():
        assert make().backgrounds.photographs != HELD_OUT.photographs
        assert make().rain not in DRAWN
