"""What is promoted is what runs: by the command, the engine, the library and contact sheets."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from derain import Derainer, derain
from derain.cli import main as derain_command
from derain.images.formats import PNG
from derain.images.plain import encode, read_image
from derain.inference.engine import Engine
from derain.models.__main__ import main as models_command
from derain.models.registry import Registry
from derain.pointer import promoted_model
from tests.conftest import ROOT, noise, write_model
from training.sheet import main as sheet_command

RAINY = noise(32, 48)


@pytest.fixture
def promoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model that was promoted, of two that come along."""
    registry = Registry(tmp_path / "models")
    for channels, name in enumerate(("base", "other"), start=2):
        write_model(registry.path / name, channels)
        registry.promote(name, "for a test")
    monkeypatch.setattr(promoted_model, "__defaults__", (registry.path,))
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "rain.png").write_bytes(encode(RAINY, PNG))
    return registry.folder("other")


def test_the_engine_runs_it(promoted: Path) -> None:
    with_default, with_it = Engine(threads=1), Engine(promoted, threads=1)
    assert np.array_equal(with_default.derain(RAINY), with_it.derain(RAINY))


def test_the_command_runs_it(promoted: Path, tmp_path: Path) -> None:
    assert derain_command([str(tmp_path / "photographs"), "-o", str(tmp_path / "out"), "-q"]) == 0
    got = read_image(tmp_path / "out" / "rain.png")
    assert np.array_equal(got, Engine(promoted, threads=1).derain(RAINY))


def test_the_library_runs_it(promoted: Path) -> None:
    expected = Engine(promoted, threads=1).derain(RAINY)
    with Derainer(threads=1) as derainer:
        assert np.array_equal(derainer.derain(RAINY), expected)


def test_the_library_s_function_runs_it(promoted: Path) -> None:
    from derain import library

    library._shared.cache_clear()
    try:
        assert np.array_equal(derain(RAINY), Engine(promoted, threads=1).derain(RAINY))
    finally:
        library._shared.cache_clear()


def test_contact_sheets_show_it(promoted: Path, tmp_path: Path) -> None:
    sheets = [tmp_path / "default.png", tmp_path / "named.png"]
    for sheet, options in zip(sheets, ([], ["-m", str(promoted)]), strict=True):
        assert sheet_command([str(tmp_path / "photographs"), "-o", str(sheet), *options]) == 0
    default, named = map(read_image, sheets)
    assert np.array_equal(default, named)


def test_another_model_in_its_place_is_not_taken(promoted: Path) -> None:
    shutil.rmtree(promoted)
    write_model(promoted, channels=5)
    with pytest.raises(Exception, match="is another model than the one that was promoted"):
        Engine()


def test_a_fresh_clone_can_be_rolled_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By what `make rollback` runs."""
    assert "-m derain.models rollback" in (ROOT / "Makefile").read_text()
    models = Path(shutil.copytree(ROOT / "models", tmp_path / "models"))
    before = Registry(models).rollback_target()
    assert before is not None
    assert models_command(["--models", str(models), "rollback"]) == 0
    assert capsys.readouterr().out.startswith(f"served again: {before}")
    assert Registry(models).current().model == before.model
    assert promoted_model(models) == models / before.model


def test_the_list_says_what_a_rollback_leads_to(promoted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = ["--models", str(promoted.parent)]
    assert models_command([*models, "list"]) == 0
    assert "a rollback serves base " in capsys.readouterr().out
    assert models_command([*models, "rollback"]) == 0
    assert models_command([*models, "list"]) == 0
    assert "nothing was served before: no rollback" in capsys.readouterr().out
