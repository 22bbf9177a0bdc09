"""Mirrored models: the file computes what mirroring around the original computes, in tiles as well."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from derain.arrays import FloatArray, quantise
from derain.engine import Engine
from derain.manifest import Views, load_manifest
from derain.tiling import QUARTERS
from tests.conftest import ROOT, files_in, noise
from tests.training.conftest import TINY_SHAPE, ExportedModel, assert_refused, surveyed_network
from training.card import REMARKS, write_model_texts
from training.export import export, write_onnx
from training.mirror import VIEWS, main, mirrored
from training.network import DerainNetwork
from training.recipes import Recipe
from training.start import begin, start_from


@pytest.fixture(scope="module")
def model(exported: ExportedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported model, with `best` beside it."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    shutil.copytree(exported.folder, folder)
    (folder / REMARKS).write_text("Of tiny alone.")
    assert main([str(folder), "--name", "best"]) == 0
    return folder


def session(path: Path) -> ort.InferenceSession:
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (2, 3, 32, 20), (1, 3, 8, 100), (2, 3, 64, 44)])
@pytest.mark.parametrize("views", [2, 4])
def test_the_mean_over_runs_of_the_original(
    exported: ExportedModel, views: Views, shape: tuple[int, ...], tmp_path: Path
) -> None:
    """The four runs written out, at any batch and size."""
    original = exported.folder / "model.onnx"
    onnx.save(mirrored(onnx.load(original), VIEWS[views]), tmp_path / "model.onnx")

    def run(rainy: FloatArray) -> FloatArray:
        (clean,) = session(original).run(["clean"], {"rainy": np.ascontiguousarray(rainy)})
        return np.asarray(clean)

    rainy = np.random.default_rng(0).random(shape, dtype=np.float32)
    runs = [run(rainy), run(rainy[..., ::-1])[..., ::-1]]
    if views == 4:
        runs += [run(rainy[..., ::-1, :])[..., ::-1, :], run(rainy[..., ::-1, ::-1])[..., ::-1, ::-1]]
    (clean,) = session(tmp_path / "model.onnx").run(["clean"], {"rainy": rainy})
    np.testing.assert_allclose(np.asarray(clean), sum(runs) / views, rtol=0, atol=1e-5)
    assert np.abs(runs[0] - runs[1]).max() > 1e-3, "a mirror makes a difference"


@pytest.mark.slow
def test_tiles_equal_the_whole(model: Path) -> None:
    picture = noise(99, 142)
    engine = Engine(model.with_name("best"), threads=1, tile_pixels=72 * 72)
    tiled = engine.derain(picture)
    engine.close()
    padded = np.pad(picture, [(0, 1), (0, 2), (0, 0)], mode="edge")
    fed = padded.transpose(2, 0, 1)[None] / np.float32(255)
    (clean,) = session(model.with_name("best") / "model.onnx").run(None, {"rainy": fed})
    whole = quantise(np.asarray(clean)[0, :, :99, :142].transpose(1, 2, 0))
    assert np.abs(tiled.astype(int) - whole).max() <= 1
    assert (tiled == whole).mean() > 0.999


@pytest.mark.slow
def test_it_says_what_it_is(model: Path) -> None:
    ours, theirs = load_manifest(model.with_name("best")), load_manifest(model)
    assert ours.mirrored_from is not None
    said = {"name": "tiny", "sha256": theirs.file.sha256, "views": 4, "enlarged": 1}
    assert ours.mirrored_from.model_dump() == said
    assert ours.kmac_per_pixel == pytest.approx(4 * theirs.kmac_per_pixel, abs=0.25)  # both are rounded
    for same in ("parameters", "overlap_px", "input", "recipe", "commit"):
        assert getattr(ours, same) == getattr(theirs, same)
    assert 0 <= ours.parity.max_difference < 1e-4
    assert ours.parity.sizes == theirs.parity.sizes
    assert [e.name for e in ours.evaluations][-1] == "drawn squall"
    card = (model.with_name("best") / "README.md").read_text()
    assert f"runs `tiny`, SHA-256\n  `{theirs.file.sha256}`" in card
    assert "PyTorch" not in card
    assert "Of tiny alone" not in card
    assert files_in(model.with_name("best")) == {"model.onnx", "manifest.json", "README.md"}


@pytest.mark.slow
def test_the_weights_are_there_once(model: Path, exported: ExportedModel) -> None:
    """And under their names: a training can begin from them."""
    ours, theirs = (folder / "model.onnx" for folder in (model.with_name("best"), model))
    assert ours.stat().st_size < theirs.stat().st_size + 40_000
    network = DerainNetwork(TINY_SHAPE)
    begin(network, start_from(model.with_name("best")))
    for mine, known in zip(network.parameters(), exported.network.parameters(), strict=True):
        torch.testing.assert_close(mine, known, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("of", "name", "said"),
    [
        ("best", "better", "best is mirrored already: mirror tiny"),
        ("tiny", "tiny", "tiny has weights of its own, which would be lost"),
        ("tiny", "thesis", "thesis is there and is no model folder"),
        ("nothing", "better", "no model at"),
    ],
)
def test_what_must_not_be_is_refused(
    model: Path, of: str, name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (model.with_name("thesis")).mkdir(exist_ok=True)
    assert_refused(main, [str(model.with_name(of)), "--name", name], said, model.parent, capsys)


@pytest.mark.slow
def test_a_survey_may_see_more_of_the_picture(
    model: Path, tiny_recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = tmp_path / "told"
    told.mkdir()
    write_model_texts(told, export(surveyed_network(), tiny_recipe, "unknown", told, "told"))
    assert main([str(told), "--name", "best", "--overview", "320"]) == 0
    best = load_manifest(told.with_name("best"))
    overview = best.input.overview
    assert overview is not None
    assert overview.longest_px == 320
    assert best.kmac_per_pixel > 4 * load_manifest(told).kmac_per_pixel + 0.1  # its survey sees more
    assert main([str(told), "--name", "better", "--overview", "321"]) == 1
    assert "--overview 321 is no multiple of 4" in capsys.readouterr().err
    assert main([str(model), "--name", "better", "--overview", "320"]) == 1
    assert "tiny has no survey that could see more" in capsys.readouterr().err


def test_manifests_of_before_still_load() -> None:
    """That of models/base has no such field, or says that it is not mirrored."""
    assert load_manifest(ROOT / "models" / "base").mirrored_from is None


@pytest.mark.parametrize("windows", [1, QUARTERS])
def test_a_survey_sees_the_same_mirror_image(tmp_path: Path, windows: int) -> None:
    """And each place is told of itself, wherever it lies in the mirror."""
    network = surveyed_network(windows=windows)
    write_onnx(network, tmp_path / "model.onnx")
    onnx.save(mirrored(onnx.load(tmp_path / "model.onnx"), VIEWS[4]), tmp_path / "best.onnx")
    rng = np.random.default_rng(0)
    shapes = [(3, 16, 24), (3 * windows, 32, 16), (2, 4, 6)][: 3 if windows == QUARTERS else 2]
    given = [rng.random((2, *shape), dtype=np.float32) for shape in shapes]

    def run(*axes: int) -> FloatArray:
        turned = [torch.from_numpy(np.flip(each, axes).copy()) for each in given]
        with torch.inference_mode():
            return np.asarray(np.flip(network(*turned).numpy(), axes))

    expected = (run() + run(2) + run(3) + run(2, 3)) / 4
    names = ("rainy", "overview", "place")
    (clean,) = session(tmp_path / "best.onnx").run(["clean"], dict(zip(names, given, strict=False)))
    np.testing.assert_allclose(np.asarray(clean), expected, rtol=0, atol=1e-5)
