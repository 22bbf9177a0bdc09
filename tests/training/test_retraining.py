"""The whole loop with real trainings: a candidate that slacks is refused, a better one served, and back."""

from pathlib import Path

import pytest

from derain.manifest import load_manifest
from derain.models import main as models_command
from derain.registry import Registry
from training.gate import PASSED, REFUSED
from training.gate import main as gate
from training.run import main as train

pytestmark = pytest.mark.slow

# A training that has hardly begun, one that leaves pictures as they are, and one that has gone on.
_STEPS = {"current": 8, "slacking": 1, "better": 200}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loop")
    places = ["--runs", str(folder / "runs"), "--models", str(folder / "models")]
    for name, steps in _STEPS.items():
        assert train(["smoke", "--steps", str(steps), "--name", name, *places]) == 0
    return folder / "models"


def test_retrain_gate_promote_and_back(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registry = Registry(models)
    command = ["--models", str(models)]
    hashes = {name: load_manifest(models / name).file.sha256 for name in _STEPS}
    assert models_command([*command, "promote", "current", "--reason", "the first"]) == 0

    report = models.parent / "gate.json"
    # Times are another test's: here all three networks are of one shape.
    options = ["--report", str(report), "--promote", "--slower", "1000"]
    assert gate([str(models / "slacking"), *options]) == REFUSED
    said = capsys.readouterr().out
    assert "- drawn rain: the share of rain removed is " in said
    assert registry.current().sha256 == hashes["current"]

    assert gate([str(models / "better"), *options]) == PASSED
    assert registry.current().sha256 == hashes["better"]

    assert models_command([*command, "back"]) == 0
    assert registry.current().sha256 == hashes["current"]
    assert [choice.model for choice in registry.history()] == ["current", "better", "current"]
