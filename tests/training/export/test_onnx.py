"""Export: the files compute what the model computes, and the manifest says what they are."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from derain.arrays import FloatArray
from derain.inference.engine import Engine
from derain.manifest import load_manifest
from tests.conftest import files_in, noise
from tests.training.conftest import (
    CONDITIONED_MODEL,
    CONDITIONED_SHAPE,
    TINY_ESTIMATOR,
    TINY_SHAPE,
    ExportedModel,
    changed,
    random_model,
)
from training.export.card import model_card
from training.export.cost import kmac_per_pixel
from training.export.onnx import (
    PARITY_CELLS,
    PARITY_TOLERANCE,
    Graph,
    ParityError,
    derainer_graph,
    estimator_graph,
    export,
    measure_parity,
)
from training.model.derain_model import DerainModel, ModelShape, to_network
from training.model.rain_estimator import describe
from training.model.unet import NetworkShape
from training.rain.descriptor import DESCRIPTOR
from training.recipes import RECIPES, Recipe
from training.recipes import describe as describe_recipe
from training.repository import ROOT, current_commit


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow) for name in ("exported", "exported_pair")])
def each(request: pytest.FixtureRequest) -> ExportedModel:
    model: ExportedModel = request.getfixturevalue(request.param)
    return model


def run(path: Path, *inputs: FloatArray) -> list[FloatArray]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    return [np.asarray(one) for one in session.run(None, dict(zip(names, inputs, strict=True)))]


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (1, 3, 8, 100), (3, 3, 64, 44), (5, 3, 4, 4)])
def test_file_agrees_at_any_batch_and_size(each: ExportedModel, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    given = [rng.random(shape, dtype=np.float32)]
    if each.manifest.estimator is not None:
        given.append(rng.normal(size=(shape[0], DESCRIPTOR)).astype(np.float32))
    (clean,) = run(each.folder / "model.onnx", *given)
    with torch.inference_mode():
        expected = each.model.derainer(*map(torch.from_numpy, given)).numpy()
    np.testing.assert_allclose(clean, expected, rtol=0, atol=PARITY_TOLERANCE)
    assert np.abs(expected - given[0]).max() > 100 * PARITY_TOLERANCE, "the network does something"


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (9, 3, 32, 32), (2, 3, 20, 48)])
def test_the_estimator_s_file_agrees_at_any_batch_and_size(
    exported_pair: ExportedModel, shape: tuple[int, ...]
) -> None:
    """Descriptors as the derainers take them, and log-odds of rain."""
    images = np.random.default_rng(0).random(shape, dtype=np.float32)
    descriptor, log_odds = run(exported_pair.folder / "estimator.onnx", images)
    assert exported_pair.model.estimator is not None
    with torch.inference_mode():
        raw = exported_pair.model.estimator(torch.from_numpy(images))
    np.testing.assert_allclose(descriptor, describe(raw), rtol=0, atol=PARITY_TOLERANCE)
    np.testing.assert_allclose(log_odds, raw[:, -1], rtol=0, atol=PARITY_TOLERANCE)
    assert (descriptor.shape, log_odds.shape) == ((shape[0], DESCRIPTOR), (shape[0],))


def test_manifest_describes_the_model(each: ExportedModel) -> None:
    manifest = load_manifest(each.folder)  # verifies the hashes
    assert manifest.model_dump_json() == each.manifest.model_dump_json()
    assert manifest.parity.sizes == [(4 * rows, 4 * columns) for rows, columns in PARITY_CELLS]
    assert 0 < manifest.parity.max_difference <= PARITY_TOLERANCE
    assert (manifest.overlap_px, manifest.input.alignment_px) == (TINY_SHAPE.receptive_radius_px, 4)
    assert manifest.parameters == sum(p.numel() for p in each.model.parameters())
    assert files_in(each.folder) == {"README.md", "manifest.json", *(file.name for file in manifest.files)}


def test_manifest_says_what_the_recipe_says(exported: ExportedModel, exported_pair: ExportedModel) -> None:
    assert (exported.manifest.estimator, exported.manifest.longest_px) == (None, None)
    assert exported.manifest.recipe["rain"]["name"] == "test"
    estimator = exported_pair.manifest.estimator
    assert estimator is not None
    assert [file.name for file in exported_pair.manifest.files] == ["model.onnx", "estimator.onnx"]
    assert (estimator.alignment_px, estimator.context_px, estimator.numbers) == (4, 32, DESCRIPTOR)
    assert (estimator.dry_below, exported_pair.manifest.longest_px) == (-0.25, 64)


def test_parity_is_of_both_files(exported_pair: ExportedModel) -> None:
    """Each is refused where it is another network's; what is written down is the larger difference."""
    model, other = exported_pair.model, random_model(CONDITIONED_MODEL, seed=2)
    assert model.estimator is not None and other.estimator is not None
    pairs: list[tuple[Graph, Graph, str]] = [
        (derainer_graph(model.derainer), derainer_graph(other.derainer), "model.onnx"),
        (estimator_graph(model.estimator), estimator_graph(other.estimator), "estimator.onnx"),
    ]
    differences = []
    for graph, another, name in pairs:
        path = exported_pair.folder / name
        differences.append(measure_parity(graph, path).max_difference)
        with pytest.raises(ParityError, match=rf"{name} differs from the network by .*, allowed: 1e-04"):
            measure_parity(another, path)
    assert exported_pair.manifest.parity.max_difference == max(differences) > differences[0]


