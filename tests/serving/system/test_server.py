"""What only a process can show: BentoML around the app, connections, other people's clients."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from derain.arrays import Image
from derain.images.plain import decode
from tests.conftest import ROOT
from tests.serving.server import Server, assert_problem
from tests.serving.system.conftest import RAINY

pytestmark = pytest.mark.slow


def test_bentoml_s_own_client(server: Server, derained: Image, tmp_path: Path) -> None:
    """As docs/api.md calls it: it takes bytes, and a path is nothing that it could send."""
    (call,) = re.findall(r"`(bentoml\.SyncHTTPClient\(.+\))`", (ROOT / "docs" / "api.md").read_text())
    (tmp_path / "rain.png").write_bytes(RAINY)
    call = call.replace("localhost:3000", f"127.0.0.1:{server.port}").replace("examples/rain.jpg", "rain.png")
    code = f"import bentoml, sys; from pathlib import Path; sys.stdout.buffer.write({call})"
    # In a process of its own: it does what Python warns of.
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, check=True)
    assert np.array_equal(decode(run.stdout)[0], derained)


IN_PYTHON = """
import asyncio, sys
from pathlib import Path
from serving.service import DerainService

async def main():
    ((app, _, _),) = DerainService.mount_apps
    async with app.router.lifespan_context(app):
        return await DerainService().derain(Path(sys.argv[1]).read_bytes())

sys.stdout.buffer.write(asyncio.run(main()))
"""


def test_bentoml_s_method_is_there_for_python_too(model: Path, derained: Image, tmp_path: Path) -> None:
    """What clients are told of can be called without HTTP."""
    (tmp_path / "rainy.png").write_bytes(RAINY)
    environment = os.environ | {"DERAIN_MODEL": str(model), "BENTOML_HOME": str(tmp_path / "bentoml")}
    command = [sys.executable, "-c", IN_PYTHON, str(tmp_path / "rainy.png")]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True)
    assert run.returncode == 0, run.stderr
    assert np.array_equal(decode(run.stdout)[0], derained)


AT_IMPORT = """
import logging, serving.service, uvicorn.config

print(logging.getLogger("derain").handlers, uvicorn.config.HTTP_PROTOCOLS["auto"])
serving.service.DerainService
"""


def test_importing_the_service_does_nothing(tmp_path: Path) -> None:
    """It is made when it is asked for, and then says what is wrong with its settings."""
    environment = os.environ | {"DERAIN_QUEUE": "many", "BENTOML_HOME": str(tmp_path)}
    command = [sys.executable, "-c", AT_IMPORT]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.stdout == "[] uvicorn.protocols.http.auto:AutoHTTPProtocol\n"
    assert run.returncode == 1
    assert "derain: DERAIN_QUEUE: Input should be a valid integer" in run.stderr
    assert "Traceback" not in run.stderr


def test_what_is_no_route_of_ours_is_bentoml_s(server: Server) -> None:
    with server.client() as client:
        schema = client.get("/schema.json").json()
        assert [route["route"] for route in schema["routes"]] == ["/v1/derain"]
        for address in re.findall(r'"(static_content/[^"]+)"', client.get("/docs").text):
            assert client.get(f"/{address}").status_code == 200, address
        for path in ("/nothing", "/static_content/nothing.js"):
            answer = client.get(path)
            assert_problem(answer, 404)
            assert answer.headers["x-request-id"]


JAVA = """
import java.net.URI;
import java.net.http.*;
import java.nio.file.*;

