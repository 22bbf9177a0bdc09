"""A network that takes windows of the picture beside each tile, and where the tile lies in it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from derain.arrays import AnyPicture, Picture
from derain.engine import Engine, network_inputs
from derain.errors import ModelError
from derain.manifest import InputContract, Overview
from derain.tiling import QUARTERS, spread
from derain.trial import check_model
from tests.conftest import ALIGNMENT_PX, describe_model, noise, write_model
from tests.derain.test_engine import levels_apart

LONGEST_PX, CELL_PX = 24, 8
OVERVIEW = Overview(longest_px=LONGEST_PX, alignment_px=CELL_PX)


def write_overseer(folder: Path, windows: int = 1) -> Path:
    """Returns the mean of its own input and of all that its overview shows, channel by channel.

    Of the quarters of the picture it takes too where its cells lie, and returns that in red and green.
    """
    is_placed = windows == QUARTERS
    shapes: list[list[str | int | None]] = [["N", 3, "H", "W"], ["N", 3 * windows, "h", "w"]]
    if is_placed:
        shapes.append(["N", 2, "rows", "columns"])
    given = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(("rainy", "overview", "place"), shapes, strict=False)
    ]
    lights = [f"light{number}" for number in range(windows)]
    nodes = [
        helper.make_node("GlobalAveragePool", ["overview"], ["lights"]),
        helper.make_node("Split", ["lights"], lights, axis=1, num_outputs=windows),
        helper.make_node("Mean", lights, ["light"]),
        helper.make_node("Mean", ["rainy", "light"], ["lit" if is_placed else "clean"]),
    ]
    numbers = {"scales": [1, 1, ALIGNMENT_PX, ALIGNMENT_PX], "half": [0.5]}
    if is_placed:
        nodes += [
            helper.make_node("Resize", ["place", "", "scales"], ["here"], mode="nearest"),
            helper.make_node("Mul", ["here", "half"], ["halved"]),
            helper.make_node("Add", ["halved", "half"], ["red_and_green"]),
            helper.make_node("Split", ["lit", "sizes"], ["lit_too", "blue"], axis=1),
            helper.make_node("Concat", ["red_and_green", "blue"], ["clean"], axis=1),
        ]
    clean = helper.make_tensor_value_info("clean", TensorProto.FLOAT, shapes[0])
    constants = [numpy_helper.from_array(np.array(n, np.float32), name) for name, n in numbers.items()]
    constants.append(numpy_helper.from_array(np.array([2, 1], np.int64), "sizes"))
    graph = helper.make_graph(nodes, "overseer", given, [clean], constants)
    opsets = [helper.make_opsetid("", 20)]
    folder.mkdir()
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / "model.onnx")
    describe_model(folder, OVERVIEW.model_copy(update={"windows": windows}))
    return folder


def expected(picture: AnyPicture, windows: int = 1) -> AnyPicture:
    lights = []
    for seen in spread(picture, windows, LONGEST_PX, LONGEST_PX):
        height, width = seen.shape[:2]
        padded = np.pad(seen, [(0, -height % CELL_PX), (0, -width % CELL_PX), (0, 0)], mode="edge")
        lights.append(padded.mean(axis=(0, 1)))
    lit = (picture + np.mean(lights, axis=0)) / 2
    if windows == QUARTERS:
        for axis, side in enumerate(picture.shape[:2]):
            cells = -(-side // ALIGNMENT_PX)
            here = ((np.arange(side) // ALIGNMENT_PX + 0.5) / cells) * np.iinfo(picture.dtype).max
            lit[..., axis] = here[:, None] if axis == 0 else here
    return cast(AnyPicture, np.rint(lit).astype(picture.dtype))


def lit(height: int, width: int, seed: int) -> Picture:
    """Noise that is brighter on one side, and in another light for each seed."""
    ramp = np.linspace(0, 1, width)[None, :, None] * (1 + seed % 5) / 5
    return np.asarray(noise(height, width, seed) * ramp, dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 70), (24, 24), (25, 31), (90, 140)])
@pytest.mark.parametrize("tile_pixels", [1, 2000, None])
@pytest.mark.parametrize("windows", [1, 2, 3, QUARTERS])
def test_all_tiles_see_the_same_windows_of_the_picture(
    tmp_path: Path, height: int, width: int, tile_pixels: int | None, windows: int
) -> None:
    engine = Engine(write_overseer(tmp_path / "overseer", windows), threads=2, tile_pixels=tile_pixels)
    for picture in (lit(height, width, 1), lit(height, width, 2).astype(np.uint16) * 257):
        assert levels_apart(engine.derain(picture), expected(picture, windows)) <= 1
    engine.close()


@pytest.mark.parametrize("windows", [1, QUARTERS])
def test_pictures_in_one_run_keep_their_own(tmp_path: Path, windows: int) -> None:
    """Of one size, and of sizes whose tiles are alike and whose middles are not."""
    runs: list[int] = []
    folder = write_overseer(tmp_path / "overseer", windows)
    engine = Engine(folder, threads=1, tile_batch=8, note_run=runs.append)
    pictures = [lit(*size, seed) for seed in range(30) for size in ((20, 20), (17, 20), (12, 20))]
    with ThreadPoolExecutor(len(pictures)) as callers:
        derained = list(callers.map(engine.derain, pictures))
    engine.close()
    assert max(runs) > 1
    for picture, got in zip(pictures, derained, strict=True):
        assert levels_apart(got, expected(picture, windows)) <= 1


def test_it_passes_the_trial(tmp_path: Path) -> None:
    assert check_model(write_overseer(tmp_path / "overseer")).input.overview == OVERVIEW


def test_whole_inputs_are_of_the_contract() -> None:
    contract = InputContract(alignment_px=4, overview=OVERVIEW)
    rainy, overview = network_inputs(noise(30, 41), contract)
    assert (rainy.shape, overview.shape) == ((1, 3, 32, 44), (1, 3, LONGEST_PX, LONGEST_PX))
    (rainy,) = network_inputs(noise(30, 41), InputContract(alignment_px=4))
    assert rainy.shape == (1, 3, 32, 44)
    quarters = OVERVIEW.model_copy(update={"windows": QUARTERS})
    _, overview, place = network_inputs(noise(30, 41), InputContract(alignment_px=4, overview=quarters))
    assert (overview.shape, place.shape) == ((1, 3 * QUARTERS, LONGEST_PX, LONGEST_PX), (1, 2, 8, 11))


def test_a_file_of_another_number_of_inputs_is_refused(tmp_path: Path) -> None:
    describe_model(write_overseer(tmp_path / "overseer"))
    with pytest.raises(ModelError, match="overseer takes 2 inputs, its manifest says 1"):
        Engine(tmp_path / "overseer")
    describe_model(tmp_path / "overseer", OVERVIEW.model_copy(update={"windows": QUARTERS}))
    with pytest.raises(ModelError, match="overseer takes 2 inputs, its manifest says 3"):
        Engine(tmp_path / "overseer")
    describe_model(write_model(tmp_path / "tiny"), OVERVIEW)
    with pytest.raises(ModelError, match="tiny takes 1 inputs, its manifest says 2"):
        Engine(tmp_path / "tiny")


def test_a_file_of_another_number_of_windows_is_refused(tmp_path: Path) -> None:
    describe_model(write_overseer(tmp_path / "overseer", windows=2), OVERVIEW)
    with pytest.raises(ModelError, match="an overview of 6 channels, its manifest says 3"):
        Engine(tmp_path / "overseer")
