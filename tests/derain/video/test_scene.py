"""Nothing flickers: a scene is derained or left, and what changes fades."""

import json
from functools import partial

import numpy as np

from derain.video.scene import FADE_FRAMES, WINDOW_FRAMES, Scene
from tests.conftest import noise

DARK = np.full((16, 16, 3), 40, np.uint8)
BRIGHT = np.full((16, 16, 3), 200, np.uint8)


def shares(
    scene: Scene, evidence: list[float], image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = DARK
) -> list[float]:
    return [scene.see(image, partial(float, each)) for each in evidence]


def test_the_first_frame_decides_at_once() -> None:
    assert shares(Scene(), [0.1]) == [1.0]
    assert shares(Scene(), [-0.1]) == [0.0]


def test_evidence_about_the_border_changes_nothing() -> None:
    assert set(shares(Scene(), [0.3, -0.3] * 50)) == {1.0}
    assert set(shares(Scene(), [-0.3, 0.2] * 50)) == {0.0}


def test_single_frames_change_nothing() -> None:
    assert set(shares(Scene(), [2.0] * 30 + [-9.0] + [2.0] * 30)) == {1.0}


def test_rain_that_begins_is_faded_in_once() -> None:
    seen = shares(Scene(), [-1.0] * 40 + [1.0] * 60)
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0.0, 1.0)
    steps = np.diff(seen)
    assert steps.max() < 1.01 / FADE_FRAMES
    begun = next(number for number, share in enumerate(seen) if share)
    assert 40 < begun <= 40 + WINDOW_FRAMES // 2 + 1


def test_rain_that_ends_is_faded_out_once() -> None:
    seen = shares(Scene(), [1.0] * 40 + [-1.0] * 60)
    assert seen == sorted(seen, reverse=True)
    assert (seen[0], seen[-1]) == (1.0, 0.0)


def test_every_fourth_frame_is_estimated() -> None:
    seen: list[int] = []

    def estimate(number: int) -> float:
        seen.append(number)
        return 1.0

    scene = Scene()
    for number in range(10):
        scene.see(DARK, partial(estimate, number))
    scene.see(BRIGHT, partial(estimate, 10))
    assert seen == [0, 4, 8, 10]


def test_a_cut_decides_anew_at_once() -> None:
    scene = Scene()
    assert shares(scene, [1.0] * 30)[-1] == 1.0
    assert shares(scene, [-1.0, -1.0], BRIGHT) == [0.0, 0.0]
    assert shares(scene, [1.0], DARK) == [1.0]


def test_a_pan_is_no_cut() -> None:
    """All pixels change, and what they are does not."""
    scene, wide = Scene(), noise(64, 400)
    seen = [
        scene.see(wide[:, start : start + 64], partial(float, 0.4 if start else -1.0))
        for start in range(0, 320, 20)
    ]
    assert seen[0] == 0.0
    assert max(np.diff(seen)) < 1.01 / FADE_FRAMES


def test_what_is_written_down_goes_on_alike() -> None:
    evidence = list(np.random.default_rng(3).normal(0, 1, 80))
    whole = shares(Scene(), evidence)
    scene = Scene()
    first = shares(scene, evidence[:33])
    again = Scene.from_dict(json.loads(json.dumps(scene.as_dict())))
    assert first + shares(again, evidence[33:]) == whole
