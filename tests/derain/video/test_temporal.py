"""What neighbouring frames do for one another."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from derain.arrays import AnyImage, Image
from derain.errors import ModelError
from derain.inference.sessions import Provider
from derain.manifest import describe_file, load_manifest
from derain.video import temporal
from derain.video.alignment import Aligner, FlowImage, aligned
from derain.video.choices import CELL_PX, CHOICES, choices, features, mean
from derain.video.temporal import (
    MANIFEST_NAME,
    TEMPORAL_MODEL,
    FramePair,
    TemporalNetwork,
    load_temporal_manifest,
)
from tests.conftest import noise, scene


@pytest.fixture(scope="module")
def network() -> TemporalNetwork:
    """The one that comes along."""
    return TemporalNetwork(provider=Provider.CPU)


def textured(height: int, width: int, seed: int = 0) -> Image:
    """Something that can be followed: noise without what is finer than a few pixels."""
    coarse = np.asarray(cv2.GaussianBlur(noise(height, width, seed), (0, 0), 3), float)
    return np.asarray(np.clip(128 + 6 * (coarse - 128), 0, 255), np.uint8)


def deep(image: Image, dtype: type[np.uint8] | type[np.uint16]) -> AnyImage:
    if dtype is np.uint8:
        return image
    deeper: AnyImage = image.astype(np.uint16) * np.uint16(257)
    return deeper


def panned(image: Image, step_px: int, side_px: int) -> Image:
    return np.ascontiguousarray(image[40 : 40 + side_px, 40 + step_px : 40 + step_px + side_px])


def wet(image: Image, seed: int, streaks: int = 40) -> Image:
    """With white streaks, elsewhere for each seed."""
    rng, rainy = np.random.default_rng(seed), image.copy()
    for x, y in rng.integers(0, min(image.shape[:2]), (streaks, 2)).tolist():
        cv2.line(rainy, (x, y), (x + 2, y + 14), (250, 250, 250), 2)
    return rainy


def test_a_standing_camera_moves_nothing() -> None:
    image = textured(128, 160)
    stills = {place: FlowImage(wet(image, place + 5, 4)) for place in (-2, -1, 1, 2)}
    movements = Aligner().movements(FlowImage(wet(image, 0, 4)), stills)
    assert list(movements.values()) == [None] * 4


@pytest.mark.parametrize("step_px", [3, -6])
def test_a_pan_is_followed_through_the_rain(step_px: int) -> None:
    world, side_px = textured(220, 260), 128
    clean = {place: panned(world, 30 + place * step_px, side_px) for place in range(-2, 3)}
    stills = {place: FlowImage(wet(image, place + 5, 4)) for place, image in clean.items()}
    here = stills.pop(0)
    inside = slice(16, -16), slice(16, -16)
    for place, movement in Aligner().movements(here, stills).items():
        assert movement is not None
        expected = np.broadcast_to([-place * step_px, 0], movement.shape)
        assert np.abs(movement - expected)[inside].mean() < 0.5
        moved = aligned(clean[place], movement)
        assert np.abs(moved.astype(float) - clean[0])[inside].mean() < 4


def test_something_that_passes_a_standing_camera_is_followed() -> None:
    ground, thing = textured(128, 160, 1), textured(44, 44, 2)

    def frame(place: int) -> Image:
        image = ground.copy()
        image[40:84, 60 + 4 * place : 104 + 4 * place] = thing
        return image

    stills = {place: FlowImage(frame(place)) for place in (-2, -1, 1, 2)}
    for place, movement in Aligner().movements(FlowImage(frame(0)), stills).items():
        assert movement is not None
        assert np.abs(movement[54:70, 76:88, 0] - 4 * place).mean() < 1
        assert np.abs(movement[:20]).max() < 0.5, "the ground stands"


def test_large_frames_are_followed_in_small_ones() -> None:
    here, there = (
        FlowImage(np.asarray(cv2.resize(panned(textured(220, 260), 30 + x, 128), (1024, 1024)), np.uint8))
        for x in (0, 3)
    )
    (movement,) = Aligner().movements(here, {1: there}).values()
    assert movement is not None
    assert movement.shape == (1024, 1024, 2)
    assert np.median(movement[200:-200, 200:-200, 0]) == pytest.approx(-24, abs=2)


def test_frames_too_small_to_follow_stay() -> None:
    assert Aligner().movements(FlowImage(noise(9, 200)), {1: FlowImage(noise(9, 200, 1))}) == {1: None}


def test_a_veil_is_taken_off_what_was_not_derained() -> None:
    clean = textured(64, 64)
    veiled = (clean // 2 + 100).astype(np.uint8)
    images, _ = choices([clean] * 5, [veiled] * 5)
    assert np.array_equal(images[1], veiled)
    for without in images[6:]:
        assert np.abs(without.mean(axis=(0, 1)) - clean.mean(axis=(0, 1))).max() < 1
        assert (
            np.abs(without.astype(float) - clean).mean() < 0.5 * np.abs(veiled.astype(float) - clean).mean()
        )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_is_chosen_from(dtype: type[np.uint8] | type[np.uint16]) -> None:
    derained = [deep(noise(6, 8, seed), dtype) for seed in range(5)]
    rainy = [image[::-1] for image in derained]
    images, spreads = choices(derained, rainy)
    assert len(images) == CHOICES
    assert images[0] is derained[2]
    assert images[1] is rainy[2]
    ordered, ordered_rain = np.sort(derained, axis=0), np.sort(rainy, axis=0)
    for number, expected in enumerate([ordered[2], ordered_rain[2], ordered[1], ordered_rain[1]], 2):
        assert np.array_equal(images[number], expected)
    assert np.array_equal(spreads[0], (ordered[3] - ordered[1]).max(axis=2))
    assert np.array_equal(spreads[1], (ordered_rain[3] - ordered_rain[1]).max(axis=2))
    cells = features(images, spreads)
    assert cells.shape == (3 * CHOICES + 2, 3, 4)
    of_first_cell = [image[:CELL_PX, :CELL_PX, 0].mean() / np.iinfo(dtype).max for image in images]
    assert cells[0, 0, 0] == pytest.approx(of_first_cell[0] - 0.5, abs=0.01)
    assert cells[3:24:3, 0, 0] == pytest.approx(np.array(of_first_cell[1:]) - of_first_cell[0], abs=0.01)


def test_the_mean_is_one_of_cells() -> None:
    images = [np.full((8, 8, 3), 20 * number, np.uint8) for number in range(CHOICES)]
    weights = np.zeros((CHOICES, 4, 4), np.float32)
    weights[0], weights[5] = 0.25, 0.75
    assert np.array_equal(mean(images, weights), np.full((8, 8, 3), 75))


def test_without_neighbours_a_frame_is_what_deraining_made_of_it(network: TemporalNetwork) -> None:
    frame = FramePair(noise(20, 30), scene(20, 30))
    assert network.fuse(frame, {}) is frame.derained


@pytest.mark.parametrize("shape", [(63, 101), (16, 16), (3, 5)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_any_size_and_type(
    shape: tuple[int, int], dtype: type[np.uint8] | type[np.uint16], network: TemporalNetwork
) -> None:
    """What all frames agree on stays, near enough."""
    image = deep(scene(*shape), dtype)
    frame = FramePair(image, image)
    fused = network.fuse(frame, {place: FramePair(image, image) for place in (-2, -1, 1)})
    assert fused.dtype == dtype
    assert fused.shape == image.shape
    assert np.abs(fused.astype(int) - image).max() <= np.iinfo(dtype).max // 255


def test_a_standing_cameras_streaks_go(network: TemporalNetwork) -> None:
    """Deraining by itself left half of each."""
    image = scene(128, 160)
    rainy = [wet(image, seed) for seed in range(5)]
    frames = [FramePair(frame, (frame // 2 + image // 2).astype(np.uint8)) for frame in rainy]
    fused = network.fuse(frames[2], {place: frames[2 + place] for place in (-2, -1, 1, 2)})
    before, after = (np.abs(each.astype(float) - image).mean() for each in (frames[2].derained, fused))
    assert after < 0.3 * before


def test_tiles_make_no_difference(network: TemporalNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    image = textured(200, 264)
    frames = [FramePair(wet(image, seed), wet(image, seed, 20)) for seed in range(5)]
    neighbours = {place: frames[2 + place] for place in (-2, -1, 1, 2)}
    whole = network.fuse(frames[2], neighbours)
    monkeypatch.setattr(temporal, "_TILE_CELLS", 64 * 64)
    assert np.abs(network.fuse(frames[2], neighbours).astype(int) - whole).max() <= 1


def test_a_folder_that_is_no_temporal_network(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model at .*temporal\.json is missing"):
        load_temporal_manifest(tmp_path)
    with pytest.raises(ModelError, match=r"no model at .*temporal\.json is missing"):
        load_temporal_manifest(TEMPORAL_MODEL / MANIFEST_NAME)
    shutil.copytree(TEMPORAL_MODEL, tmp_path / "broken")
    path = tmp_path / "broken" / MANIFEST_NAME
    written = json.loads(path.read_text())
    (tmp_path / "broken" / written["file"]["name"]).write_bytes(b"not it")
    with pytest.raises(ModelError, match="is not the file its manifest describes"):
        load_temporal_manifest(tmp_path / "broken")
    path.write_text(json.dumps(written | {"version": 2}))
    with pytest.raises(ModelError, match="not a manifest this version can read: version"):
        load_temporal_manifest(tmp_path / "broken")


def test_a_network_that_chooses_from_something_else(model: Path, tmp_path: Path) -> None:
    """Such as one of a version with other choices: its file is sound."""
    other = tmp_path / "temporal.onnx"
    shutil.copy(model / load_manifest(model).file.name, other)
    manifest = load_temporal_manifest(TEMPORAL_MODEL).model_copy(update={"file": describe_file(other, 20)})
    (tmp_path / MANIFEST_NAME).write_text(manifest.model_dump_json())
    with pytest.raises(ModelError, match="takes 3 channels and returns 3, not 26 and 8"):
        TemporalNetwork(tmp_path, Provider.CPU)
