"""Enlarging models: the file computes what enlarging around the original computes, in tiles as well."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from derain.arrays import quantise
from derain.engine import Engine, network_inputs
from derain.manifest import Views, load_manifest
from derain.tiling import QUARTERS
from tests.conftest import noise
from tests.training.conftest import (
    TINY_SHAPE,
    ExportedModel,
    assert_refused,
    set_log_odds,
    surveyed_network,
)
from training import model_folder
from training.card import write_model_texts
from training.enlarge import FACTORS, enlarged, enlarged_contract
from training.export import computed_by, export, write_onnx
from training.mirror import main, mirror
from training.network import DerainNetwork, SurveyedNetwork, input_contract
from training.recipes import Recipe
from training.survey import Look


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[SurveyedNetwork, Path]:
    """A network with a survey, and its file."""
    network = surveyed_network()
    path = tmp_path_factory.mktemp("told") / "model.onnx"
    write_onnx(network, path)
    return network, path


@pytest.fixture(scope="module")
def placed(tiny_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder whose network is told of each place."""
    folder = tmp_path_factory.mktemp("models") / "placed"
    folder.mkdir()
    network = surveyed_network()
    network.look = Look(QUARTERS, longest_px=72)
    write_model_texts(folder, export(network, tiny_recipe, "unknown", folder, "placed"))
    return folder


