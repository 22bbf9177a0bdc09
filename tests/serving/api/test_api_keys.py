import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image as PilImage
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

import serving.api.api_keys
import serving.keys
from serving.api.api_keys import Access, Key, Keys, Rates, read_keys
from serving.api.problems import Problems
from serving.api.request_log import RequestLog
from serving.api.routes import ROUTES, Audience, find, in_starlette
from serving.errors import KeysError, RateError
from serving.operations.request_record import record_of
from tests.conftest import ROOT, noise, send
from tests.derain.images.test_plain import by_pillow
from tests.serving.app import running


def sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


FILE = f"""
# who         what
camera-7 {sha256("of the camera")}
camera-7 {sha256("the camera's next")}   # soon the only one
studio {sha256("of the studio")} rate=2
operator {sha256("of the operator")} admin rate=600.5
"""


async def _name(request: Request) -> Response:
    return PlainTextResponse(record_of(request.scope).key)


PATHS = ["/v1/derain", "/v1/models", "/admin/reload", "/readyz", "/", "/v2/models/base"]


def app(keys: Keys | None, rate_per_minute: float | None = None) -> ASGIApp:
    found = [(path, route) for path in PATHS if (route := find(path)) is not None]
    assert len(found) == len(PATHS)
    routes = [
        replace(route, path=path, method=method, handler=_name)
        for path, route in found
        for method in ("GET", "POST")
    ]
    access = Access(keys, rate_per_minute)
    middleware = [Middleware(RequestLog), Middleware(Problems)]
    return Starlette(routes=in_starlette(tuple(routes), access), middleware=middleware)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(FILE)
    return path


def test_what_a_file_says(file: Path) -> None:
    assert read_keys(file) == [
        Key("camera-7", sha256("of the camera")),
        Key("camera-7", sha256("the camera's next")),
        Key("studio", sha256("of the studio"), 2),
        Key("operator", sha256("of the operator"), 600.5, is_admin=True),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("camera", "line 2: a line has a name"),
        ("camera of-the-camera", "line 2: a line has a name"),
        ("ca/mera " + sha256(""), "line 2: a line has a name"),
        ("camera " + sha256("").upper(), "line 2: a line has a name"),
        ("camera " + sha256("") + " rate=0", "line 2: 'rate=0' is neither"),
        ("camera " + sha256("") + " root", "line 2: 'root' is neither"),
    ],
)
def test_a_file_that_cannot_be_understood(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# keys\n{line}\n")
    with pytest.raises(KeysError, match=said):
        read_keys(path)


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"authorization": "Bearer of the camera"}, "camera-7"),
        ({"authorization": "bearer  the camera's next"}, "camera-7"),
        ({"x-api-key": "of the studio"}, "studio"),
    ],
)
def test_who_has_a_key_may_call(file: Path, headers: dict[str, str], name: str) -> None:
    response = send(app(Keys(file)), "GET", "/v1/derain", headers=headers)
    assert (response.status_code, response.text) == (200, name)


