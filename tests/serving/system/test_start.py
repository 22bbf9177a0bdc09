"""A service that cannot serve ends at once, in words; test_operation.py has those for each fault."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import write_model
from tests.serving.faults import tamper
from tests.serving.server import START_S, started

pytestmark = pytest.mark.slow


def test_what_cannot_be_served_is_not_started_with(model: Path, tmp_path: Path) -> None:
    tampered = write_model(tmp_path / "models" / "tampered")
    tamper(tampered)
    starts: list[tuple[Path, dict[str, object], str]] = [
        (model, {"queue": "many"}, "derain: DERAIN_QUEUE: Input should be a valid integer"),
        (model, {"keys": "/nowhere/keys"}, "derain: DERAIN_KEYS: [Errno 2]"),
        (tampered, {}, f"derain: {tampered}/model.onnx is not the file its manifest describes"),
    ]
    with ExitStack() as at_once:
        servers = []
        for number, (served, settings, _) in enumerate(starts):
            folder = tmp_path / str(number)
            folder.mkdir()
            servers.append(at_once.enter_context(started(served, folder, **settings)))
        for server, (_, _, said) in zip(servers, starts, strict=True):
            assert server.process.wait(START_S) != 0
            assert said in server.said()
            assert "Traceback" not in server.said()
