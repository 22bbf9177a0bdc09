"""The service as it is run: `bentoml serve`, real requests, and the picture that comes back."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest

from derain.engine import Engine
from derain.image import FORMATS, JPEG, PNG, ImageFormat, decode, encode
from tests.conftest import ROOT, free_port, noise, scene, wait_until_ready, write_model
from tests.derain.test_image import mean_difference, png

pytestmark = pytest.mark.slow

MAX_BYTES = 1_000_000
MAX_PIXELS = 1_000_000
START_S = END_S = 60

PICTURE = noise(97, 130)
RAINY = encode(PICTURE, PNG)


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    def said(self) -> str:
        return self.log.read_text()


@contextmanager
def started(model: Path, folder: Path, **settings: object) -> Iterator[Server]:
    """A server of our own, perhaps not ready yet; all of its processes end with it."""
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DERAIN_")},
        "BENTOML_HOME": str(folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "DERAIN_MODEL": str(model),
        **{f"DERAIN_{name.upper()}": str(value) for name, value in settings.items()},
    }
    command = [sys.executable, "-m", "bentoml", "serve", "serving.service:DerainService"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Server(process, port, folder / "log")
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the session that was started above
            process.wait()


@contextmanager
def serving(model: Path, folder: Path, **settings: object) -> Iterator[Server]:
    """A server of our own that is ready."""
    with started(model, folder, **settings) as server:
        wait_until_ready(f"http://127.0.0.1:{server.port}", server.process, server.log, START_S)
        yield server


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    limits = {"max_bytes": MAX_BYTES, "max_pixels": MAX_PIXELS, "tile_pixels": 256 * 256}
    with serving(model, folder, **limits) as server:
        yield server
        # None of these tests, the rude ones included, may have met an error of ours.
        assert "Traceback" not in server.said()
        assert "[ERROR]" not in server.said()


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def derained(model: Path) -> np.ndarray:
    """What the engine makes of PICTURE, without a service around it."""
    engine = Engine(model)
    try:
        return engine.derain(PICTURE)
    finally:
        engine.close()


def assert_problem(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    detail = problem["detail"]
    assert isinstance(detail, str)
    return detail


def test_a_picture_in_the_body(client: httpx.Client, derained: np.ndarray) -> None:
    response = client.post("/v1/derain", content=RAINY)
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-derain-model"] == "tiny"
    stages = r"queue;dur=[\d.]+, decode;dur=[\d.]+, infer;dur=[\d.]+, encode;dur=[\d.]+"
    assert re.fullmatch(stages, response.headers["server-timing"])
    assert np.array_equal(decode(response.content)[0], derained)


@pytest.mark.parametrize("field", ["image", "anything"])
def test_a_picture_in_a_form(client: httpx.Client, derained: np.ndarray, field: str) -> None:
    file = {field: ("rainy.txt", RAINY, "text/plain")}
    response = client.post("/v1/derain", files=file, data={"note": "seaside"})
    assert response.status_code == 200
    assert np.array_equal(decode(response.content)[0], derained)


@pytest.mark.parametrize(
    "content_type", ["image/png", "image/jpeg", "application/json", "text/plain", "rubbish"]
)
def test_the_bytes_count_not_the_content_type(client: httpx.Client, content_type: str) -> None:
    response = client.post("/v1/derain", content=RAINY, headers={"content-type": content_type})
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")


@pytest.mark.parametrize("answered", FORMATS, ids=lambda known: known.name)
@pytest.mark.parametrize("sent", FORMATS, ids=lambda known: known.name)
def test_every_format_into_every_other(
    client: httpx.Client, engine: Engine, sent: ImageFormat, answered: ImageFormat
) -> None:
    data = encode(scene(40, 60), sent)
    response = client.post("/v1/derain", content=data, headers={"accept": answered.media_type})
    assert (response.status_code, response.headers["content-type"]) == (200, answered.media_type)
    picture, found = decode(response.content)
    assert found == answered
    assert mean_difference(picture, engine.derain(decode(data)[0])) < 2


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_the_probes(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 200


def test_the_metrics(client: httpx.Client) -> None:
    client.post("/v1/derain", content=RAINY)
    client.post("/v1/derain", content=b"rain")
    metrics = client.get("/metrics").text
    for line in (
        r'derain_model_info\{model="tiny",provider="cpu",sha256="\w{64}"\} 1\.0',
        r'derain_stage_seconds_count\{stage="infer"\} [1-9].*',
        r'derain_rejected_total\{reason="UnsupportedFormatError"\} [1-9].*',
        r"derain_in_work 0\.0",
        r"derain_waiting 0\.0",
    ):
        assert re.search(f"^{line}$", metrics, re.MULTILINE), line


def test_the_pages(client: httpx.Client) -> None:
    for path in ("/", "/docs"):
        page = client.get(path)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        # What it loads is here, and nowhere else.
        for address in re.findall(r'(?:src|href|url)(?:=|: )"([^"#]+)"', page.text):
            if not address.startswith("data:"):
                assert client.get(f"/{address.removeprefix('/')}").status_code == 200, address
        assert "http://" not in page.text.replace("http://www.w3.org", "")
    assert decode(client.get("/example.jpg").content)[1] == JPEG


def test_the_description_is_of_this_service(client: httpx.Client) -> None:
    description = client.get("/openapi.json").json()
    assert description["openapi"].startswith("3.")
    assert description == client.get("/docs.json").json()
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            status = client.request(method, path).status_code
            assert str(status) in operation["responses"], f"{method} {path}"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/nothing", 404),
        ("GET", "/v1/derain", 405),
        ("DELETE", "/v1/derain", 405),
        ("POST", "/", 405),
        ("POST", "/livez", 405),
    ],
)
def test_nothing_there(client: httpx.Client, method: str, path: str, status: int) -> None:
    response = client.request(method, path)
    assert assert_problem(response, status).endswith("/docs describes what there is.")
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "the body is empty"),
        (RAINY[: len(RAINY) // 2], 400, "damaged or cut short"),
        (encode(scene(300, 300), JPEG)[:3000], 400, "damaged or cut short"),
        (png(30, 20, claimed_length=0x7FFF_FFFF), 400, "picture is"),
        (b"rain", 415, "not a picture in a known format"),
        (b"DDS " + (124).to_bytes(4, "little") + bytes(120), 415, "not a picture in a known format"),
        (bytes(MAX_BYTES + 1), 413, "at most 1,000,000 bytes"),
        (png(20_000, 20_000), 413, "at most 1,000,000 are allowed"),
        (png(1001, 1000), 413, "1001 x 1000 is 1,001,000 pixels: at most 1,000,000 are allowed"),
    ],
    ids=["empty", "png", "jpeg", "chunk", "text", "dds", "bytes", "bomb", "pixels"],
)
def test_what_is_no_picture_is_refused_in_words(
    client: httpx.Client, body: bytes, status: int, said: str
) -> None:
    assert said in assert_problem(client.post("/v1/derain", content=body), status)
    assert client.post("/v1/derain", content=RAINY).status_code == 200


def test_an_endless_body_is_refused(client: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(200):
            yield bytes(MAX_BYTES // 100)

    assert "at most 1,000,000 bytes" in assert_problem(client.post("/v1/derain", content=chunks()), 413)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [("boundary=another", "cannot be read"), ("boundary==-=; charset=undefined", "cannot be read")],
)
def test_a_broken_form(client: httpx.Client, parameters: str, said: str) -> None:
    headers = {"content-type": f"multipart/form-data; {parameters}"}
    form = b'--=-=\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\nrain\r\n--=-=--\r\n'
    assert said in assert_problem(client.post("/v1/derain", content=form, headers=headers), 400)


@pytest.mark.parametrize("accept", ["text/html", "image/png;q=0", "image/png;q=high"])
def test_nothing_acceptable(client: httpx.Client, accept: str) -> None:
    response = client.post("/v1/derain", content=RAINY, headers={"accept": accept})
    assert repr(accept)[1:-1] in assert_problem(response, 406)


def test_pictures_sent_at_once_come_back_to_their_senders(client: httpx.Client, engine: Engine) -> None:
    pictures = [noise(50 + number, 80, number) for number in range(12)]
    with ThreadPoolExecutor(6) as callers:
        answers = callers.map(lambda sent: client.post("/v1/derain", content=encode(sent, PNG)), pictures)
        for picture, response in zip(pictures, answers, strict=True):
            levels = decode(response.content)[0].astype(int) - engine.derain(picture)
            assert np.abs(levels).max() <= 1


def test_bentoml_s_own_client(server: Server, derained: np.ndarray) -> None:
    code = (
        "import bentoml, sys\n"
        "with bentoml.SyncHTTPClient(sys.argv[1]) as client:\n"
        "    sys.stdout.buffer.write(client.derain(sys.stdin.buffer.read()))"
    )
    # In a process of its own: it does what Python warns of.
    run = subprocess.run(
        [sys.executable, "-c", code, f"http://127.0.0.1:{server.port}"],
        input=RAINY,
        stdout=subprocess.PIPE,
        check=True,
    )
    assert np.array_equal(decode(run.stdout)[0], derained)


def test_a_full_queue(tmp_path: Path) -> None:
    model = write_model(tmp_path / "slow", channels=64)
    picture = encode(scene(1500, 1500), JPEG)
    with serving(model, tmp_path, parallel=1, queue=0, threads=1) as server, server.client() as client:
        with ThreadPoolExecutor(6) as callers:
            answers = list(callers.map(lambda _: client.post("/v1/derain", content=picture), range(6)))
        assert {answer.status_code for answer in answers} == {200, 429}
        for answer in answers:
            if answer.status_code == 429:
                assert "try again" in assert_problem(answer, 429)
                assert int(answer.headers["retry-after"]) > 0
        assert client.post("/v1/derain", content=RAINY).status_code == 200
        assert "Traceback" not in server.said()


def test_a_deadline(tmp_path: Path) -> None:
    model = write_model(tmp_path / "slow", channels=64)
    with serving(model, tmp_path, timeout_s=0.2, threads=1) as server, server.client() as client:
        response = client.post("/v1/derain", content=encode(scene(1500, 1500), JPEG))
        assert "not done within 0.2 s" in assert_problem(response, 504)
        assert "Traceback" not in server.said()


def test_a_server_ends_when_told_to(model: Path, tmp_path: Path) -> None:
    with serving(model, tmp_path) as server:
        # A caller that hangs up in the middle leaves nothing behind that would have to be waited for.
        with socket.create_connection(("127.0.0.1", server.port)) as caller:
            caller.sendall(b"POST /v1/derain HTTP/1.1\r\nHost: rain\r\nContent-Length: 1000\r\n\r\nhalf")
        with server.client() as client:
            assert client.post("/v1/derain", content=RAINY).status_code == 200
        server.process.terminate()
        server.process.wait(END_S / 2)
        with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.1", server.port)):
            pass


def test_a_model_that_was_tampered_with_is_not_served(model: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["file"]["sha256"] = "0" * 64
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with started(copy, tmp_path) as server:
        assert server.process.wait(START_S) != 0
        assert f"{copy}/model.onnx is not the file its manifest describes" in server.said()
