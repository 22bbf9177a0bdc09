"""The service as it is run: `bentoml serve`, real requests, and the picture that comes back."""

import email
import email.policy
import hashlib
import io
import json
import re
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from derain.images.formats import FORMATS, JPEG, PNG, WEBP, ImageFormat
from derain.images.plain import decode, encode
from derain.inference.engine import Engine
from tests.conftest import ROOT, noise, scene, write_model
from tests.derain.images.test_plain import mean_difference, png
from tests.serving.server import END_S, START_S, Server, assert_problem, serving, started

pytestmark = pytest.mark.slow

MAX_BYTES = 1_000_000
MAX_PIXELS = 1_000_000

PICTURE = noise(97, 130)
RAINY = encode(PICTURE, PNG)


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    limits = {"max_bytes": MAX_BYTES, "max_pixels": MAX_PIXELS, "tile_pixels": 256 * 256}
    with serving(model, folder, **limits) as server:
        yield server
        # None of these tests, the rude ones included, may have met an error of ours.
        assert "Traceback" not in server.said()
        assert '"ERROR"' not in server.said()


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


def test_a_picture_in_the_body(client: httpx.Client, derained: np.ndarray) -> None:
    response = client.post("/v1/derain", content=RAINY)
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-derain-model"] == "tiny"
    stages = ", ".join(rf"{stage};dur=[\d.]+" for stage in ("queue", "decode", "infer", "monitor", "encode"))
    assert re.fullmatch(stages, response.headers["server-timing"])
    assert 0 <= float(response.headers["x-derain-residual-rain"]) <= 1
    assert re.fullmatch(r'"[0-9a-f]{32}"', response.headers["etag"])
    assert response.headers["etag"] == client.post("/v1/derain", content=RAINY).headers["etag"]
    assert np.array_equal(decode(response.content)[0], derained)


@pytest.mark.parametrize("field", ["image", "anything"])
def test_a_picture_in_a_form(client: httpx.Client, derained: np.ndarray, field: str) -> None:
    file = {field: ("rainy.txt", RAINY, "text/plain")}
    response = client.post("/v1/derain", files=file)
    assert response.status_code == 200
    assert np.array_equal(decode(response.content)[0], derained)


@pytest.mark.parametrize("path", ["/v1/derain", "/v1/derain/batch"])
def test_fields_beside_the_file(client: httpx.Client, path: str) -> None:
    """What `curl -F image=@rain.png -F strength=0 -F format=jpg` says."""

    def answer(data: dict[str, str], query: str = "") -> tuple[np.ndarray, ImageFormat]:
        response = client.post(path + query, files={"image": ("rain.png", RAINY)}, data=data)
        assert response.status_code == 200, response.text
        if path.endswith("batch"):
            with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
                return decode(archive.read(archive.namelist()[0]))
        return decode(response.content)

    picture, written = answer({"strength": "0", "format": "webp", "lossless": "true"})
    assert np.array_equal(picture, PICTURE)
    assert written == WEBP
    assert answer({"strength": "0", "format": "jpg"}, "?format=PNG")[1] == PNG
    refusals: list[tuple[dict[str, Any], str]] = [
        ({"strenght": "0"}, "the field 'strenght' of the multipart form is neither"),
        ({"strength": "2"}, "the parameter 'strength': input should be less than or equal to 1"),
        ({"quality": ["80", "90"]}, "the parameter 'quality' is there twice"),
    ]
    for data, said in refusals:
        refused = client.post(path, files={"image": ("rain.png", RAINY)}, data=data)
        assert said in assert_problem(refused, 400)


@pytest.mark.parametrize(
    "content_type", ["image/png", "image/jpeg", "application/json", "text/plain", "rubbish"]
)
def test_the_bytes_count_not_the_content_type(client: httpx.Client, content_type: str) -> None:
    response = client.post("/v1/derain", content=RAINY, headers={"content-type": content_type})
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")


WRITTEN = [known for known in FORMATS if known.writable]