@pytest.fixture
def unscored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are made without being scored, which takes longest."""
    monkeypatch.setattr(model_folder, "held_out_sets", list)


def spline(pictures: Tensor, height: int, width: int) -> Tensor:
    return functional.interpolate(pictures, (height, width), mode="bicubic")


@pytest.mark.parametrize("cells", [(1, 1), (3, 2), (1, 9)])
@pytest.mark.parametrize("factor", FACTORS)
def test_takes_off_what_the_network_takes_off_an_enlarged_picture(
    told: tuple[SurveyedNetwork, Path], factor: float, cells: tuple[int, int], tmp_path: Path
) -> None:
    network, path = told
    cell_px = {1.25: 16, 1.5: 8, 2.0: 4}[factor]  # whole cells of the network's 4 px, when it is enlarged
    assert enlarged_contract(input_contract(network), factor).alignment_px == cell_px
    height, width = (side * cell_px for side in cells)
    given = np.random.default_rng(0).random((2, 2, 3, height, width), dtype=np.float32)
    rainy, overview = map(torch.from_numpy, given)
    larger, seen = (
        spline(each, int(height * factor), int(width * factor)).clamp(0, 1) for each in (rainy, overview)
    )
    with torch.inference_mode():
        change = spline(network(larger, seen) - larger, height, width)
        as_it_is = network(rainy, overview) - rainy
    onnx.save(enlarged(onnx.load(path), factor, input_contract(network)), tmp_path / "enlarged.onnx")
    clean = computed_by(tmp_path / "enlarged.onnx")(*given)
    np.testing.assert_allclose(clean, (rainy + change).numpy(), rtol=0, atol=1e-5)
    assert (change - as_it_is).abs().max() > 1e-3, "enlarging makes a difference"


def test_what_is_not_changed_comes_back_as_it_was(tmp_path: Path) -> None:
    """A network that has learnt nothing takes nothing off: not even what a spline would."""
    network = DerainNetwork(TINY_SHAPE)
    path = tmp_path / "model.onnx"
    write_onnx(network, path)
    onnx.save(enlarged(onnx.load(path), 1.25, input_contract(network)), path)
    rainy = np.random.default_rng(0).random((1, 3, 32, 48), dtype=np.float32)
    np.testing.assert_array_equal(computed_by(path)(rainy), rainy)


@pytest.mark.usefixtures("unscored")
@pytest.mark.parametrize("views", [1, 4])
def test_a_picture_that_looks_dry_comes_back_to_the_bit(
    tiny_recipe: Recipe, views: Views, tmp_path: Path
) -> None:
    network = surveyed_network(windows=QUARTERS)
    set_log_odds(network.survey, -3.0)
    folder = tmp_path / "dry"
    folder.mkdir()
    write_model_texts(folder, export(network, tiny_recipe, "unknown", folder, "dry"))
    picture = noise(300, 230)
    for model in (folder, mirror(folder, "larger", views, factor=1.25)):
        engine = Engine(model, threads=1, tile_pixels=128 * 128)
        np.testing.assert_array_equal(engine.derain(picture), picture)
        engine.close()


def test_each_place_is_told_of_itself(placed: Path, tmp_path: Path) -> None:
    """A cell of the enlarged picture of where it lies there; the outermost ones of half a cell within."""
    contract = load_manifest(placed).input
    graph = enlarged(onnx.load(placed / "model.onnx"), 1.25, contract)
    told = onnx.helper.make_tensor_value_info("enlarged.place", onnx.TensorProto.FLOAT, None)
    del graph.graph.output[:]
    graph.graph.output.append(told)
    onnx.save(graph, tmp_path / "told.onnx")

    given = network_inputs(noise(80, 112), enlarged_contract(contract, 1.25))
    place = computed_by(tmp_path / "told.onnx")(*given)
    expected = network_inputs(noise(100, 140), contract)[2]
    assert given[2].shape == (1, 2, 5, 7)
    assert place.shape == expected.shape == (1, 2, 25, 35)
    inside = (..., slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(place[inside], expected[inside], rtol=0, atol=1e-6)
    np.testing.assert_allclose(place, expected, rtol=0, atol=0.2)  # a half of a fifth, to either side


@pytest.mark.usefixtures("unscored")
@pytest.mark.parametrize(("views", "factor"), [(1, 1.25), (4, 1.25), (2, 1.5), (1, 2.0)])
def test_tiles_equal_the_whole(placed: Path, views: Views, factor: float) -> None:
    folder = mirror(placed, "larger", views, factor=factor)
    contract = load_manifest(folder).input
    picture = noise(300, 230)
    engine = Engine(folder, threads=1, tile_pixels=128 * 128)
    tiled = engine.derain(picture)
    engine.close()
    (whole,) = computed_by(folder / "model.onnx")(*network_inputs(picture, contract))
    difference = np.abs(tiled.astype(int) - quantise(whole[:, :300, :230].transpose(1, 2, 0)))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.001


@pytest.mark.usefixtures("unscored")
def test_it_says_what_it_is(placed: Path) -> None:
    assert main([str(placed), "--name", "larger", "--views", "1", "--enlarge", "1.25"]) == 0
    ours, theirs = load_manifest(placed.with_name("larger")), load_manifest(placed)
    assert ours.mirrored_from is not None
    said = {"name": "placed", "sha256": theirs.file.sha256, "views": 1, "enlarged": 1.25}
    assert ours.mirrored_from.model_dump() == said
    assert ours.input.alignment_px == 4 * theirs.input.alignment_px
    assert ours.input.overview is not None
    assert ours.input.overview.alignment_px == 16
    assert ours.input.overview.longest_px == 64  # the most that is a multiple
    assert ours.parity.max_difference < 1e-4
    assert 1.5 * theirs.kmac_per_pixel < ours.kmac_per_pixel < 1.25**2 * theirs.kmac_per_pixel + 1
    card = (placed.with_name("larger") / "README.md").read_text()
    assert "**Enlarged, not trained anew**: runs `placed`" in card
    assert "enlarged before it, 1.25 times each side" in card


@pytest.mark.usefixtures("unscored")
def test_what_cannot_be_is_refused(
    placed: Path, exported: ExportedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, said in (
        (["--views", "1"], "--views 1 without --enlarge changes nothing"),
        (["--enlarge", "1.25", "--overview", "72"], "--overview 72 is no multiple of 16"),
    ):
        arguments = [str(placed), "--name", "other", *options]
        assert_refused(main, arguments, said, placed.parent, capsys)
    mirror(placed, "larger", 1, factor=1.25)
    said = "larger is enlarged already: mirror placed"
    assert_refused(main, [str(placed.with_name("larger")), "--name", "other"], said, placed.parent, capsys)
    with pytest.raises(SystemExit):
        main([str(exported.folder), "--name", "other", "--enlarge", "1.3"])
    assert "invalid choice: 1.3" in capsys.readouterr().err


def test_a_network_alone_is_enlarged_too(exported: ExportedModel) -> None:
    """One that is told nothing has one input."""
    contract = input_contract(exported.network)
    graph = enlarged(onnx.load(exported.folder / "model.onnx"), 1.5, contract)
    sides = [axis.dim_param for axis in graph.graph.input[0].type.tensor_type.shape.dim[2:]]
    assert sides == ["8*rows", "8*columns"]
    assert len(graph.graph.input) == 1
