"""What becomes of a frame, and how often a network is asked."""

import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from derain.arrays import AnyImage, Image
from derain.inference.engine import Engine
from derain.video.frames import FrameDerainer, PlanarFrame, RgbFrame
from derain.video.scene import Scene
from derain.video.temporal import REACH, FramePair, TemporalNetwork
from derain.video.yuv import BT601, Samples
from tests.conftest import noise, scene


def derained(derainer: FrameDerainer, *images: Image) -> list[AnyImage]:
    """Those that stay as they are are the same arrays."""
    return [frame.image for frame, _ in derainer.derain_all(map(RgbFrame, images))]


def test_what_deraining_finds_is_what_estimating_finds(estimating: Engine) -> None:
    for image in (noise(20, 30), np.full((9, 9, 3), 20, np.uint8)):
        evidence = estimating.rain_evidence(image)
        assert evidence is not None
        assert estimating.examine(image, force=True).evidence == pytest.approx(evidence)
        assert (evidence >= 0) == estimating.examine(image).rain_found


def test_a_model_that_cannot_tell_derains_every_frame(engine: Engine) -> None:
    assert engine.rain_evidence(noise(9, 9)) is None
    assert engine.examine(noise(9, 9)).evidence is None
    images = noise(9, 9), noise(9, 9, 1)
    found = derained(FrameDerainer(engine), *images)
    assert all(after is not before for before, after in zip(images, found, strict=True))


def test_a_frame_in_the_rain_is_estimated_once(estimating: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimating takes a third of the time."""
    assert estimating._estimator is not None
    estimate, asked = estimating._estimator.estimate, 0

    def count(image: Any) -> Any:
        nonlocal asked
        asked += 1
        return estimate(image)

    monkeypatch.setattr(estimating._estimator, "estimate", count)
    derainer = FrameDerainer(estimating)
    image = scene(20, 30)
    derained(derainer, image)
    assert asked == 2  # the first one: whether there is rain at all, and then its descriptor
    derained(derainer, *[image] * 8)
    assert asked == 10


def test_a_fade_is_a_part_of_the_change(estimating: Engine) -> None:
    dark, bright = (np.full((12, 12, 3), level, np.uint8) for level in (49, 54))
    derainer = FrameDerainer(estimating)
    assert derained(derainer, dark)[0] is dark
    shares = []
    for _ in range(60):
        derained(derainer, bright)
        shares.append(derainer.scene.share)
    assert shares == sorted(shares)
    assert len({share for share in shares if 0 < share < 1}) > 5
    assert shares[-1] == 1


@pytest.mark.parametrize("strength", [0.0, 0.25])
def test_strength(strength: float, engine: Engine) -> None:
    image = noise(9, 12)
    (found,) = derained(FrameDerainer(engine, strength), image)
    wanted = image + strength * (engine.derain(image).astype(float) - image)
    assert np.abs(found - wanted).max() <= 0.5


class Listing(TemporalNetwork):
    """Notes which neighbours a frame gets, and returns the frame as it was derained."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def fuse(self, frame: FramePair, neighbours: dict[int, FramePair]) -> AnyImage:
        self.asked.append(sorted(neighbours))
        return frame.derained


def flat(levels: Iterable[int]) -> list[Image]:
    return [np.full((12, 12, 3), level, np.uint8) for level in levels]


def test_a_frame_gets_those_around_it(engine: Engine) -> None:
    listing = Listing()
    derained(FrameDerainer(engine, temporal=listing), *flat([60] * 6))
    assert listing.asked == [[1, 2], [-1, 1, 2], [-2, -1, 1, 2], [-2, -1, 1, 2], [-2, -1, 1], [-2, -1]]


def test_no_frame_gets_one_of_another_scene(engine: Engine) -> None:
    listing = Listing()
    derained(FrameDerainer(engine, temporal=listing), *flat([20] * 3 + [220] * 3))
    assert listing.asked == [[1, 2], [-1, 1], [-2, -1], [1, 2], [-1, 1], [-2, -1]]


def test_no_frame_gets_one_that_was_left_as_it_is(estimating: Engine) -> None:
    listing, dry, rainy = Listing(), 49, 54
    derainer = FrameDerainer(estimating, temporal=listing)
    changed = [
        is_changed for _, is_changed in derainer.derain_all(map(RgbFrame, flat([dry] * 5 + [rainy] * 40)))
    ]
    first = changed.index(True)
    assert first > 0
    assert listing.asked[:2] == [[1, 2], [-1, 1, 2]]
    assert len(listing.asked) == sum(changed)


@pytest.mark.parametrize(("largest", "held"), [(144, 2 * REACH), (143, 0)])
def test_images_are_held_only_of_frames_that_can_help(
    largest: int, held: int, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five of the largest frames would take gigabytes."""
    monkeypatch.setattr("derain.video.frames.MAX_PIXELS", largest)
    made: list[weakref.ref[AnyImage]] = []

    class Converted(RgbFrame):
        def images(self) -> list[AnyImage]:
            image = self.image.copy()
            made.append(weakref.ref(image))
            return [image]

    derainer = FrameDerainer(engine, temporal=Listing())
    held_at_each = [
        sum(each() is not None for each in made) for _ in derainer.derain_all(map(Converted, flat([60] * 9)))
    ]
    assert max(held_at_each) == held


@pytest.mark.parametrize("shapes", [[(1, 6)], [(2, 6), (1, 3), (1, 3)]])
def test_a_frame_of_too_few_rows_for_two_fields_is_one_image(
    shapes: list[tuple[int, int]], engine: Engine
) -> None:
    planes = [np.full(shape, 60, np.uint8) for shape in shapes]
    frame = PlanarFrame(planes, Samples(8, BT601), is_interlaced=True, quarter_turns=0)
    (image,) = frame.images()
    assert image.shape == (*shapes[0], 3)
    assert [is_derained for _, is_derained in FrameDerainer(engine).derain_all([frame])] == [True]


@pytest.mark.parametrize("done", [1, 2, 7, 20])
def test_a_run_goes_on_where_another_ended(estimating: Engine, done: int) -> None:
    """With what it has to know, and the frames that the next ones take from."""
    images = flat(
        [40, 49, 49, 54, 54, 60, 54, 220, 60, 61, 62, 200, 201, 200, 60, 49, 49, 48, 49, 60, 61, 62, 63]
    )
    whole, listing = Listing(), Listing()
    everything = derained(FrameDerainer(estimating, temporal=whole), *images)
    first = FrameDerainer(estimating, temporal=Listing())
    frames = first.derain_all(map(RgbFrame, images))
    for _ in range(done):
        next(frames)
    again = min(done, REACH)
    rest = FrameDerainer(estimating, temporal=listing, scene=Scene.from_dict(first.scene_to_go_on.as_dict()))
    found = derained(rest, *images[done - again :])[again:]
    assert len(found) == len(everything) - done
    assert all(np.array_equal(a, b) for a, b in zip(found, everything[done:], strict=True))
    at_the_end = min(3, len(whole.asked))
    assert listing.asked[-at_the_end:] == whole.asked[-at_the_end:]