@pytest.mark.parametrize("answered", WRITTEN, ids=lambda known: known.name)
@pytest.mark.parametrize("sent", WRITTEN, ids=lambda known: known.name)
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
    for number in range(5):
        assert client.get(f"/tried/{number}").status_code == 404
    metrics = client.get("/metrics").text
    for line in (
        r'derain_model_info\{model="tiny",provider="cpu",sha256="\w{64}"\} 1\.0',
        r'derain_stage_seconds_count\{stage="infer"\} [1-9].*',
        r'derain_rejected_total\{reason="UnsupportedFormatError"\} [1-9].*',
        r"derain_work_pictures 0\.0",
        r"derain_work_pixels 0\.0",
        r"derain_queue_pictures 0\.0",
        r"derain_queue_limit_pictures 32\.0",
        r'derain_http_requests_total\{method="POST",route="/v1/derain",status="415"\} [1-9].*',
        r'derain_http_requests_total\{method="GET",route="other",status="404"\} [1-9].*',
        r'derain_http_request_seconds_count\{route="/v1/derain"\} [1-9].*',
        r'derain_run_tiles_bucket\{le="1\.0"\} [1-9].*',
        r'derain_pixels_total\{model="tiny"\} [1-9].*',
        r'derain_residual_rain_probability_count\{key="none"\} [1-9].*',
        r"derain_received_bytes_total [1-9].*",
        r"derain_sent_bytes_total [1-9].*",
        r"derain_resident_bytes [1-9].*",
    ):
        assert re.search(f"^{line}$", metrics, re.MULTILINE), line
    assert "/tried" not in metrics


def test_the_pages(client: httpx.Client) -> None:
    for path in ("/", "/docs", "/errors"):
        page = client.get(path)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        # What it loads is here, and nowhere else.
        for address in re.findall(r'(?:src|href|url)(?:=|: )"([^"#]+)"', page.text):
            if not address.startswith("data:"):
                assert client.get(f"/{address.removeprefix('/')}").status_code == 200, address
        assert "http://" not in page.text.replace("http://www.w3.org", "")
    assert decode(client.get("/example.jpg").content)[1] == JPEG
    for name in re.findall(r'data-example="([^"]+)"', client.get("/").text):
        assert decode(client.get(f"/examples/{name}").content)[1] == JPEG


def test_the_page_may_load_nothing_but_what_is_here(client: httpx.Client) -> None:
    page = client.get("/")
    policy = dict(rule.split(" ", 1) for rule in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert not re.search(r"<style|style=|<script(?![^>]*src=)| on\w+=", page.text)
    docs = client.get("/docs")
    assert docs.headers["content-security-policy"] == page.headers["content-security-policy"]
    # Whoever has it already is not sent it again.
    for path in ("/", "/page/main.js", "/examples/meadow.jpg"):
        first = client.get(path)
        again = client.get(path, headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_a_type_of_error_leads_to_its_page(client: httpx.Client) -> None:
    page, name = client.post("/v1/derain", content=b"rain").json()["type"].split("#")
    assert f'<h2 id="{name}">' in client.get(page).text


def test_options_and_head_of_each_route(client: httpx.Client) -> None:
    """Without CORS, which is off, OPTIONS says no more than what there is."""
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        known = client.options(path.replace("{name}", "tiny"))
        if not path.startswith("/admin"):  # which asks for an operator's key first
            assert known.status_code == 204, path
            assert {method.upper() for method in operations} < set(known.headers["allow"].split(", "))
        assert not [name for name in known.headers if name.startswith("access-control")]
        head = client.head(path.replace("{name}", "tiny"))
        assert head.content == b""
        assert head.status_code == (200 if "get" in operations else 403 if "/admin" in path else 405), path


def test_the_description_is_of_this_service(client: httpx.Client) -> None:
    description = client.get("/openapi.json").json()
    assert description["openapi"].startswith("3.")
    assert description == client.get("/docs.json").json()
    for body in description["paths"]["/v1/derain"]["post"]["requestBody"]["content"].values():
        for example in body.get("examples", {}).values():
            assert decode(client.get(example["externalValue"]).content)[1] == JPEG
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            status = client.request(method, path.replace("{name}", "tiny")).status_code
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
        (b"rain", 415, "not an image in a known format"),
        (b"DDS " + (124).to_bytes(4, "little") + bytes(120), 415, "not an image in a known format"),
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
    ("parameters", "said"), [("boundary=another", "cannot be read"), ("charset=utf-8", "names no boundary")]
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


def test_bentoml_s_own_client(server: Server, derained: np.ndarray, tmp_path: Path) -> None:
    """As the README calls it: it takes bytes, and a path is nothing that it could send."""
    (call,) = re.findall(r"`(bentoml\.SyncHTTPClient\(.+\))`", (ROOT / "README.md").read_text())
    (tmp_path / "rain.png").write_bytes(RAINY)
    call = call.replace("localhost:3000", f"127.0.0.1:{server.port}").replace("examples/rain.jpg", "rain.png")
    code = f"import bentoml, sys; from pathlib import Path; sys.stdout.buffer.write({call})"
    # In a process of its own: it does what Python warns of.
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, check=True)
    assert np.array_equal(decode(run.stdout)[0], derained)


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
def test_java_s_own_client(server: Server, derained: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "Post.java").write_text(JAVA)
    (tmp_path / "rainy.png").write_bytes(RAINY)
    url = f"http://127.0.0.1:{server.port}/v1/derain"
    command = ["java", "Post.java", url, "rainy.png", "clean.png"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert np.array_equal(decode((tmp_path / "clean.png").read_bytes())[0], derained)


def test_a_caller_who_sends_no_more(server: Server, derained: np.ndarray) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as caller:
        head = f"POST /v1/derain HTTP/1.1\r\nHost: rain\r\nContent-Length: {len(RAINY)}\r\n\r\n"
        caller.sendall(head.encode() + RAINY)
        caller.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: caller.recv(1 << 16), b""))
    head, _, picture = answer.decode("latin-1").partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert np.array_equal(decode(picture.encode("latin-1"))[0], derained)