def test_files_do_not_tell_where_they_were_made(exported_pair: ExportedModel) -> None:
    """Nor where Python was, nor any source file."""
    for file in exported_pair.manifest.files:
        data = (exported_pair.folder / file.name).read_bytes()
        for path in (str(ROOT), sys.prefix, sys.base_prefix + "/lib", "site-packages"):
            assert path.encode() not in data
        for module in ("network", "estimator", "export"):
            assert f"{module}.py".encode() not in data


def test_engine_computes_what_the_network_computes(exported: ExportedModel) -> None:
    """Through tiles, from bytes to bytes."""
    image = noise(96, 120)
    engine = Engine(exported.folder, threads=1, tile_pixels=72 * 72)
    derained = engine.derain(image)
    engine.close()
    with torch.inference_mode():
        whole = exported.model.derainer(to_network(torch.from_numpy(image[None]).permute(0, 3, 1, 2)))
    expected = whole[0].permute(1, 2, 0).clamp(0, 1).mul(255).numpy()
    np.testing.assert_allclose(derained, expected, rtol=0, atol=0.52)


def test_engine_derains_as_training_was_watched(exported_pair: ExportedModel) -> None:
    """An image of one scale, by the same windows: two roundings to whole levels apart at most."""
    image = noise(56, 61)  # `longest_px` is 64
    engine = Engine(exported_pair.folder, threads=1)
    found = engine.examine(image)
    engine.close()
    assert found.rain_found
    ours = exported_pair.model.derain(image)
    assert np.abs(found.image.astype(int) - ours).max() <= 1
    assert (found.image == ours).mean() > 0.99
    assert np.abs(ours.astype(int) - image).max() > 3


@pytest.mark.parametrize(("dry_below", "comes_back"), [(0.99, False), (1.01, True)])
def test_what_looks_dry_to_the_estimator_comes_back(
    exported_pair: ExportedModel, tmp_path: Path, dry_below: float, comes_back: bool
) -> None:
    """It says 1 of whatever it sees."""
    folder = shutil.copytree(exported_pair.folder, tmp_path / "model")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["estimator"]["dry_below"] = dry_below
    (folder / "manifest.json").write_text(json.dumps(manifest))
    engine = Engine(folder, threads=1)
    image = noise(40, 40)
    assert np.array_equal(engine.derain(image), image) is comes_back
    assert not np.array_equal(engine.examine(image, force=True).image, image)
    engine.close()


def test_the_larger_recipes_are_fast_several_times() -> None:
    """So what exports as `base` exports as each of these."""
    for name in RECIPES.keys() - {"fast", "smoke", "study", "ablation"}:
        assert replace(RECIPES[name]().model, derainers=1) == RECIPES["fast"]().model


