"""Export: the file computes what the network computes, and the manifest says what it is."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from derain.engine import Engine
from derain.manifest import load_manifest
from derain.tiling import QUARTERS
from tests.training.conftest import TINY_SHAPE, ExportedModel, surveyed_network, with_random_weights
from training.card import model_card
from training.export import (
    PARITY_CELLS,
    PARITY_TOLERANCE,
    ParityError,
    current_commit,
    export,
    kmac_of_graph,
    kmac_per_pixel,
    measure_parity,
    write_onnx,
)
from training.network import DerainNetwork, NetworkShape
from training.recipes import RECIPES, ROOT, Recipe, Surveying, describe


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (1, 3, 8, 100), (3, 3, 64, 44), (5, 3, 4, 4)])
def test_file_agrees_at_any_batch_and_size(exported: ExportedModel, shape: tuple[int, ...]) -> None:
    session = ort.InferenceSession(exported.folder / "model.onnx", providers=["CPUExecutionProvider"])
    rainy = np.random.default_rng(0).random(shape, dtype=np.float32)
    (clean,) = session.run(["clean"], {"rainy": rainy})
    with torch.inference_mode():
        expected = exported.network(torch.from_numpy(rainy)).numpy()
    np.testing.assert_allclose(np.asarray(clean), expected, rtol=0, atol=PARITY_TOLERANCE)
    assert np.abs(expected - rainy).max() > 100 * PARITY_TOLERANCE, "the network does something"


def test_manifest_describes_the_model(exported: ExportedModel, tiny_recipe: Recipe) -> None:
    manifest = load_manifest(exported.folder)  # verifies the hash
    assert manifest.model_dump_json() == exported.manifest.model_dump_json()
    assert manifest.parity.sizes == [(4 * rows, 4 * columns) for rows, columns in PARITY_CELLS]
    assert 0 < manifest.parity.max_difference <= PARITY_TOLERANCE
    assert (manifest.overlap_px, manifest.input.alignment_px) == (TINY_SHAPE.receptive_radius_px, 4)
    assert manifest.parameters == sum(p.numel() for p in exported.network.parameters())
    assert manifest.recipe["rain"]["name"] == tiny_recipe.rain.name
    assert [path.name for path in sorted(exported.folder.iterdir())] == [
        "README.md",
        "manifest.json",
        "model.onnx",
    ]


@pytest.mark.parametrize("windows", [1, QUARTERS])
def test_a_survey_s_means_and_maxima_are_poolings(tmp_path: Path, windows: int) -> None:
    """Which onnxruntime does in the blocked layout of convolutions; parity says that they are the same."""
    network = surveyed_network(windows=windows)
    write_onnx(network, tmp_path / "model.onnx")
    made = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    scales = len(network.survey.shape.widths)
    assert (made.count("GlobalAveragePool"), made.count("GlobalMaxPool")) == (2 * scales, scales)
    assert made.count("ReduceMean") == 2 * (windows > 1)  # of the windows' findings and log-odds
    assert not {"ReduceMax", "Pow"} & set(made)
    measure_parity(network, tmp_path / "model.onnx")


def test_file_does_not_tell_where_it_was_made(exported: ExportedModel) -> None:
    """Nor where Python was, nor any source file."""
    data = (exported.folder / "model.onnx").read_bytes()
    for path in (str(ROOT), sys.prefix, sys.base_prefix + "/lib", "site-packages", "network.py"):
        assert path.encode() not in data
    shipped = (ROOT / "models" / "base" / "model.onnx").read_bytes()
    assert b"network.py" not in shipped


def test_engine_computes_what_the_network_computes(exported: ExportedModel) -> None:
    """Through tiles, from bytes to bytes."""
    picture = np.random.default_rng(0).integers(0, 256, (96, 120, 3), dtype=np.uint8)
    engine = Engine(exported.folder, threads=1, tile_pixels=72 * 72)
    derained = engine.derain(picture)
    engine.close()
    with torch.inference_mode():
        whole = exported.network(torch.from_numpy(picture.transpose(2, 0, 1)[None] / np.float32(255)))
    expected = whole[0].permute(1, 2, 0).clamp(0, 1).mul(255).numpy()
    np.testing.assert_allclose(derained, expected, rtol=0, atol=0.52)


@pytest.mark.parametrize(
    "recipe", [pytest.param(name, marks=[] if name == "smoke" else pytest.mark.slow) for name in RECIPES]
)
def test_networks_of_every_recipe_export(recipe: str, tmp_path: Path) -> None:
    """Down to the smallest picture that each takes, a cell of its own size."""
    network = DerainNetwork(RECIPES[recipe]().network)
    torch.nn.init.normal_(network.tail.weight, std=0.1)
    write_onnx(network, tmp_path / "model.onnx")
    assert measure_parity(network, tmp_path / "model.onnx").sizes[0][0] == network.shape.alignment_px


def test_another_networks_file_is_refused(exported: ExportedModel) -> None:
    other = with_random_weights(DerainNetwork(TINY_SHAPE), seed=2)
    with pytest.raises(ParityError, match=r"model\.onnx differs from the network by .*, allowed: 1e-04"):
        measure_parity(other, exported.folder / "model.onnx")


def test_multiply_adds_counted_by_hand() -> None:
    network = DerainNetwork(NetworkShape(width=4, blocks=(1,), dilations=(3,)))
    per_fine_cell = 6 * 6 * 3 * 4 + 2 * (2 * 3 * 3 * 4 * 4) + 3 * 3 * 4 * 12  # head, two blocks, tail
    per_coarse_cell = 2 * 2 * 4 * 8 + 2 * 3 * 3 * 8 * 8 + 8 * 4  # down, one block, up
    assert kmac_per_pixel(network) == pytest.approx((per_fine_cell / 4 + per_coarse_cell / 16) / 1000)


@pytest.mark.parametrize("name", ["fast", "base"])
def test_multiply_adds_of_a_stored_graph_are_its_networks(name: str) -> None:
    """Of a shipped model: a survey that sees a part of the picture, and networks that see all of it."""
    folder = ROOT / "models" / name
    manifest = load_manifest(folder)
    counted = kmac_of_graph(onnx.load(folder / "model.onnx"), manifest.input)
    assert counted == pytest.approx(manifest.kmac_per_pixel, abs=0.051)


def test_each_window_of_a_survey_costs(tmp_path: Path, tiny_recipe: Recipe) -> None:
    one, four = surveyed_network(windows=1), surveyed_network(windows=QUARTERS)
    of_survey = kmac_per_pixel(four) - kmac_per_pixel(one)
    assert of_survey > 0.3
    manifest = export(four, tiny_recipe, "unknown", tmp_path, "told")
    assert manifest.input.overview is not None
    assert manifest.input.overview.windows == QUARTERS
    counted = kmac_of_graph(onnx.load(tmp_path / "model.onnx"), manifest.input)
    assert counted == pytest.approx(kmac_per_pixel(one) + of_survey)


def test_recipe_is_described_for_json(tiny_recipe: Recipe, tmp_path: Path) -> None:
    assert describe(tiny_recipe)["photographs"] is None
    assert describe(replace(tiny_recipe, photographs=tmp_path))["photographs"] == str(tmp_path)
    for recipe in (make() for make in RECIPES.values()):
        assert describe(recipe)["photographs"] == "training/photographs/train"


def test_card_says_what_the_manifest_says(exported: ExportedModel) -> None:
    card = (exported.folder / "README.md").read_text()
    manifest = exported.manifest
    assert card == model_card(manifest)
    for said in (manifest.file.sha256, f"{manifest.parameters:,} parameters", "no photographs"):
        assert said in card


def test_card_says_how_the_course_began(exported: ExportedModel, tiny_recipe: Recipe) -> None:
    early = describe(replace(tiny_recipe, steps=4000, early_share=0.5))
    card = model_card(exported.manifest.model_copy(update={"recipe": early}))
    assert "4,000\n  steps of 4 patches of 16 px, seed 0; rain" in card
    assert "in the first 2,000 steps of `test`" in card


def test_card_says_how_the_survey_was_trained(exported: ExportedModel, tiny_recipe: Recipe) -> None:
    def card(recipe: Recipe) -> str:
        return model_card(exported.manifest.model_copy(update={"recipe": describe(recipe)}))

    surveyed = replace(tiny_recipe, survey=Surveying(steps=3000, batch=8, window_px=96))
    steps = "trained before, in 3,000 steps of 8 windows of 96 px."
    assert f"The survey was {steps}" in card(surveyed)
    assert "it learnt last, of 7,200 windows, half of them dry" in card(surveyed)
    assert "survey" not in card(tiny_recipe)


def test_commit_is_a_hash_or_unknown() -> None:
    assert current_commit() == "unknown" or len(current_commit().removesuffix("-dirty")) == 40
