"""A service that cannot serve ends at once, in words; test_operation.py has those for each fault."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import ROOT, write_model
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


def test_traces_that_nothing_can_send_are_not_started_with(model: Path) -> None:
    """As where the extra `trace` is not installed."""
    program = f"""
import sys
sys.modules["opentelemetry.exporter.otlp.proto.http.trace_exporter"] = None
from serving.service import create_service
from serving.settings import Settings
create_service(Settings(model={str(model)!r}, trace_endpoint="http://127.0.0.1:1/v1/traces")).inner.check()
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.endswith("installed: pip install 'derain[trace]'\n")