def test_an_idle_connection_is_kept(server: Server) -> None:
    """For 90 s; uvicorn alone, and BentoML with it, would close it after five."""
    caller = HTTPConnection("127.0.0.1", server.port, timeout=30)
    for idle_s in (0, 6):
        time.sleep(idle_s)
        caller.request("GET", "/livez")
        answer = caller.getresponse()
        assert (answer.status, answer.read()) == (200, b"\n")
    caller.close()


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


@pytest.mark.parametrize(
    ("sent", "given"), [("camera-7:0042", True), ("", False), ("two words", False), ("x" * 129, False)]
)
def test_a_request_keeps_its_name(client: httpx.Client, sent: str, given: bool) -> None:
    for path in ("/readyz", "/nothing", "/v1/models"):
        named = client.get(path, headers={"x-request-id": sent}).headers["x-request-id"]
        assert (named == sent) == given
        assert re.fullmatch(r"[\w.:/+=-]{1,128}", named)


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


def test_a_request_has_a_line_in_the_log(client: httpx.Client, server: Server) -> None:
    client.post("/v1/derain", content=RAINY, headers={"x-request-id": "a-line"})
    client.post("/v1/derain", content=b"rain", headers={"x-request-id": "another-line"})
    done, refused = logged(server, "a-line"), logged(server, "another-line")
    assert (done["route"], done["status"], done["model"]) == ("/v1/derain", 200, "tiny")
    assert (done["width"], done["height"], done["format"], done["received"]) == (130, 97, "PNG", len(RAINY))
    assert set(done["stages_ms"]) == {"queue", "decode", "infer", "monitor", "encode"}
    assert (refused["status"], refused["rejected"], refused["level"]) == (
        415,
        "UnsupportedFormatError",
        "INFO",
    )


def test_a_trace_is_continued(client: httpx.Client, server: Server) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "x-request-id": "traced"}
    client.post("/v1/derain", content=RAINY, headers=headers)
    assert logged(server, "traced")["trace_id"] == trace


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("qualty=80", 400, "there is no parameter 'qualty'"),
        ("quality=0", 400, "the parameter 'quality'"),
        ("model=rain", 404, "there is no model 'rain' here, but tiny"),
        ("format=heic", 400, "the parameter 'format'"),
        ("format=jpeg&lossless=1", 415, "cannot be written without loss"),
    ],
)
def test_parameters_that_cannot_be(client: httpx.Client, query: str, status: int, said: str) -> None:
    assert said.lower() in assert_problem(client.post(f"/v1/derain?{query}", content=RAINY), status).lower()


def test_the_parameters(client: httpx.Client, derained: np.ndarray) -> None:
    def answer(query: str) -> np.ndarray:
        response = client.post(f"/v1/derain?{query}", content=RAINY)
        assert response.status_code == 200, response.text
        return decode(response.content)[0]

    assert np.array_equal(answer("strength=0"), PICTURE)
    assert np.array_equal(answer("strength=1&model=tiny"), derained)
    half = (PICTURE.astype(float) + derained) / 2
    assert np.abs(answer("strength=.5") - half).max() <= 0.5
    assert not np.array_equal(answer("explain=1"), derained)
    sizes = [
        len(client.post(f"/v1/derain?format=jpeg&quality={quality}", content=RAINY).content)
        for quality in (20, 60, 100)
    ]
    assert sizes == sorted(sizes)
    assert decode(client.post("/v1/derain?format=webp", content=RAINY).content)[1].name == "WebP"
    # What is asked for outright goes before what is accepted.
    both = client.post("/v1/derain?format=png", content=RAINY, headers={"accept": "image/webp"})
    assert both.headers["content-type"] == "image/png"


