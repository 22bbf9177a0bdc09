"""A model with a rain estimator: run once an image and scale, for all of its tiles."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from derain.arrays import AnyImage, Image
from derain.errors import CancelledError, ModelError
from derain.inference.context import context_windows
from derain.inference.engine import Engine
from derain.inference.estimator import Rain, RainEstimator
from derain.inference.scales import reduced, with_coarser
from derain.manifest import load_manifest
from derain.models.self_test import check_model
from tests.conftest import (
    CELL_PX,
    CONTEXT_PX,
    describe_estimator,
    describe_model,
    noise,
    scene,
    write_estimating,
    write_model,
)
from tests.derain.inference.test_engine import levels_apart


def mean_colour(image: AnyImage) -> NDArray[np.float64]:
    seen = []
    for window in context_windows(image, CONTEXT_PX):
        height, width = window.shape[:2]
        padded = np.pad(window, [(0, -height % CELL_PX), (0, -width % CELL_PX), (0, 0)], mode="edge")
        seen.append(padded.mean(axis=(0, 1)))
    return np.asarray(np.mean(seen, axis=0))


def expected(image: AnyImage) -> AnyImage:
    return cast(AnyImage, np.rint((image + mean_colour(image)) / 2).astype(image.dtype))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 70), (24, 24), (25, 31), (90, 140)])
@pytest.mark.parametrize("tile_pixels", [1, 2000, None])
def test_all_tiles_are_given_the_same_descriptor(
    tmp_path: Path, height: int, width: int, tile_pixels: int | None
) -> None:
    engine = Engine(write_estimating(tmp_path / "model"), threads=2, tile_pixels=tile_pixels)
    bright = noise(height, width) // 2 + 100
    for image in (bright, bright.astype(np.uint16) * 257):
        assert levels_apart(engine.derain(image), expected(image)) <= 1
    engine.close()


def test_images_in_one_run_keep_their_own(tmp_path: Path) -> None:
    runs: list[int] = []
    engine = Engine(write_estimating(tmp_path / "model"), threads=1, tile_batch=8, note_run=runs.append)
    images = [noise(20, 20, seed) // 3 + 60 + 3 * seed for seed in range(30)]
    with ThreadPoolExecutor(len(images)) as callers:
        derained = list(callers.map(engine.derain, images))
    engine.close()
    assert max(runs) > 1
    for image, got in zip(images, derained, strict=True):
        assert levels_apart(got, expected(image)) <= 1


def test_a_dry_image_comes_back_as_it_was_unless_it_is_forced(tmp_path: Path) -> None:
    runs: list[int] = []
    engine = Engine(write_estimating(tmp_path / "model"), threads=1, note_run=runs.append)
    dark, bright = noise(30, 40) // 8, noise(30, 40) // 8 + 120
    left = engine.examine(dark)
    assert not left.rain_found
    np.testing.assert_array_equal(left.image, dark)
    assert not runs
    forced = engine.examine(dark, force=True)
    assert forced.rain_found
    assert levels_apart(forced.image, expected(dark)) <= 1
    assert engine.examine(bright).rain_found
    engine.close()


def test_each_scale_is_judged_and_derained_by_itself(tmp_path: Path) -> None:
    engine = Engine(write_estimating(tmp_path / "model", longest_px=40), threads=1)
    image = scene(90, 130)
    wanted = expected(reduced(image, 4)).astype(np.uint8)
    for scale in (2, 1):
        wanted = with_coarser(expected(reduced(image, scale)).astype(np.uint8), wanted)
    assert levels_apart(engine.derain(image), wanted) <= 2
    small = scene(30, 40)
    assert levels_apart(engine.derain(small), expected(small)) <= 1
    engine.close()


@pytest.mark.parametrize("factor", [4, 2, 1])
def test_a_scale_without_rain_changes_nothing_and_takes_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: int
) -> None:
    """Where rain is found at one scale alone, what comes off there stays off."""
    engine = Engine(write_estimating(tmp_path / "model", longest_px=40), threads=1)
    image = scene(92, 132)
    rows = image.shape[0] // factor
    estimate = RainEstimator.estimate

    def found_at_one_scale(estimator: RainEstimator, seen: AnyImage) -> Rain:
        return replace(estimate(estimator, seen), evidence=1.0 if seen.shape[0] == rows else -1.0)

    monkeypatch.setattr(RainEstimator, "estimate", found_at_one_scale)
    wanted = expected(reduced(image, factor)).astype(np.uint8)
    for finer in (scale for scale in (2, 1) if scale < factor):
        wanted = with_coarser(reduced(image, finer), wanted)
    got = engine.examine(image)
    assert got.rain_found
    assert levels_apart(got.image, wanted) <= 2
    engine.close()


@pytest.mark.parametrize("force", [False, True])
def test_progress_is_told_to_the_end_over_all_scales(tmp_path: Path, force: bool) -> None:
    engine = Engine(write_estimating(tmp_path / "model", longest_px=40), threads=1, tile_pixels=40 * 40)
    told: list[tuple[int, int]] = []
    engine.examine(noise(150, 90) // 2 + 100, force, note_progress=lambda done, of: told.append((done, of)))
    engine.close()
    done = [each for each, _ in told]
    (total,) = {of for _, of in told}
    assert (done[0], done[-1]) == (0, total)
    assert done == sorted(set(done))
    assert total == 40 * 24 + 76 * 48 + 152 * 92  # whole cells
    assert 40 * 24 in done


def test_an_image_given_up_is_not_looked_at(tmp_path: Path) -> None:
    engine = Engine(write_estimating(tmp_path / "model"), threads=1)
    cancelled = Event()
    cancelled.set()
    with pytest.raises(CancelledError):
        engine.examine(noise(30, 40) // 8, cancelled=cancelled)
    engine.close()


def test_it_passes_the_trial(tmp_path: Path) -> None:
    manifest = check_model(write_estimating(tmp_path / "model"))
    assert [file.name for file in manifest.files] == ["model.onnx", "estimator.onnx"]


def test_a_network_without_a_descriptor_has_no_estimator(tmp_path: Path) -> None:
    folder = write_estimating(tmp_path / "model")
    describe_model(folder)
    with pytest.raises(ModelError, match="model takes 2 inputs, its manifest says 1"):
        Engine(folder)
    plain = write_model(tmp_path / "plain")
    (plain / "estimator.onnx").write_bytes((folder / "estimator.onnx").read_bytes())
    describe_estimator(plain)
    with pytest.raises(ModelError, match="plain takes 1 inputs, its manifest says 2"):
        Engine(plain)


def test_descriptors_of_another_length_are_refused(tmp_path: Path) -> None:
    folder = write_estimating(tmp_path / "model")
    describe_estimator(folder, numbers=4)
    with pytest.raises(ModelError, match="a descriptor of 3 numbers, its manifest says 4"):
        Engine(folder)


def test_an_estimator_that_returns_something_else_is_refused(tmp_path: Path) -> None:
    folder = write_estimating(tmp_path / "model")
    (folder / "estimator.onnx").write_bytes((folder / "model.onnx").read_bytes())
    describe_estimator(folder)
    with pytest.raises(ModelError, match=r"estimator.onnx returns .*: not \(N, 3\) and \(N,\)"):
        Engine(folder)


def test_another_estimator_in_its_place_is_noticed(tmp_path: Path) -> None:
    folder = write_estimating(tmp_path / "model")
    with (folder / "estimator.onnx").open("ab") as file:
        file.write(b" ")
    with pytest.raises(ModelError, match=r"estimator\.onnx is not the file its manifest describes"):
        load_manifest(folder)


def test_small_images_go_through_without_a_pool(tmp_path: Path) -> None:
    image: Image = noise(5, 6) // 2 + 100
    engine = Engine(write_estimating(tmp_path / "model"), threads=1)
    assert levels_apart(engine.derain(image), expected(image)) <= 1
    engine.close()
