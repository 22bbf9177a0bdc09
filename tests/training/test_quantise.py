"""Quantised models: the file computes nearly what the original does, in tiles too, and says what it is."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from derain.arrays import Picture, quantise
from derain.engine import Engine, network_inputs
from derain.manifest import InputContract, load_manifest
from tests.conftest import ROOT, files_in, noise
from tests.training.conftest import TINY_SHAPE, ExportedModel, assert_refused
from training.card import REMARKS
from training.export import computed_by
from training.metrics import psnr
from training.mirror import main as mirror
from training.network import DerainNetwork
from training.quantise import draw_windows, main, quantised
from training.start import StartError, begin, start_from

FAST = ROOT / "models" / "fast"


@pytest.fixture(scope="module")
def model(exported: ExportedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported model, with `int8` beside it."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    shutil.copytree(exported.folder, folder)
    (folder / REMARKS).write_text("Of tiny alone.")
    assert main([str(folder), "--name", "int8", "--windows", "3"]) == 0
    return folder


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the shipped model, quantised."""
    path = tmp_path_factory.mktemp("fast") / "model.onnx"
    quantised(FAST / "model.onnx", path, draw_windows(6), load_manifest(FAST).input)
    return path


def derained(path: Path, picture: Picture, contract: InputContract) -> Picture:
    return quantise(computed_by(path)(*network_inputs(picture, contract))[0].transpose(1, 2, 0))


@pytest.mark.slow
def test_what_comes_back_is_what_the_original_returns(fast: Path) -> None:
    """On pictures that the ranges were not found on: nearer to it than any rain is."""
    contract = load_manifest(FAST).input
    for rainy in draw_windows(10)[6:]:
        ours, theirs = (derained(path, rainy, contract) for path in (fast, FAST / "model.onnx"))
        assert psnr(ours, theirs) > 40
        assert (ours != theirs).any()


@pytest.mark.slow
def test_first_and_last_layers_and_the_survey_stay(fast: Path) -> None:
    """Their weights are those of the original, what the survey tells too; of the rest no convolution's is."""

    def convolved(path: Path) -> set[str]:
        """Stored numbers that a convolution takes as they are."""
        graph = onnx.load(path).graph
        stored = {each.name for each in graph.initializer}
        return {node.input[1] for node in graph.node if node.op_type == "Conv"} & stored

    original, kept = convolved(FAST / "model.onnx"), convolved(fast)
    parts = {"survey", "know", "scale", "shift", "head", "tail"}
    exact = {name for name in original if parts & set(name.split("."))}
    assert {part for name in exact for part in name.split(".")} >= parts
    assert kept == exact
    assert kept < original
    assert fast.stat().st_size < 0.8 * (FAST / "model.onnx").stat().st_size


@pytest.mark.slow
def test_tiles_equal_the_whole(model: Path) -> None:
    folder = model.with_name("int8")
    picture = noise(96, 144)
    engine = Engine(folder, threads=1, tile_pixels=72 * 72)
    tiled = engine.derain(picture)
    engine.close()
    whole = derained(folder / "model.onnx", picture, load_manifest(folder).input)
    assert np.abs(tiled.astype(int) - whole).max() <= 1
    assert (tiled == whole).mean() > 0.999


@pytest.mark.slow
def test_it_says_what_it_is(model: Path) -> None:
    ours, theirs = load_manifest(model.with_name("int8")), load_manifest(model)
    assert ours.quantised_from is not None
    assert ours.quantised_from.model_dump() == {"name": "tiny", "sha256": theirs.file.sha256, "windows": 3}
    for same in ("parameters", "kmac_per_pixel", "overlap_px", "input", "recipe", "commit"):
        assert getattr(ours, same) == getattr(theirs, same)
    assert 1e-6 < ours.parity.max_difference < 0.25
    assert [e.name for e in ours.evaluations][-1] == "drawn squall"
    card = (model.with_name("int8") / "README.md").read_text()
    assert f"computes `tiny`, SHA-256\n  `{theirs.file.sha256}`" in card
    assert "PyTorch" not in card
    assert "Of tiny alone" not in card
    assert files_in(model.with_name("int8")) == {"model.onnx", "manifest.json", "README.md"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("of", "name", "said"),
    [
        ("int8", "better", "int8 is quantised already: quantise tiny"),
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
def test_nothing_is_made_of_it(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has no weights to begin from, and a mirrored model is quantised, not the other way round."""
    assert mirror([str(model.with_name("int8")), "--name", "better"]) == 1
    assert "int8 is quantised: mirror tiny, and quantise that" in capsys.readouterr().err
    with pytest.raises(StartError, match="int8 is quantised: begin from tiny"):
        begin(DerainNetwork(TINY_SHAPE), start_from(model.with_name("int8")))


@pytest.mark.slow
def test_a_mirrored_model_is_quantised(model: Path) -> None:
    """One that enlarges, too; what makes larger and smaller stays exact."""
    assert mirror([str(model), "--name", "best", "--enlarge", "1.5"]) == 0
    assert main([str(model.with_name("best")), "--name", "best-int8", "--windows", "2"]) == 0
    made = load_manifest(model.with_name("best-int8"))
    assert made.mirrored_from is not None
    assert made.quantised_from is not None
    assert made.quantised_from.name == "best"
    graph = onnx.load(model.with_name("best-int8") / "model.onnx").graph
    exact = [node.input[1] for node in graph.node if node.op_type == "Conv" and "enlarged" in node.input[1]]
    assert exact == ["enlarged.rainy.spline.kernel", "enlarged.made_smaller.kernel"]
