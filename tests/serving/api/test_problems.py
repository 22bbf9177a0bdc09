import asyncio
import json
import re
from collections.abc import Iterator
from http import HTTPStatus

import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

import derain.cli  # noqa: F401  # so that all errors are defined
import serving.app  # noqa: F401  # the same
from derain.errors import (
    CancelledError,
    DerainError,
    FileError,
    ImageError,
    MissingFileError,
    ModelError,
    OptionError,
    ProviderError,
)
from derain.models.registry import PromotionError
from serving.api.problems import ALL_TYPES, PROBLEM_TYPES, Problems, problem_of
from serving.api.request_log import RequestLog
from serving.errors import BusyError, DisconnectedError, KeysError, RetryableError
from tests.conftest import ROOT, send

DOCS = ROOT / "docs"

# Base classes that are never raised, what ends the start of the service, and what the library alone raises.
NEVER_SENT: set[type[DerainError]] = {
    ImageError,
    ModelError,
    ProviderError,
    CancelledError,
    RetryableError,
    KeysError,
    PromotionError,
    OptionError,
    FileError,
    MissingFileError,
}


def _descendants(error: type[DerainError]) -> Iterator[type[DerainError]]:
    for child in error.__subclasses__():
        yield child
        yield from _descendants(child)


def test_each_error_has_its_status() -> None:
    others = ("training.", "derain.command.", "derain.video.", "derain.bulk.", "derain.serve")
    errors = {error for error in _descendants(DerainError) if not error.__module__.startswith(others)}
    assert errors - NEVER_SENT == set(PROBLEM_TYPES)


def test_each_type_has_a_name_of_its_own_and_a_section_in_the_docs() -> None:
    """A name, once published, stays: programs tell errors by it."""
    assert len({known.name for known in PROBLEM_TYPES.values()}) == len(PROBLEM_TYPES)
    sections = re.findall(r"^## (\S+)\n\n(\d+), \*(.+)\*: \S", (DOCS / "errors.md").read_text(), re.MULTILINE)
    documented = {name: (int(status), title) for name, status, title in sections}
    assert documented == {known.name: (known.status, known.title) for known in ALL_TYPES}


@pytest.mark.parametrize("error", PROBLEM_TYPES)
def test_a_problem_says_what_is_wrong(error: type[DerainError]) -> None:
    problem = problem_of(error("seven is not allowed; at most six is"))
    known = PROBLEM_TYPES[error]
    assert problem.headers["content-type"] == "application/problem+json"
    assert ("retry-after" in problem.headers) == issubclass(error, RetryableError)
    assert json.loads(problem.body) == {
        "type": f"/errors#{known.name}",
        "title": known.title,
        "status": known.status.value,
        "detail": "seven is not allowed; at most six is",
    }


async def _raise(request: Request) -> Response:
    status = int(request.path_params["status"])
    if status:
        raise HTTPException(status, "the framework's words", {"x-other": "1"})
    raise RuntimeError("a secret of ours")


async def _own(_request: Request) -> Response:
    raise BusyError("3 wait")


async def _fine(_request: Request) -> Response:
    return PlainTextResponse("fine", headers={"x-other": "1"})


APP = Starlette(
    routes=[Route("/raise/{status}", _raise), Route("/own", _own), Route("/fine", _fine)],
    middleware=[Middleware(RequestLog), Middleware(Problems)],
)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/fine", 405),
        ("GET", "/raise/0", 500),
        *[("GET", f"/raise/{status}", status) for status in (400, 406, 413, 415, 422, 429, 500, 503, 504)],
    ],
)
def test_an_error_of_the_framework_becomes_a_problem(method: str, path: str, status: int) -> None:
    response = send(APP, method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert int(response.headers["content-length"]) == len(response.content)
    problem = response.json()
    named = {404: "not-found", 405: "method-not-allowed", 500: "internal-error", 503: "not-ready"}
    named[504] = "not-done-in-time"
    if status in named:
        assert problem["type"] == f"/errors#{named[status]}"
    else:
        assert (problem["type"], problem["title"]) == ("about:blank", HTTPStatus(status).phrase)
    assert problem["status"] == status
    assert problem["detail"]
    assert "secret" not in response.text


def test_the_methods_that_are_allowed_stay_named() -> None:
    assert set(send(APP, "POST", "/fine").headers["allow"].split(", ")) == {"GET", "HEAD"}


def test_options_are_the_methods_that_there_are() -> None:
    answer = send(APP, "OPTIONS", "/fine")
    assert (answer.status_code, answer.content) == (204, b"")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert send(APP, "OPTIONS", "/nothing").status_code == 404


def test_a_problem_says_when_to_come_again() -> None:
    assert int(send(APP, "GET", "/raise/429").headers["retry-after"]) > 0


def test_an_error_of_ours_becomes_a_problem() -> None:
    own: httpx.Response = send(APP, "GET", "/own")
    assert (own.status_code, own.json()["detail"]) == (429, "3 wait")
    assert own.headers["content-type"] == "application/problem+json"


def test_what_is_right_already_is_left_alone() -> None:
    fine = send(APP, "GET", "/fine")
    assert (fine.status_code, fine.text, fine.headers["x-other"]) == (200, "fine", "1")


def test_an_app_that_breaks_is_answered_for() -> None:
    """BentoML has nothing around its middleware that would do it."""

    async def broken(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise RuntimeError("a secret of ours")

    response = send(RequestLog(Problems(broken)), "GET", "/")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == response.status_code == 500
    assert "secret" not in response.text


@pytest.mark.parametrize(
    ("error", "is_cut"),
    [(DisconnectedError("gone"), False), (BusyError("3 wait"), True)],
    ids=["gone", "ours"],
)
def test_what_goes_wrong_in_an_answer_cuts_the_connection(error: DerainError, is_cut: bool) -> None:
    """Half an answer must not look whole; but where nobody reads it is no fault."""

    async def breaks(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    statuses: list[int] = []

    async def take(message: Message) -> None:
        statuses.append(message["status"])

    scope: Scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    answering = RequestLog(Problems(breaks))(scope, _nothing, take)
    if is_cut:
        with pytest.raises(BusyError):
            asyncio.run(answering)
    else:
        asyncio.run(answering)
    assert statuses == [200]


async def _nothing() -> Message:
    raise AssertionError("there is no body")