@pytest.mark.parametrize("path", ["/v1/derain", "/v1/models", "/v2/models/base", "/admin/reload"])
@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, "a key is needed"),
        ({"authorization": "Basic b2YgdGhlIGNhbWVyYQ=="}, "a key is needed"),
        ({"authorization": "Bearer"}, "a key is needed"),
        ({"x-api-key": "of nobody"}, "this key is not known"),
        ({"x-api-key": sha256("of the camera")}, "this key is not known"),
    ],
)
def test_who_has_none_may_not(file: Path, path: str, headers: dict[str, str], said: str) -> None:
    response = send(app(Keys(file)), "GET", path, headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["content-type"] == "application/problem+json"
    assert said in response.json()["detail"]


@pytest.mark.parametrize("path", ["/readyz", "/"])
def test_probes_and_pages_are_for_everybody(file: Path, path: str) -> None:
    assert send(app(Keys(file)), "GET", path).status_code == 200


@pytest.mark.parametrize(
    ("secret", "status"), [("of the operator", 200), ("of the camera", 403), ("of the studio", 403)]
)
def test_only_an_operator_administers(file: Path, secret: str, status: int) -> None:
    headers = {"authorization": f"Bearer {secret}"}
    assert send(app(Keys(file)), "POST", "/admin/reload", headers=headers).status_code == status


def test_without_keys_everybody_calls_and_nobody_administers() -> None:
    assert send(app(None), "POST", "/v1/derain").text == "none"
    refused = send(app(None), "POST", "/admin/reload")
    assert refused.status_code == 403
    assert "DERAIN_KEYS" in refused.json()["detail"]


def test_a_key_has_its_rate(file: Path) -> None:
    service = app(Keys(file))
    headers = {"x-api-key": "of the studio"}
    answers = [send(service, "POST", "/v1/derain", headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 31
    assert "at most 2 images a minute" in answers[2].json()["detail"]
    # To ask for models costs nothing, and others are not held up.
    assert send(service, "GET", "/v1/models", headers=headers).status_code == 200
    assert send(service, "POST", "/v1/derain", headers={"x-api-key": "of the camera"}).status_code == 200


def test_a_batch_is_as_many_images(model: Path, file: Path) -> None:
    """It is let in where one is left, and those that follow wait for all of it."""
    image = by_pillow(PilImage.fromarray(noise(8, 8)), "PNG")
    files = [("images", ("a.png", image, "image/png"))] * 5
    headers = {"x-api-key": "of the studio"}  # 2 a minute
    with running(model, keys=file) as service, service.client(**headers) as client:
        assert client.post("/v1/derain/batch", files=files).status_code == 200
        refused = client.post("/v1/derain", content=image)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 100


def test_a_bucket_fills_steadily() -> None:
    rates, key = Rates(default_per_minute=60), Key("camera", "")
    for _ in range(60):
        rates.spend(key, 0.0)
    with pytest.raises(RateError) as refused:
        rates.spend(key, 0.5)
    assert refused.value.retry_after_s == 1
    rates.spend(key, 1.5)
    with pytest.raises(RateError):
        rates.spend(key, 1.5)
    # It never holds more than a minute's worth.
    for _ in range(60):
        rates.spend(key, 1000.0)
    with pytest.raises(RateError):
        rates.spend(key, 1000.0)


def test_keys_are_exchanged_while_the_service_runs(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving.api.api_keys, "_CHECK_EVERY_S", 0.0)
    keys = Keys(file)
    assert keys.find("of the studio")
    write_later(file, f"studio {sha256('another')}")
    assert keys.find("of the studio") is None
    assert keys.find("another") == Key("studio", sha256("another"))
    # What cannot be understood, or is not there, leaves things as they are.
    write_later(file, "studio")
    assert keys.find("another")
    file.unlink()
    assert keys.find("another")


def write_later(path: Path, text: str) -> None:
    """With a time of its own, however coarse the file system's clock is."""
    before = path.stat().st_mtime_ns
    path.write_text(text)
    os.utime(path, ns=(before + 10**9, before + 10**9))


@pytest.mark.slow
def test_a_key_that_is_made_works(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "serving.keys", "camera"]
    made = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    secret, line = (text.partition(":")[2].strip() for text in made.splitlines())
    (tmp_path / "keys").write_text(line)
    keys = Keys(tmp_path / "keys")
    assert keys.find(secret) == Key("camera", sha256(secret))
    assert len(secret) >= 40


@pytest.mark.parametrize("arguments", [["--help"], ["-h"]])
def test_asking_for_help_makes_no_key(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert serving.keys.main(arguments) == 0
    assert capsys.readouterr().out.startswith("usage: python -m serving.keys NAME")


@pytest.mark.parametrize("arguments", [[], ["a b"], ["-x"], ["a", "b"]])
def test_a_name_that_is_none_makes_no_key(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert serving.keys.main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("usage: ") and not shown.out


def test_no_spelling_of_a_path_needs_no_key(model: Path, file: Path) -> None:
    """A line feed behind a path once led to the handler, and around the question for a key."""
    restricted = [route for route in ROUTES if route.audience in (Audience.KEY, Audience.ADMIN)]
    with running(model, keys=file) as service, service.client() as client:
        for route in restricted:
            for end in ("", "%0A", "/", "//", "%20", "%00", "%0D%0A", ";", "%2F"):
                path = route.path.replace("{name}", "base") + end
                status = client.request(route.method, path, content=b"").status_code
                assert status in (307, 401, 404), f"{route.method} {path}: {status}"
