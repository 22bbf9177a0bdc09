import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from derain.errors import ModelError
from derain.inference.engine import Engine
from derain.manifest import MANIFEST_NAME, load_manifest
from tests.conftest import describe_model

Damage = Callable[[Path], None]


def _edit(**changes: Any) -> Damage:
    def edit(folder: Path) -> None:
        path = folder / MANIFEST_NAME
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit


def _flip_a_bit(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)


def _cut_short(name: str) -> Damage:
    def cut(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:-20])

    return cut


def _remove(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def _not_a_network(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"anything")
    describe_model(folder)


def test_a_sound_model(model: Path) -> None:
    manifest = load_manifest(model)
    assert manifest.name == "tiny"
    assert manifest.file.bytes == (model / "model.onnx").stat().st_size


def test_a_manifest_of_an_earlier_version_is_refused(model: Path, tmp_path: Path) -> None:
    """Its network takes other inputs."""
    folder = shutil.copytree(model, tmp_path / "copy")
    _edit(version=1)(folder)
    with pytest.raises(ModelError, match="is not a manifest this version can read: version"):
        load_manifest(folder)


def test_scores_of_earlier_versions_are_read(model: Path, tmp_path: Path) -> None:
    """They have none of the gains, and a mean of clean images that there is no more."""
    folder = shutil.copytree(model, tmp_path / "copy")
    before = {"name": "set", "role": "test", "pictures": 2, "psnr": 30.0, "ssim": 0.9, "input_psnr": 25.0}
    before |= {"removal": 0.5, "rain_change": 9.0, "background_error": 2.0, "background_error_50": 3.0}
    _edit(evaluations=[before | {"clean_psnr": 86.0}, before | {"name": "new"}])(folder)
    old, new = load_manifest(folder).evaluations
    assert (old.psnr, old.clean_psnr, old.gain, old.clean) == (30, 86, None, None)
    assert new.clean_psnr is None


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_flip_a_bit, r"model\.onnx is not the file its manifest describes"),
        (_cut_short("model.onnx"), r"model\.onnx is not the file its manifest describes"),
        (_remove("model.onnx"), r"model\.onnx is missing"),
        (_remove(MANIFEST_NAME), r"manifest\.json is missing"),
        (shutil.rmtree, r"no model at .*copy"),
        (_cut_short(MANIFEST_NAME), r"manifest\.json is not a manifest"),
        (
            lambda folder: (folder / MANIFEST_NAME).write_bytes(b"\xff\xd8"),
            r"manifest\.json is not a manifest",
        ),
        (_edit(colour="blue"), r"manifest\.json .*: colour: "),
        (_edit(version=3), r"manifest\.json .*: version: "),
        (_edit(file={"name": "../model.onnx"}), r"manifest\.json .*: file\.name: "),
        (_edit(input={"channels": "BGR"}), r"manifest\.json .*: input\.channels: "),
        (_edit(overlap_px=-1), r"manifest\.json .*: overlap_px: "),
        (_not_a_network, r"model\.onnx cannot be loaded"),
    ],
)
def test_a_model_that_must_not_be_served(model: Path, tmp_path: Path, damage: Damage, said: str) -> None:
    folder = shutil.copytree(model, tmp_path / "copy")
    damage(folder)
    with pytest.raises(ModelError, match=said):
        Engine(folder)