class Post {
    public static void main(String[] arguments) throws Exception {
        var client = HttpClient.newHttpClient();  // over plain http it asks for h2c
        for (int turn = 0; turn < 2; turn++) {
            var request = HttpRequest.newBuilder(URI.create(arguments[0]))
                .POST(HttpRequest.BodyPublishers.ofFile(Path.of(arguments[1]))).build();
            var answer = client.send(request, HttpResponse.BodyHandlers.ofByteArray());
            if (answer.statusCode() != 200) throw new Exception(new String(answer.body()));
            Files.write(Path.of(arguments[2]), answer.body());
        }
    }
}
"""


@pytest.mark.skipif(shutil.which("java") is None, reason="there is no Java here")
def test_java_s_own_client(server: Server, derained: Image, tmp_path: Path) -> None:
    (tmp_path / "Post.java").write_text(JAVA)
    (tmp_path / "rainy.png").write_bytes(RAINY)
    url = f"http://127.0.0.1:{server.port}/v1/derain"
    command = ["java", "Post.java", url, "rainy.png", "clean.png"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert np.array_equal(decode((tmp_path / "clean.png").read_bytes())[0], derained)


def test_a_caller_who_sends_no_more(server: Server, derained: Image) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as caller:
        head = f"POST /v1/derain HTTP/1.1\r\nHost: rain\r\nContent-Length: {len(RAINY)}\r\n\r\n"
        caller.sendall(head.encode() + RAINY)
        caller.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: caller.recv(1 << 16), b""))
    head, _, image = answer.decode("latin-1").partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert np.array_equal(decode(image.encode("latin-1"))[0], derained)


def test_connections_are_ours(server: Server) -> None:
    """Uvicorn's own, which BentoML asks for, would word this itself and close idle ones after five seconds;
    what ours do is in api/test_connections.py."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as caller:
        caller.sendall(b"rain\r\n\r\n")
        answer = b"".join(iter(lambda: caller.recv(1 << 16), b""))
    assert b'"type": "/errors#malformed-request"' in answer


def test_no_address_is_ever_fetched(server: Server) -> None:
    """BentoML would, of a body or a field that is one."""
    with socket.socket() as listener, server.client() as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.5)
        plain = f"http://127.0.0.1:{listener.getsockname()[1]}/rain.png".encode()
        for address in (plain, b'"' + plain + b'"'):
            in_json = b'{"image": ' + address + b"}"
            requests: list[dict[str, Any]] = [
                {"content": address},
                {"content": address, "headers": {"content-type": "application/json"}},
                {"content": in_json, "headers": {"content-type": "application/json"}},
                {"data": {"image": address.decode()}, "files": {"other": ("", b"", "text/plain")}},
                {"files": {"image": ("a.url", address, "text/uri-list")}},
            ]
            for request in requests:
                assert client.post("/v1/derain", **request).status_code in (400, 415)
        with pytest.raises(TimeoutError):
            listener.accept()


def logged(server: Server, name: str) -> dict[str, Any]:
    """The line of a request, which is written when the answer is out."""
    deadline = time.monotonic() + 30
    while True:
        lines = [json.loads(line) for line in server.said().split("\n")[:-1] if line.startswith("{")]
        found = [line for line in lines if line.get("id") == name]
        if found:
            assert len(found) == 1
            return dict(found[0])
        assert time.monotonic() < deadline, server.said()
        time.sleep(0.05)


def test_a_request_has_a_line_in_the_log(server: Server) -> None:
    """In JSON, on standard error, with the trace of its caller."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"x-request-id": "a-line", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    with server.client() as client:
        client.post("/v1/derain", content=RAINY, headers=headers).raise_for_status()
    line = logged(server, "a-line")
    assert (line["level"], line["route"], line["model"], line["trace_id"]) == (
        "INFO",
        "/v1/derain",
        "tiny",
        trace,
    )


def test_metrics_are_of_all_workers(server: Server) -> None:
    """By files that they share: in one process there are none."""
    with server.client() as client:
        client.post("/v1/derain", content=RAINY).raise_for_status()
        metrics = client.get("/metrics").text
    assert re.search(r'^derain_pixels_total\{model="tiny"\} [1-9]', metrics, re.MULTILINE)
    assert re.search(
        r'^derain_model_info\{model="tiny",provider="cpu",sha256="\w{64}"\} 1\.0$', metrics, re.MULTILINE
    )
    assert "derain_work_images 0.0" in metrics
