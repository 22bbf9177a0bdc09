"""Calls from web pages of other origins, as browsers make them."""

import httpx
import pytest
from pydantic import ValidationError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.api.cors import Cors
from serving.settings import Settings, read_origins
from tests.conftest import send

HERE, THERE = "https://example.com", "https://example.org"


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    await Response("answered", headers={"vary": "Accept"})(scope, receive, send)


SOME = Cors(_app, (HERE, "http://localhost:5173"), ("X-Derain-Model",))
ALL = Cors(_app, ("*",), ("X-Derain-Model",))


def preflight(app: Cors, origin: str, method: str = "POST", headers: str | None = None) -> httpx.Response:
    sent = {"origin": origin, "access-control-request-method": method}
    if headers is not None:
        sent["access-control-request-headers"] = headers
    return send(app, "OPTIONS", "/v1/derain", headers=sent)


@pytest.mark.parametrize(("app", "allowed"), [(SOME, HERE), (ALL, "*")], ids=["some", "all"])
def test_a_preflight(app: Cors, allowed: str) -> None:
    wanted = "authorization,x-api-key,x-request-id,content-type,content-encoding,traceparent"
    answer = preflight(app, HERE, headers=wanted)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == allowed
    assert answer.headers["access-control-allow-methods"] == "GET, HEAD, POST"
    listed = answer.headers["access-control-allow-headers"].lower().split(", ")
    assert set(wanted.split(",")) <= set(listed)
    assert "origin" in answer.headers["vary"].lower()
    assert "access-control-allow-credentials" not in answer.headers
    assert int(answer.headers["access-control-max-age"]) >= 60


@pytest.mark.parametrize(
    ("origin", "method", "headers", "said"),
    [
        (THERE, "POST", None, "scripts of 'https://example.org'"),
        ("http://example.com", "POST", None, "scripts of 'http://example.com'"),
        ("https://example.com:8443", "POST", None, "scripts of 'https://example.com:8443'"),
        ("https://example.com.rain.example", "POST", None, "scripts of "),
        ("null", "POST", None, "scripts of 'null'"),
        (HERE, "DELETE", None, "may not use 'DELETE', but GET, HEAD, POST"),
        (HERE, "POST", "x-rain", "the headers 'x-rain', but Authorization, X-API-Key, "),
    ],
)
def test_a_preflight_that_is_refused(origin: str, method: str, headers: str | None, said: str) -> None:
    answer = preflight(SOME, origin, method, headers)
    assert answer.status_code == 403
    assert answer.json()["type"] == "/errors#origin-not-allowed"
    assert said in answer.json()["detail"]
    assert "access-control-allow-origin" not in answer.headers
    assert "origin" in answer.headers["vary"].lower()


@pytest.mark.parametrize(
    ("app", "origin", "allowed"),
    [
        (SOME, HERE, HERE),
        (SOME, "http://localhost:5173", "http://localhost:5173"),
        (SOME, THERE, None),
        (SOME, "null", None),
        (ALL, THERE, "*"),
        (ALL, "null", "*"),
    ],
)
def test_an_answer_names_who_may_read_it(app: Cors, origin: str, allowed: str | None) -> None:
    answer = send(app, "POST", "/v1/derain", headers={"origin": origin, "cookie": "rain=1"})
    assert (answer.status_code, answer.text) == (200, "answered")
    assert answer.headers.get("access-control-allow-origin") == allowed
    assert "access-control-allow-credentials" not in answer.headers
    readable = answer.headers["access-control-expose-headers"].split(", ")
    assert {"X-Derain-Model", "Retry-After"} <= set(readable)
    assert {"accept", "origin"} >= set(answer.headers["vary"].lower().split(", "))


def test_who_is_no_browser_is_answered_all_the_same() -> None:
    answer = send(SOME, "POST", "/")
    assert answer.text == "answered"
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["vary"] == "Accept, Origin"  # for caches, which browsers share with others
    plain = send(SOME, "OPTIONS", "/", headers={"origin": HERE})  # no preflight
    assert plain.text == "answered"


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("https://example.com", (HERE,)),
        (" https://Example.com:443, http://localhost:5173 ", (HERE, "http://localhost:5173")),
        ("http://[::1]:8080 chrome-extension://abcdef", ("http://[::1]:8080", "chrome-extension://abcdef")),
        ("*", ("*",)),
    ],
)
def test_origins_are_those_that_browsers_send(text: str, origins: tuple[str, ...]) -> None:
    assert read_origins(text) == origins
    assert Settings.model_validate({"cors_origins": text}).cors_origins == origins


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://example.com/", "'https://example.com/' is no origin: write a scheme, a host"),
        ("https://example.com/app", "is no origin"),
        ("example.com", "'example.com' is no origin"),
        ("https://*.example.com", "is no origin"),
        ("https://example.com:rain", "is no origin"),
        ("https://example.com:70000", "Port out of range"),
        ("null", "'null' is no origin"),
        (" , ", "names no origin"),
        ("*,https://example.com", "* alone allows all"),
    ],
)
def test_what_is_no_origin(text: str, said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate({"cors_origins": text})
    assert said in str(refused.value)
