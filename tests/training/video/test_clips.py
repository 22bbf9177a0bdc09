"""Clips drawn from stills, and the rain that falls through them."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from derain.arrays import FloatArray, Image
from derain.inference.engine import Engine
from tests.conftest import noise, write_estimating
from training.rain.drawn import SHOWER
from training.rain.families import MIXED
from training.rain.varied import Fall, Streaks
from training.video.clips import FRAMES, Clips, ClipsError, crop
from training.video.evaluation import flicker
from training.video.falling import _falling, held_out_rain_on, rain_on
from training.video.motion import Motion, draw_clip
from training.video.recipe import TemporalRecipe

SIDE_PX = 48
STANDING = Motion(fixed_share=1.0, pieces=0, noise_levels=0.0)
PANNING = Motion(
    fixed_share=0.0, pan_px=5.0, pieces=0, noise_levels=0.0, zoom=0.0, turn_deg=0.0, shake_px=0.0
)


def still(seed: int = 0) -> Image:
    return np.asarray(cv2.GaussianBlur(noise(200, 240, seed), (0, 0), 2), np.uint8)


def test_a_clip_is_a_function_of_its_number() -> None:
    stills = [still(0), still(1)]
    clips = [draw_clip(stills, Motion(), 5, SIDE_PX, 0, index) for index in (3, 3, 4)]
    assert np.array_equal(clips[0], clips[1])
    assert not np.array_equal(clips[0], clips[2])
    assert np.shape(clips) == (3, 5, SIDE_PX, SIDE_PX, 3)


def test_a_camera_that_stands_sees_the_same() -> None:
    for index in range(5):
        first, *others = draw_clip([still()], STANDING, 4, SIDE_PX, 0, index)
        assert all(np.array_equal(first, other) for other in others)


def test_a_pan_moves_the_scene_evenly() -> None:
    flows = []
    for index in range(4):
        clip = [
            np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.float32)[8:-8, 8:-8]
            for frame in draw_clip([still()], PANNING, 4, 96, 0, index)
        ]
        steps = [cv2.phaseCorrelate(a, b)[0] for a, b in pairwise(clip)]
        assert np.ptp(steps, axis=0).max() < 0.7
        flows.append(np.mean(steps, axis=0))
    assert np.linalg.norm(flows, axis=1).max() > 1


def test_pieces_move_before_a_camera_that_stands() -> None:
    motion = Motion(fixed_share=1.0, pieces=3, noise_levels=0.0)
    clips = [draw_clip([still(0), still(1)], motion, 4, SIDE_PX, 0, index) for index in range(8)]
    changed = [float((np.ptp(clip, axis=0).max(axis=2) > 4).mean()) for clip in clips]
    assert max(changed) > 0.02
    assert min(changed) < max(changed)
    assert max(changed) < 0.9, "the ground stands"


def test_drops_fall_on() -> None:
    """Each frame shows the one before, further down, but for what has come in at the top."""
    streaks = Streaks(Fall(8, 1.0, 20, 0.0), density=0.01, brightness=0.8, spread=0.2)
    rng, drawing = np.random.default_rng(0), np.random.default_rng(1)
    frames = _falling(streaks, 4, SIDE_PX, SIDE_PX, rng, drawing)
    assert len(frames) == 4
    steps = {_fallen(before, after) for before, after in pairwise(frames)}
    assert len(steps) == 1
    ((down, right),) = steps
    assert 8 * 1.5 * 0.9 <= down <= 8 * 6
    assert right == pytest.approx(down * np.tan(np.deg2rad(20)), abs=1)


def _fallen(before: FloatArray, after: FloatArray) -> tuple[int, int]:
    """By how many rows and columns."""
    found = [
        (down, right)
        for down in range(1, SIDE_PX)
        for right in range(-SIDE_PX // 2, SIDE_PX // 2)
        if np.array_equal(
            after[down:, right:] if right >= 0 else after[down:, :right],
            before[:-down, : SIDE_PX - right] if right >= 0 else before[:-down, -right:],
        )
        and before[:-down].any()
    ]
    return min(found)


def test_rain_brightens_and_is_elsewhere_in_each_frame() -> None:
    clean = [np.full((SIDE_PX, SIDE_PX, 3), 60, np.uint8)] * 4
    seen = 0
    for index in range(12):
        rainy = rain_on(clean, MIXED, 0, index)
        assert np.array_equal(rainy, rain_on(clean, MIXED, 0, index))
        seen += not np.array_equal(rainy[0], rainy[1])
    assert seen >= 9


def test_drawn_drops_fall_on_and_begin_as_they_were() -> None:
    clean = [still()[:96, :96]] * 3
    frames = held_out_rain_on(clean, SHOWER, 0, 1)
    assert np.array_equal(frames[0], SHOWER.add(clean[0], 0, 1)), "published scores depend on it"
    assert not np.array_equal(frames[0], frames[1])
    amounts = [float(np.abs(frame.astype(int) - clean[0]).mean()) for frame in frames]
    assert max(amounts) < 1.6 * min(amounts)


def test_windows_are_aligned_and_rendered_once(tmp_path: Path, engine: Engine) -> None:
    recipe = TemporalRecipe(clips=2, clip_frames=6, side_px=64, photograph_count=2, leaves_count=1)
    clips = Clips(recipe, tmp_path, [engine])
    clips.render()
    files = sorted(tmp_path.glob("*.npy"))
    assert len(files) == 2
    before = [file.stat().st_mtime_ns for file in files]
    (tmp_path / files[1].name).unlink()
    clips.render()
    after = [file.stat().st_mtime_ns for file in sorted(tmp_path.glob("*.npy"))]
    assert after[0] == before[0]
    assert len(after) == 2
    window = clips.window(np.random.default_rng(0))
    assert window.shape == (2 * FRAMES + 1, 64, 64, 3)


@pytest.mark.slow
def test_clips_of_another_recipe_or_model_are_not_taken_for_ones_own(tmp_path: Path, engine: Engine) -> None:
    estimating = Engine(write_estimating(tmp_path / "estimating"), threads=1)
    folder = tmp_path / "clips"
    recipe = TemporalRecipe(clips=1, clip_frames=5, side_px=48, photograph_count=1, leaves_count=1)
    Clips(recipe, folder, [engine]).render()
    Clips(replace(recipe, clips=2, steps=7), folder, [engine]).render()  # more of the same
    others = Clips(replace(recipe, dry_share=0.5), folder, [engine]), Clips(recipe, folder, [estimating])
    for other in others:
        with pytest.raises(ClipsError, match="clips has clips of another recipe or model: remove it"):
            other.render()


def test_a_crop_may_have_the_clips_end_in_it() -> None:
    window = np.stack([noise(40, 40, seed) for seed in range(2 * FRAMES + 1)])
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(40):
        cut = crop(window, 16, 0.5, rng)
        assert cut.shape == (2 * FRAMES + 1, 16, 16, 3)
        ends += np.array_equal(cut[0], cut[FRAMES // 2]) or np.array_equal(cut[FRAMES - 1], cut[FRAMES // 2])
    assert 8 < ends < 32


def test_flicker_is_what_changes_without_the_scene() -> None:
    clean = draw_clip([still()], PANNING, 4, 96, 0, 1)
    flickering = [
        np.clip(frame.astype(int) + 10 * (number % 2), 0, 255).astype(np.uint8)
        for number, frame in enumerate(clean)
    ]
    of_clean, of_flickering = flicker(clean, [clean, flickering])
    assert of_clean < 10
    assert of_flickering == pytest.approx(100, rel=0.3)
