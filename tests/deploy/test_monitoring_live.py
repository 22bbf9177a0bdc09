"""Debian's Prometheus and Alertmanager beside the real service: queries have answers, an alert arrives."""

import hashlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import Empty

import httpx
import pytest
import yaml

from tests.conftest import ROOT, free_port, wait_until_ready
from tests.deploy.conftest import debian_program
from tests.deploy.test_monitoring import MONITORING, dashboard_expressions, scaler_expression
from tests.receiver import receiving
from tests.serving.server import Server, started

pytestmark = pytest.mark.slow

_LOAD_S = 60
_KEY = "an operator's key"


@contextmanager
def running(command: list[str], url: str, log: Path) -> Iterator[None]:
    """One of Prometheus's programs, ready."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        _until(lambda: _answers(f"{url}/-/ready"), f"{command[0]} is ready", 60)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.TransportError:
        return False


def _until(holds: Callable[[], bool], what: str, longest_s: float) -> None:
    deadline = time.monotonic() + longest_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {longest_s} s: {what}"
        time.sleep(0.2)


def configure(folder: Path, scraped: str, alertmanager: str, receiver: str) -> None:
    """The repository's own configuration, but faster and with the addresses of this test."""
    prometheus = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())
    prometheus["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    prometheus["scrape_configs"][0]["static_configs"] = [{"targets": [scraped]}]
    prometheus["alerting"]["alertmanagers"][0]["static_configs"] = [{"targets": [alertmanager]}]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(prometheus))

    rules = yaml.safe_load((MONITORING / "rules.yaml").read_text())
    for rule in rules["groups"][1]["rules"]:
        if rule["alert"] == "DerainDown":
            rule["for"] = "2s"
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))

    alerts = yaml.safe_load((MONITORING / "alertmanager.yaml").read_text())
    alerts["route"]["group_wait"] = "1s"
    for named in alerts["receivers"]:
        named["webhook_configs"] = [{"url": f"{receiver}/{named['name']}"}]
    (folder / "alertmanager.yaml").write_text(yaml.safe_dump(alerts))


def load(client: httpx.Client, until: float) -> None:
    """Pictures, and now and then what is none."""
    rainy = (ROOT / "examples" / "rain.jpg").read_bytes()
    while time.monotonic() < until:
        client.post("/v1/derain", content=rainy).raise_for_status()
        assert client.post("/v1/derain", content=b"no picture").is_client_error


def client_of(server: Server) -> httpx.Client:
    headers = {"authorization": f"Bearer {_KEY}"}
    return httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=60, headers=headers)


def is_healthy(private_port: int) -> bool:
    """As the container asks."""
    environment = os.environ | {"DERAIN_PRIVATE_PORT": str(private_port)}
    command = [sys.executable, "-m", "serving.healthcheck"]
    return subprocess.run(command, cwd=ROOT, env=environment).returncode == 0


def has_series(prometheus: str, expression: str) -> bool:
    """Whether it has an answer now that is a number."""
    query = expression.replace("$__rate_interval", "30s").replace("$instance", ".*")
    answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": query}, timeout=30).json()
    assert answer["status"] == "success", answer
    return any(math.isfinite(float(series["value"][1])) for series in answer["data"]["result"])


def test_every_query_has_an_answer_and_an_alert_arrives(tmp_path: Path) -> None:
    programs = [debian_program(name) for name in ("prometheus", "prometheus-alertmanager")]
    keys = tmp_path / "keys"
    keys.write_text(f"operator {hashlib.sha256(_KEY.encode()).hexdigest()} admin\n")
    prometheus_port, alertmanager_port, private_port = free_port(), free_port(), free_port()
    prometheus = f"http://127.0.0.1:{prometheus_port}"
    alertmanager = f"127.0.0.1:{alertmanager_port}"
    private = f"http://127.0.0.1:{private_port}"

    with ExitStack() as monitoring:
        receiver, came = monitoring.enter_context(receiving())
        configure(tmp_path, f"127.0.0.1:{private_port}", alertmanager, receiver)
        monitoring.enter_context(
            running(
                [
                    programs[1],
                    f"--config.file={tmp_path / 'alertmanager.yaml'}",
                    f"--storage.path={tmp_path / 'alertmanager'}",
                    f"--web.listen-address={alertmanager}",
                    "--cluster.listen-address=",
                ],
                f"http://{alertmanager}",
                tmp_path / "alertmanager.log",
            )
        )
        with started(None, tmp_path, keys=keys, private_port=private_port, threads=1, queue=8) as server:
            wait_until_ready(private, server.process, server.log, longest_s=120)
            assert is_healthy(private_port)
            monitoring.enter_context(
                running(
                    [
                        programs[0],
                        f"--config.file={tmp_path / 'prometheus.yaml'}",
                        f"--storage.tsdb.path={tmp_path / 'prometheus'}",
                        f"--web.listen-address=127.0.0.1:{prometheus_port}",
                    ],
                    prometheus,
                    tmp_path / "prometheus.log",
                )
            )
            with client_of(server) as client:
                reload = httpx.post(f"{private}/admin/reload", headers=client.headers, timeout=60)
                assert reload.is_success, reload.text
                load(client, time.monotonic() + _LOAD_S)
            expressions = [*dashboard_expressions(), scaler_expression().replace(',namespace="derain"', "")]
            assert [each for each in expressions if not has_series(prometheus, each)] == []
            assert came.empty(), "an alert, though all is well"

        # The service is gone.
        assert not is_healthy(private_port)
        try:
            path, body = came.get(timeout=60)
        except Empty:
            pytest.fail((tmp_path / "alertmanager.log").read_text())
        (alert,) = json.loads(body)["alerts"]
        assert (path, alert["status"], alert["labels"]["alertname"]) == ("/page", "firing", "DerainDown")
        assert alert["annotations"]["runbook"] == "docs/operations.md#deraindown"
