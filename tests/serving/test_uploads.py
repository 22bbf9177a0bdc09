import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from tempfile import SpooledTemporaryFile
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message

from serving.exchange import Exchanges
from serving.uploads import Buffer, Limits, Uploads
from tests.conftest import send

PATH = "/v1/derain"
LIMIT = 2000
PICTURE = bytes(range(256))


async def _echo(request: Request) -> Response:
    """The body that came through, and its headers as they were seen."""
    seen = {f"seen-{name}": value for name, value in request.headers.items()}
    return Response(await request.body(), headers=seen)


async def _forget(_request: Request) -> Response:
    """Never answers by itself."""
    FORGOTTEN.append("begun")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        FORGOTTEN.append("ended")
        raise
    return Response()


FORGOTTEN: list[str] = []


def app(endpoint: Callable[[Request], Awaitable[Response]] = _echo, timeout_s: float = 30) -> ASGIApp:
    inner = Starlette(routes=[Route(PATH, endpoint, methods=["GET", "POST"])])
    return Exchanges(Uploads(inner, Limits(LIMIT, timeout_s), Buffer(2 * LIMIT)), [PATH])


APP = app()


def form(*parts: tuple[str, bytes], boundary: str = "=-=", end: str = "--") -> bytes:
    """A multipart form of (Content-Disposition parameters, content)."""
    opened = [
        f"--{boundary}\r\nContent-Disposition: form-data; {parameters}\r\n\r\n".encode() + content + b"\r\n"
        for parameters, content in parts
    ]
    return b"".join(opened) + f"--{boundary}{end}\r\n".encode()


FILE = ('name="image"; filename="a.png"', PICTURE)
FIELD = ('name="note"', b"seaside")
MULTIPART = {"content-type": 'multipart/form-data; boundary="=-="'}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (PICTURE, {}),
        (PICTURE, {"content-type": "image/png"}),
        (PICTURE, {"content-type": "application/x-www-form-urlencoded"}),
        (form(FILE), MULTIPART),
        (form(FIELD, FILE, FIELD), MULTIPART),
        (form(FILE), {"content-type": 'Multipart/Form-Data; charset=utf-8; Boundary="=-="'}),
        (form(('name="another name"; filename=""', PICTURE)), MULTIPART),
        (form(('name="image"; filename*=UTF-8\'\'regen%20%C3%BC.png; filename="a"', PICTURE)), MULTIPART),
    ],
    ids=["raw", "typed", "mistyped", "form", "fields", "case", "unnamed", "umlaut"],
)
def test_what_is_behind_sees_one_picture(body: bytes, headers: dict[str, str]) -> None:
    response = send(APP, "POST", PATH, content=body, headers=headers)
    assert (response.status_code, response.content) == (200, PICTURE)
    assert response.headers["seen-content-type"] == "application/octet-stream"
    assert response.headers["seen-content-length"] == str(len(PICTURE))


def test_a_chunked_body_is_put_together() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(PICTURE), 100):
            yield PICTURE[start : start + 100]

    response = send(APP, "POST", PATH, content=chunks())
    assert response.content == PICTURE
    assert "seen-transfer-encoding" not in response.headers


def test_other_methods_pass() -> None:
    assert send(APP, "GET", PATH).status_code == 200


@pytest.mark.parametrize(
    ("body", "headers", "said"),
    [
        (b"", {}, "the body is empty"),
        (b"", {"content-type": "image/png"}, "the body is empty"),
        (form(('name="image"; filename="a"', b"")), MULTIPART, "the body is empty"),
        (b"", MULTIPART, "0 files: send one picture"),
        (form(), MULTIPART, "0 files: send one picture"),
        (form(FIELD), MULTIPART, "0 files: send one picture"),
        (form(FILE, FILE), MULTIPART, "2 files: send one picture"),
        (form(FILE, FILE, FILE), MULTIPART, "Too many files"),
        (form(*[FIELD] * 10, FILE, *[FIELD] * 7), MULTIPART, "Too many fields"),
        (form(FILE), {"content-type": "multipart/form-data"}, "boundary"),
        (form(FILE), {"content-type": "multipart/form-data; boundary="}, "cannot be read"),
        (form(FILE, boundary="another"), MULTIPART, "cannot be read"),
        (form(FILE)[:200], MULTIPART, "0 files: send one picture"),
        (form(("", PICTURE)), MULTIPART, "cannot be read"),
        (
            form(FILE),
            {"content-type": "multipart/form-data; boundary==-=; charset=undefined"},
            "cannot be read",
        ),
    ],
    ids=[
        *("nothing", "typed", "empty file", "empty form", "no part", "field", "two", "three", "fields"),
        *("no boundary", "empty boundary", "other boundary", "cut short", "no name", "charset"),
    ],
)
def test_a_body_that_is_no_single_picture(body: bytes, headers: dict[str, str], said: str) -> None:
    response = send(APP, "POST", PATH, content=body, headers=headers)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert said in response.json()["detail"]


