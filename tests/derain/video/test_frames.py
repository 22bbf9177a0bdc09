"""What becomes of a frame, and how often a network is asked."""

from typing import Any

import numpy as np
import pytest

from derain.inference.engine import Engine
from derain.video.frames import FrameDerainer
from derain.video.yuv import BT709, Samples
from tests.conftest import noise, scene

SAMPLES = Samples(8, BT709)


def test_what_deraining_finds_is_what_estimating_finds(estimating: Engine) -> None:
    for image in (noise(20, 30), np.full((9, 9, 3), 20, np.uint8)):
        evidence = estimating.rain_evidence(image)
        assert evidence is not None
        assert estimating.examine(image, force=True).evidence == pytest.approx(evidence)
        assert (evidence >= 0) == estimating.examine(image).rain_found


def test_a_model_that_cannot_tell_derains_every_frame(engine: Engine) -> None:
    assert engine.rain_evidence(noise(9, 9)) is None
    assert engine.examine(noise(9, 9)).evidence is None
    derainer = FrameDerainer(engine, SAMPLES)
    assert all(derainer.derain_image(image) is not image for image in (noise(9, 9), noise(9, 9, 1)))


def test_a_frame_in_the_rain_is_estimated_once(estimating: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimating takes a third of the time."""
    assert estimating._estimator is not None
    estimate, asked = estimating._estimator.estimate, 0

    def count(image: Any) -> Any:
        nonlocal asked
        asked += 1
        return estimate(image)

    monkeypatch.setattr(estimating._estimator, "estimate", count)
    derainer = FrameDerainer(estimating, SAMPLES)
    image = scene(20, 30)
    assert derainer.derain_image(image) is not image
    assert asked == 2  # the first one: whether there is rain at all, and then its descriptor
    for _ in range(8):
        derainer.derain_image(image)
    assert asked == 10


def test_a_fade_is_a_part_of_the_change(estimating: Engine) -> None:
    dark, bright = (np.full((12, 12, 3), level, np.uint8) for level in (49, 54))
    derainer = FrameDerainer(estimating, SAMPLES)
    assert derainer.derain_image(dark) is dark
    shares = []
    for _ in range(60):
        derainer.derain_image(bright)
        shares.append(derainer.scene.share)
    assert shares == sorted(shares)
    assert len({share for share in shares if 0 < share < 1}) > 5
    assert shares[-1] == 1


@pytest.mark.parametrize("strength", [0.0, 0.25])
def test_strength(strength: float, engine: Engine) -> None:
    image = noise(9, 12)
    found = FrameDerainer(engine, SAMPLES, strength).derain_image(image)
    wanted = image + strength * (engine.derain(image).astype(float) - image)
    assert np.abs(found - wanted).max() <= 0.5
