"""The service by its answers: requests to its app, and the image that comes back."""

import email
import email.policy
import hashlib
import io
import json
import logging
import re
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from derain.images.formats import FORMATS, JPEG, PNG, WEBP, ImageFormat
from derain.images.plain import decode, encode
from derain.inference.engine import Engine
from serving.operations.logs import JsonLines
from tests.conftest import noise, scene
from tests.derain.images.test_plain import mean_difference, png
from tests.serving.app import running
from tests.serving.server import assert_problem

MAX_BYTES = 1_000_000
MAX_PIXELS = 1_000_000

PICTURE = noise(97, 130)
RAINY = encode(PICTURE, PNG)


@pytest.fixture(scope="module")
def log() -> Iterator[io.StringIO]:
    """The lines that are logged, in JSON."""
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("derain")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture(scope="module")
def client(model: Path, log: io.StringIO) -> Iterator[httpx.Client]:
    limits = {"max_bytes": MAX_BYTES, "max_pixels": MAX_PIXELS, "tile_pixels": 256 * 256}
    with running(model, **limits) as app, app.client() as client:
        yield client
    # None of these tests, the rude ones included, may have met an error of ours.
    assert "Traceback" not in log.getvalue()
    assert '"ERROR"' not in log.getvalue()


@pytest.fixture(scope="module")
def derained(model: Path) -> np.ndarray:
    """What the engine makes of PICTURE, without a service around it."""
    engine = Engine(model)
    try:
        return engine.derain(PICTURE)
    finally:
        engine.close()


def test_an_image_in_the_body(client: httpx.Client, derained: np.ndarray) -> None:
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
def test_an_image_in_a_form(client: httpx.Client, derained: np.ndarray, field: str) -> None:
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

    image, written = answer({"strength": "0", "format": "webp", "lossless": "true"})
    assert np.array_equal(image, PICTURE)
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
    image, found = decode(response.content)
    assert found == answered
    assert mean_difference(image, engine.derain(decode(data)[0])) < 2


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
        r"derain_work_images 0\.0",
        r"derain_work_pixels 0\.0",
        r"derain_queue_images 0\.0",
        r"derain_queue_limit_images 32\.0",
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
            if not address.startswith(("data:", "static_content/")):  # the latter is BentoML's
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
        assert known.status_code == 204, path
        assert {method.upper() for method in operations} < set(known.headers["allow"].split(", "))
        assert not [name for name in known.headers if name.startswith("access-control")]
        head = client.head(path.replace("{name}", "tiny"))
        assert head.content == b""
        assert head.status_code == (200 if "get" in operations else 405), path


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
        (b"", 400, "no image: the body is empty"),
        (RAINY[: len(RAINY) // 2], 400, "damaged or cut short"),
        (encode(scene(300, 300), JPEG)[:3000], 400, "damaged or cut short"),
        (png(30, 20, claimed_length=0x7FFF_FFFF), 400, "is damaged or cut short"),
        (b"rain", 415, "not an image in a known format"),
        (b"DDS " + (124).to_bytes(4, "little") + bytes(120), 415, "not an image in a known format"),
        (bytes(MAX_BYTES + 1), 413, "at most 1,000,000 bytes"),
        (png(20_000, 20_000), 413, "at most 1,000,000 are allowed"),
        (png(1001, 1000), 413, "1001 x 1000 is 1,001,000 pixels: at most 1,000,000 are allowed"),
    ],
    ids=["empty", "png", "jpeg", "chunk", "text", "dds", "bytes", "bomb", "pixels"],
)
def test_what_is_no_image_is_refused_in_words(
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


def test_images_sent_at_once_come_back_to_their_senders(client: httpx.Client, engine: Engine) -> None:
    images = [noise(50 + number, 80, number) for number in range(12)]
    with ThreadPoolExecutor(6) as callers:
        answers = callers.map(lambda sent: client.post("/v1/derain", content=encode(sent, PNG)), images)
        for image, response in zip(images, answers, strict=True):
            levels = decode(response.content)[0].astype(int) - engine.derain(image)
            assert np.abs(levels).max() <= 1


@pytest.mark.parametrize(
    ("sent", "given"), [("camera-7:0042", True), ("", False), ("two words", False), ("x" * 129, False)]
)
def test_a_request_keeps_its_name(client: httpx.Client, sent: str, given: bool) -> None:
    for path in ("/readyz", "/nothing", "/v1/models"):
        named = client.get(path, headers={"x-request-id": sent}).headers["x-request-id"]
        assert (named == sent) == given
        assert re.fullmatch(r"[\w.:/+=-]{1,128}", named)


def logged(log: io.StringIO, name: str) -> dict[str, Any]:
    """The line of a request."""
    (line,) = (line for line in map(json.loads, log.getvalue().splitlines()) if line.get("id") == name)
    return dict(line)


def test_a_request_has_a_line_in_the_log(client: httpx.Client, log: io.StringIO) -> None:
    client.post("/v1/derain", content=RAINY, headers={"x-request-id": "a-line"})
    client.post("/v1/derain", content=b"rain", headers={"x-request-id": "another-line"})
    done, refused = logged(log, "a-line"), logged(log, "another-line")
    assert (done["route"], done["status"], done["model"]) == ("/v1/derain", 200, "tiny")
    assert (done["width"], done["height"], done["format"], done["received"]) == (130, 97, "PNG", len(RAINY))
    assert set(done["stages_ms"]) == {"queue", "decode", "infer", "monitor", "encode"}
    assert (refused["status"], refused["rejected"], refused["level"]) == (
        415,
        "UnsupportedFormatError",
        "INFO",
    )


def test_a_trace_is_continued(client: httpx.Client, log: io.StringIO) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "x-request-id": "traced"}
    client.post("/v1/derain", content=RAINY, headers=headers)
    assert logged(log, "traced")["trace_id"] == trace


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