@pytest.mark.parametrize("url", [b"http://127.0.0.1:1/rain.png", b'"http://127.0.0.1:1/rain.png"'])
def test_no_address_is_ever_fetched(client: httpx.Client, url: bytes) -> None:
    """BentoML would, of a body or a field that is one."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.5)
        address = url.replace(b":1/", f":{listener.getsockname()[1]}/".encode())
        for request in (
            {"content": address},
            {"content": address, "headers": {"content-type": "application/json"}},
            {"content": b'{"image": ' + address + b"}", "headers": {"content-type": "application/json"}},
            {"data": {"image": address.decode()}, "files": {"other": ("", b"", "text/plain")}},
            {"files": {"image": ("a.url", address, "text/uri-list")}},
        ):
            assert client.post("/v1/derain", **request).status_code in (400, 415)
        with pytest.raises(TimeoutError):
            listener.accept()


BATCH = [
    ("images", ("a.png", RAINY, "image/png")),
    ("images", ("folder/a.png", RAINY, "image/png")),
    ("images", ("b.txt", b"rain", "text/plain")),
    ("images", ("c.jpg", b"", "image/jpeg")),
]


def test_a_batch_as_a_zip(client: httpx.Client, derained: np.ndarray) -> None:
    response = client.post("/v1/derain/batch", files=BATCH)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        files = {name: archive.read(name) for name in archive.namelist()}
    assert list(files) == ["a.png", "a-2.png", "b.txt.problem.json", "c.jpg.problem.json", "results.json"]
    for name in ("a.png", "a-2.png"):
        assert np.array_equal(decode(files[name])[0], derained)
    assert json.loads(files["b.txt.problem.json"])["status"] == 415
    results = json.loads(files["results.json"])
    assert [(result["file"], result["status"]) for result in results] == [
        ("a.png", 200),
        ("folder/a.png", 200),
        ("b.txt", 415),
        ("c.jpg", 400),
    ]
    assert [result["name"] for result in results] == list(files)[:-1]


def test_a_batch_as_a_multipart_answer(client: httpx.Client, derained: np.ndarray) -> None:
    response = client.post("/v1/derain/batch?format=png", files=BATCH, headers={"accept": "multipart/mixed"})
    parsed = email.message_from_bytes(
        b"content-type: " + response.headers["content-type"].encode() + b"\r\n\r\n" + response.content,
        policy=email.policy.HTTP,
    )
    parts = list(parsed.iter_parts())
    assert [part.get_filename() for part in parts] == [
        "a.png",
        "a-2.png",
        "b.txt.problem.json",
        "c.jpg.problem.json",
    ]
    first = parts[0].get_payload(decode=True)
    assert isinstance(first, bytes)
    assert np.array_equal(decode(first)[0], derained)


@pytest.mark.parametrize(
    ("request_", "status", "said"),
    [
        ({"content": RAINY}, 400, "multipart form of files"),
        ({"files": [("images", ("a.png", b"", "text/plain"))] * 33}, 400, "33 files: send 1 to 32"),
        (
            {"files": BATCH, "headers": {"accept": "image/png"}},
            406,
            "there is application/zip, multipart/mixed",
        ),
        ({"files": BATCH, "params": {"model": "rain"}}, 404, "there is no model"),
        ({"files": BATCH, "params": {"sharp": "1"}}, 400, "there is no parameter 'sharp'"),
        ({"files": [("images", ("a.png", bytes(MAX_BYTES + 1), ""))]}, 413, "at most 1,000,000 bytes"),
    ],
    ids=["raw", "many", "accept", "model", "parameter", "bytes"],
)
def test_a_batch_that_cannot_be(
    client: httpx.Client, request_: dict[str, Any], status: int, said: str
) -> None:
    assert said in assert_problem(client.post("/v1/derain/batch", **request_), status)


def test_the_models(client: httpx.Client, model: Path) -> None:
    listed = client.get("/v1/models").json()
    assert listed["default"] == "tiny"
    (summary,) = listed["models"]
    assert (summary["name"], summary["provider"]) == ("tiny", "cpu")
    described = client.get("/v1/models/tiny").json()
    assert described["manifest"] == json.loads((model / "manifest.json").read_text())
    assert described["sha256"] == hashlib.sha256((model / "model.onnx").read_bytes()).hexdigest()
    assert client.get("/v2/models/tiny/ready").json() == {"name": "tiny", "ready": True}
    assert client.get("/v2/models/tiny").json()["inputs"][0]["shape"] == [-1, 3, -1, -1]
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    for path in ("/v1/models/rain", "/v2/models/rain", "/v2/models/rain/ready"):
        assert "but tiny" in assert_problem(client.get(path), 404)