@pytest.mark.slow
@pytest.mark.parametrize("name", ["study", "ablation"])
def test_models_of_every_recipe_export(name: str, tmp_path: Path) -> None:
    """Down to the smallest image that each takes, a cell of its own size.

    Those of `smoke` and `base` are exported in test_run.py.
    """
    recipe = RECIPES[name]()
    model = DerainModel(recipe.model)
    for network in model.derainer.networks:
        torch.nn.init.normal_(network.tail.weight, std=0.1)
    manifest = export(model.eval(), recipe, "unknown", tmp_path, name)
    assert manifest.parity.sizes[0][0] == recipe.model.network.alignment_px
    assert (manifest.estimator is None) == (recipe.model.estimator is None)
    (tmp_path / "manifest.json").write_text(manifest.model_dump_json())
    engine = Engine(tmp_path, threads=1)
    assert engine.examine(noise(5, 7), force=True).image.shape == (5, 7, 3)
    engine.close()


def test_an_ensemble_costs_what_its_members_do() -> None:
    one, three = (random_model(ModelShape(TINY_SHAPE, derainers=count)) for count in (1, 3))
    assert kmac_per_pixel(three) == pytest.approx(3 * kmac_per_pixel(one))


def test_multiply_adds_counted_by_hand() -> None:
    shape = ModelShape(NetworkShape(width=4, blocks=(1,), dilations=(3,)))
    per_fine_cell = 6 * 6 * 3 * 4 + 2 * (2 * 3 * 3 * 4 * 4) + 3 * 3 * 4 * 12  # head, two blocks, tail
    per_coarse_cell = 2 * 2 * 4 * 8 + 2 * 3 * 3 * 8 * 8 + 8 * 4  # down, one block, up
    expected = (per_fine_cell / 4 + per_coarse_cell / 16) / 1000
    assert kmac_per_pixel(DerainModel(shape)) == pytest.approx(expected)


def test_the_estimator_s_multiply_adds_are_those_of_its_windows() -> None:
    """Of 480 x 320 pixels two windows of 256: as many more where it sees more of the image."""

    def of_estimator(context_px: int) -> float:
        with_one = ModelShape(CONDITIONED_SHAPE, estimator=TINY_ESTIMATOR, context_px=context_px)
        without = replace(with_one, estimator=None)
        return kmac_per_pixel(DerainModel(with_one)) - kmac_per_pixel(DerainModel(without))

    per_fine_cell = 6 * 6 * 3 * 4 + 2 * 3 * 3 * 4 * 4 + 4 * 4  # head, a block, what is pooled
    per_coarse_cell = 2 * 2 * 4 * 8 + 2 * 3 * 3 * 8 * 8 + 8 * 4
    cost = (per_fine_cell / 4 + per_coarse_cell / 16) / 1000
    assert of_estimator(256) == pytest.approx(cost * 2 * 256**2 / (480 * 320))
    assert of_estimator(64) == pytest.approx(cost * 9 * 64**2 / (480 * 320))


def test_recipe_is_described_for_json(tiny_recipe: Recipe, tmp_path: Path) -> None:
    assert describe_recipe(tiny_recipe)["backgrounds"]["photographs"] is None
    described = describe_recipe(changed(tiny_recipe, photographs=tmp_path))
    assert described["backgrounds"]["photographs"] == str(tmp_path)
    for recipe in (make() for make in RECIPES.values()):
        assert describe_recipe(recipe)["backgrounds"]["photographs"] == "training/photographs/train"


def test_card_says_what_the_manifest_says(each: ExportedModel) -> None:
    card = (each.folder / "README.md").read_text()
    manifest = each.manifest
    assert card == model_card(manifest)
    for file in manifest.files:
        assert f"`{file.name}`" in card and file.sha256 in card
    assert f"{manifest.parameters:,} parameters" in card
    assert "no photographs" in card


def test_card_says_how_the_model_was_trained(
    exported: ExportedModel, exported_pair: ExportedModel, tiny_recipe: Recipe
) -> None:
    longer = describe_recipe(changed(tiny_recipe, steps=4000))
    card = model_card(exported.manifest.model_copy(update={"recipe": longer}))
    assert "4,000\n  steps, of 4 patches of 16 px, seed 0; rain" in card
    assert "Estimator" not in card
    of_two = (exported_pair.folder / "README.md").read_text()
    assert "steps of 2 networks side by side, whose mean it returns, of 4 patches" in of_two
    assert f"{DESCRIPTOR} numbers that the network is conditioned on" in of_two
    assert "From windows of 32 px it estimates the rain" in of_two
    assert "Below\n  -0.25 the image comes back as it was." in of_two


def test_commit_is_a_hash_or_unknown() -> None:
    assert current_commit() == "unknown" or len(current_commit().removesuffix("-dirty")) == 40
