"""Two workers of one service: reloads reach both, and one that dies is replaced."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from derain.models.registry import Registry
from serving.settings import Settings
from tests.conftest import free_port, write_model
from tests.serving.faults import truncate
from tests.serving.server import OPERATOR, Server, operator_key, serving, traffic, until
from tests.serving.system.conftest import RAINY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for workers in /proc"),
]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    models = tmp_path_factory.mktemp("workers") / "models"
    for channels, name in enumerate(("old", "new", "newest"), start=4):
        write_model(models / name, channels)
    registry = Registry(models)
    registry.promote("old", "the first one")
    return registry


@pytest.fixture(scope="module")
def server(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Its traces go to a collector that is not there, which keeps nobody waiting."""
    folder = tmp_path_factory.mktemp("server")
    settings = {
        "models": registry.folder("old").parent,
        "keys": operator_key(folder),
        "trace_endpoint": f"http://127.0.0.1:{free_port()}/v1/traces",
    }
    with serving(None, folder, workers=2, **settings) as server:
        yield server
    assert server.process.returncode == 0
    assert "Traceback" not in server.said()


def children(process: subprocess.Popen[bytes]) -> list[int]:
    """Processes that serve, by their command line."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
                command = (folder / "cmdline").read_text()
            except (OSError, ProcessLookupError):
                continue
            if parent == process.pid and "--worker-id" in command:
                found.append(int(folder.name))
    return sorted(found)


def has_said(server: Server, line: str, times: int) -> Callable[[], bool]:
    return lambda: server.said().count(line) == times


def test_sighup_reloads_all_workers_without_losing_a_request(server: Server, registry: Registry) -> None:
    until(has_said(server, "model old ", 2))
    workers = children(server.process)
    with traffic(server, RAINY) as answers:
        registry.promote("new", "better")
        server.process.send_signal(signal.SIGHUP)
        until(has_said(server, "model new ", 2))
        registry.promote("old", "better still")
        os.kill(workers[0], signal.SIGHUP)
        until(has_said(server, "model old ", 4))

        registry.promote("new", "as it was")
        truncate(registry.folder("new"))
        server.process.send_signal(signal.SIGHUP)
        until(has_said(server, "reload refused, the old model stays: ", 2))
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.headers["x-derain-model"] for answer in answers} == {"old", "new"}
    assert answers[-1].headers["x-derain-model"] == "old"
    assert children(server.process) == workers
    assert "is not the file its manifest describes" in server.said()


def test_a_worker_that_is_killed_comes_back(server: Server, registry: Registry) -> None:
    registry.promote("old", "which can be served")
    until(lambda: len(children(server.process)) == 2)
    killed, other = children(server.process)
    os.kill(killed, signal.SIGKILL)
    # The other one serves on. What was on its way to the first one may be cut off.
    served = 0
    while served < 5:
        try:
            assert answered_by(server)
            served += 1
        except httpx.TransportError:
            continue
    until(lambda: len(children(server.process)) == 2 and killed not in children(server.process))
    assert other in children(server.process)
    until(lambda: limits_of_queues(server) == 2 * Settings().queue)  # without that of the one that is gone

    # A reload reaches both, the new one as well. A connection each, so that each worker gets some.
    registry.promote("newest", "better")
    with server.client() as client:
        client.post("/admin/reload", headers=OPERATOR).raise_for_status()
    until(lambda: {answered_by(server) for _ in range(12)} == {"newest"})


def limits_of_queues(server: Server) -> float:
    with server.client() as client:
        metrics = client.get("/metrics").text
    (value,) = re.findall(r"^derain_queue_limit_images (.+)$", metrics, re.MULTILINE)
    return float(value)


def answered_by(server: Server) -> str:
    with server.client() as client:
        answer = client.post("/v1/derain", content=RAINY, headers=OPERATOR).raise_for_status()
    return answer.headers["x-derain-model"]
