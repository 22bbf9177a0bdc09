"""The whole loop with real trainings: a candidate that slacks is refused, a better one served, and back."""

import time
from pathlib import Path

import httpx
import pytest

from derain.images.formats import PNG
from derain.images.plain import encode
from derain.manifest import load_manifest
from derain.models.__main__ import main as models_command
from derain.models.registry import Registry
from tests.conftest import noise
from tests.serving.server import OPERATOR, operator_key, serving, traffic
from training.commands.gate import PASSED, REFUSED
from training.commands.gate import main as gate
from training.evaluation.held_out import HeldOut
from training.run import main as train

pytestmark = pytest.mark.slow

RAINY = encode(noise(64, 80), PNG)

# A training that has hardly begun, one that leaves images as they are, and one that has gone on.
_STEPS = {"current": 8, "slacking": 1, "better": 150}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, few: HeldOut) -> Path:
    folder = tmp_path_factory.mktemp("loop")
    places = ["--runs", str(folder / "runs"), "--models", str(folder / "models")]
    for name, steps in _STEPS.items():
        assert train(["smoke", "--steps", str(steps), "--name", name, *places], few) == 0
    return folder / "models"


def wait_for_an_answer_of(model: str, answers: list[httpx.Response]) -> None:
    deadline = time.monotonic() + 60
    while all(answer.headers["x-derain-model"] != model for answer in answers):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_retrain_gate_promote_and_back_under_load(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a load with pauses; test_operation.py and test_workers.py have one without."""
    # Times are another test's: all three networks are of one shape.
    monkeypatch.setattr("training.evaluation.gate.comparison.TURNS", 9)
    registry = Registry(models)
    command = ["--models", str(models)]
    hashes = {name: load_manifest(models / name).sha256 for name in _STEPS}
    assert models_command([*command, "promote", "current", "--reason", "the first"]) == 0

    with serving(None, tmp_path, models=models, keys=operator_key(tmp_path)) as server:
        with traffic(server, RAINY, callers=1, pause_s=0.05) as answers, server.client() as client:
            client.headers.update(OPERATOR)

            def served() -> str:
                """The hash of what is served after a reload, by three witnesses."""
                told = client.post("/admin/reload").raise_for_status().json()
                name = client.post("/v1/derain", content=RAINY).headers["x-derain-model"]
                assert client.get(f"/v1/models/{name}").json()["sha256"] == told["sha256"]
                metrics = client.get("/metrics").text
                assert f'sha256="{told["sha256"]}"}} 1.0' in metrics
                return str(told["sha256"])

            report = models.parent / "gate.json"
            options = ["--report", str(report), "--promote", "--slower", "1000"]
            assert gate([str(models / "slacking"), *options]) == REFUSED
            said = capsys.readouterr().out
            assert "- drawn rain: the share of rain removed is " in said
            assert registry.current().sha256 == served() == hashes["current"]

            assert gate([str(models / "better"), *options]) == PASSED
            assert registry.current().sha256 == served() == hashes["better"]
            wait_for_an_answer_of("better", answers)

            assert models_command([*command, "rollback"]) == 0
            assert registry.current().sha256 == served() == hashes["current"]
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.headers["x-derain-model"] for answer in answers} == {"current", "better"}
    assert [choice.model for choice in registry.history()] == ["current", "better", "current"]