@pytest.mark.parametrize("body", [form(FILE), form(FILE)[:200]], ids=["whole", "cut short"])
def test_no_file_of_a_form_stays_open(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[SpooledTemporaryFile[bytes]] = []

    class Noted(SpooledTemporaryFile[bytes]):
        def __init__(self, max_size: int) -> None:
            super().__init__(max_size)
            opened.append(self)

    monkeypatch.setattr("starlette.formparsers.SpooledTemporaryFile", Noted)
    send(APP, "POST", PATH, content=body, headers=MULTIPART)
    assert [file.closed for file in opened] == [True]


class Connection:
    """What the server sees of a caller: an endless body, or one that breaks off."""

    def __init__(self, chunk: bytes, disconnects_after: int | None = None) -> None:
        self.chunk = chunk
        self.disconnects_after = disconnects_after
        self.pulled = 0
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        if self.pulled == self.disconnects_after:
            return {"type": "http.disconnect"}
        self.pulled += 1
        return {"type": "http.request", "body": self.chunk, "more_body": True}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    def run(self, headers: dict[str, str] | None = None, to: ASGIApp = APP) -> None:
        scope: MutableMapping[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": PATH,
            "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
        }

        async def run() -> None:
            await to(scope, self.receive, self.send)

        asyncio.run(run())


@pytest.mark.parametrize(
    ("headers", "pulled"),
    [
        ({"content-length": str(LIMIT + 1)}, 0),
        ({"content-length": "9" * 18}, 0),
        ({"content-length": "10"}, 11),  # a lie
        ({"transfer-encoding": "chunked"}, 11),
        (MULTIPART, 11),
    ],
)
def test_no_more_is_read_than_the_limit(headers: dict[str, str], pulled: int) -> None:
    caller = Connection(bytes(LIMIT // 10))
    caller.run(headers)
    assert caller.pulled == pulled
    assert caller.sent[0]["status"] == 413
    assert b"at most 2,000 bytes are allowed" in caller.sent[1]["body"]


def test_the_limit_itself_is_allowed() -> None:
    assert len(send(APP, "POST", PATH, content=bytes(LIMIT)).content) == LIMIT


def test_a_caller_that_hangs_up_is_answered_all_the_same() -> None:
    """BentoML's TimeoutMiddleware, around this one, waits for an answer, and a shutdown for that."""
    caller = Connection(b"half", disconnects_after=2)
    caller.run()
    assert caller.pulled == 2
    assert caller.sent[0]["status"] == 400


def test_a_caller_that_hangs_up_is_no_longer_worked_for() -> None:
    class Impatient(Connection):
        async def receive(self) -> Message:
            self.pulled += 1
            if self.pulled == 1:
                return {"type": "http.request", "body": PICTURE, "more_body": False}
            await asyncio.sleep(0.05)
            return {"type": "http.disconnect"}

    FORGOTTEN.clear()
    caller = Impatient(b"")
    caller.run(to=app(_forget))
    assert FORGOTTEN == ["begun", "ended"]
    assert caller.sent[0]["status"] == 400


def test_a_body_that_does_not_come() -> None:
    class Slow(Connection):
        async def receive(self) -> Message:
            await asyncio.sleep(60)
            raise AssertionError("waited for too long")

    caller = Slow(b"")
    caller.run({"content-length": "10"}, app(timeout_s=0.05))
    assert caller.sent[0]["status"] == 408
    assert b"did not arrive within 0.05 s" in caller.sent[1]["body"]


def test_uploads_are_bounded_together() -> None:
    """Three at once of two thirds of what one may have: there is room for two."""

    async def all_at_once() -> list[httpx.Response]:
        gate = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield bytes(LIMIT * 2 // 3)
            await gate.wait()

        async with httpx.AsyncClient(transport=httpx.ASGITransport(APP), base_url="http://test") as client:
            sent = [asyncio.create_task(client.post(PATH, content=body())) for _ in range(4)]
            await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED)
            gate.set()
            return list(await asyncio.gather(*sent))

    answers = asyncio.run(all_at_once())
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 429]
    (refused,) = (answer for answer in answers if answer.status_code == 429)
    assert "in memory already" in refused.json()["detail"]
    # All of it was given back.
    assert send(APP, "POST", PATH, content=bytes(LIMIT)).status_code == 200
