import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message

from serving.api.images.upload_buffer import UploadBuffer
from serving.api.images.uploads import UploadRoute, read_image
from serving.api.problems import Problems
from serving.api.request_log import RequestLog
from serving.api.services import Services
from serving.errors import ParameterError
from serving.settings import Settings
from tests.conftest import send

PATH = "/v1/derain"
LIMIT = 2000
PICTURE = bytes(range(256))


async def _image(request: Request, body: bytes) -> tuple[bytes, QueryParams]:
    return await read_image(request, body)


async def _echo(_request: Request, upload: tuple[bytes, QueryParams]) -> Response:
    """The image that came through, and its parameters as they were seen."""
    image, query = upload
    return Response(image, headers={"x-query": str(query)})


async def _forget(_request: Request, _upload: object) -> Response:
    """Never answers by itself."""
    FORGOTTEN.append("begun")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        FORGOTTEN.append("ended")
        raise
    return Response()


FORGOTTEN: list[str] = []

NONE: Any = None  # of what no upload needs


def app(
    answer: Callable[[Request, tuple[bytes, QueryParams]], Awaitable[Response]] = _echo,
    timeout_s: float = 30,
    check: Callable[[Request], object] = lambda request: None,
) -> ASGIApp:
    starlette = Starlette(
        routes=[Route(PATH, UploadRoute(check, _image, answer), methods=["POST"])],
        middleware=[Middleware(RequestLog), Middleware(Problems)],
    )
    settings = Settings(max_bytes=LIMIT, buffer_bytes=2 * LIMIT, upload_timeout_s=timeout_s)
    buffer = UploadBuffer(settings.buffer_bytes)
    Services(settings, NONE, NONE, buffer, {}, NONE, None).give_to(starlette)
    return starlette


APP = app()


def form(*parts: tuple[str, bytes], boundary: str = "=-=", end: str = "--") -> bytes:
    """A multipart form of (Content-Disposition parameters, content)."""
    opened = [
        f"--{boundary}\r\nContent-Disposition: form-data; {parameters}\r\n\r\n".encode() + content + b"\r\n"
        for parameters, content in parts
    ]
    return b"".join(opened) + f"--{boundary}{end}\r\n".encode()


FILE = ('name="image"; filename="a.png"', PICTURE)
FIELD = ('name="quality"', b"80")
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
        (form(("name=\"image\"; filename*=UTF-8''regen%20%C3%BC.png", PICTURE)), MULTIPART),
        (form(('name="image"', PICTURE)), MULTIPART),
        (form(('name="image"\r\nContent-Type: image/jpeg', PICTURE)), MULTIPART),
        (gzip.compress(PICTURE), {"content-encoding": "gzip"}),
        (gzip.compress(PICTURE[:9]) + gzip.compress(PICTURE[9:]), {"content-encoding": " X-GZip "}),
        (gzip.compress(form(FILE)), MULTIPART | {"content-encoding": "gzip"}),
        (PICTURE, {"content-encoding": "identity"}),
    ],
    ids=[
        *("raw", "typed", "mistyped", "form", "fields", "case", "unnamed", "umlaut"),
        *("umlaut alone", "no filename", "typed part", "gzip", "two members", "gzip of a form", "identity"),
    ],
)
def test_a_body_holds_one_image(body: bytes, headers: dict[str, str]) -> None:
    response = send(APP, "POST", PATH, content=body, headers=headers)
    assert (response.status_code, response.content) == (200, PICTURE)


def test_a_chunked_body_is_put_together() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(PICTURE), 100):
            yield PICTURE[start : start + 100]

    response = send(APP, "POST", PATH, content=chunks())
    assert response.content == PICTURE


@pytest.mark.parametrize(
    ("body", "headers", "said"),
    [
        (b"", {}, "the body is empty"),
        (b"", {"content-type": "image/png"}, "the body is empty"),
        (form(('name="image"; filename="a"', b"")), MULTIPART, "the body is empty"),
        (b"", MULTIPART, "0 files: send one image"),
        (form(), MULTIPART, "0 files: send one image"),
        (form(FIELD), MULTIPART, "0 files: send one image"),
        (
            form(FILE, ('name="note"', b"seaside")),
            MULTIPART,
            "the field 'note' of the multipart form is neither",
        ),
        (form(FILE, ('name="note"', b"seaside")), MULTIPART, "a parameter: there is format, quality, "),
        (form(('name="image"', b"rain.jpg")), MULTIPART, "in curl: -F image=@FILE"),
        (
            form(FILE, ('name="model"', bytes(1001))),
            MULTIPART,
            "'model' of the multipart form has 1,001 bytes",
        ),
        (
            form(('name="image"; filename="a"\r\nContent-Transfer-Encoding: Base64', b"cmFpbg==")),
            MULTIPART,
            "the part 'image' of the multipart form has the Content-Transfer-Encoding 'Base64'",
        ),
        (form(FILE, FILE), MULTIPART, "2 files: send one image"),
        (form(FILE, FILE, FILE), MULTIPART, "3 files: send one image"),
        (form(*[FIELD] * 10, FILE, *[FIELD] * 7), MULTIPART, "too many parts: at most 17"),
        (form(FILE), {"content-type": "multipart/form-data"}, "boundary"),
        (form(FILE), {"content-type": "multipart/form-data; boundary="}, "cannot be read"),
        (form(FILE, boundary="another"), MULTIPART, "cannot be read"),
        (form(FILE)[:200], MULTIPART, "cut short"),
        (form(FILE, FILE)[:500], MULTIPART, "cut short"),
        (form(("", PICTURE)), MULTIPART, "cannot be read"),
        (gzip.compress(PICTURE)[:-9], {"content-encoding": "gzip"}, "in gzip is cut short"),
        (PICTURE, {"content-encoding": "gzip"}, "is not in gzip"),
        (gzip.compress(b""), {"content-encoding": "gzip"}, "the body is empty"),
        (form(("name=\"a\"; filename*=undefined''a.jpg", PICTURE)), MULTIPART, "in no known characters"),
        (form(("name=\"a\"; filename*=idna''a%80.jpg", PICTURE)), MULTIPART, "in no known characters"),
    ],
    ids=[
        *("nothing", "typed", "empty file", "empty form", "no part", "field"),
        *("unknown field", "known fields", "name of a file", "long field"),
        *("base64", "two", "three", "fields", "no boundary", "empty boundary", "other boundary", "cut short"),
        *(
            "second cut short",
            "no name",
            "gzip cut short",
            "no gzip",
            "gzip of nothing",
            "no charset",
            "no host",
        ),
    ],
)
def test_a_body_that_is_no_single_image(body: bytes, headers: dict[str, str], said: str) -> None:
    response = send(APP, "POST", PATH, content=body, headers=headers)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert said in response.json()["detail"]


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
            "query_string": b"",
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
    zipped = send(
        APP, "POST", PATH, content=gzip.compress(bytes(LIMIT)), headers={"content-encoding": "gzip"}
    )
    assert len(zipped.content) == LIMIT


def test_members_of_nothing_are_a_body_too_large() -> None:
    empty = gzip.compress(b"")

    async def members() -> AsyncIterator[bytes]:
        """Whose length nobody knows before."""
        for _ in range(LIMIT // len(empty) + 1):
            yield empty

    answer = send(APP, "POST", PATH, content=members(), headers={"content-encoding": "gzip"})
    assert answer.status_code == 413


def test_a_bomb_is_refused_before_it_is_large() -> None:
    """Of 100 MiB, in one chunk of 100 kB."""
    deflated = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    zeros = bytes(1 << 20)
    bomb = b"".join(deflated.compress(zeros) for _ in range(100)) + deflated.flush()
    tracemalloc.start()
    try:
        answer = send(APP, "POST", PATH, content=bomb, headers={"content-encoding": "gzip"})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.status_code == 413
    assert "at most 2,000 bytes are allowed" in answer.json()["detail"]
    assert peak < 20 << 20


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "compress", "gzip, br", "gzip, gzip", "rain"])
def test_what_cannot_be_inflated_is_refused_by_name(encoding: str) -> None:
    answer = send(APP, "POST", PATH, content=PICTURE, headers={"content-encoding": encoding})
    assert answer.status_code == 415
    assert repr(encoding) in answer.json()["detail"]
    assert answer.headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("query", "seen"),
    [
        ("", {"strength": ["0"], "format": ["png"]}),
        ("?strength=1", {"strength": ["1"], "format": ["png"]}),
        ("?strength=1&format=&model=a%2Bb", {"strength": ["1"], "format": [""], "model": ["a+b"]}),
    ],
)
def test_a_form_s_fields_are_parameters_and_the_query_wins(query: str, seen: dict[str, list[str]]) -> None:
    body = form(('name="strength"', b"0"), FILE, ('name="format"\r\nContent-Type: text/plain', b"png"))
    answer = send(APP, "POST", PATH + query, content=body, headers=MULTIPART)
    assert parse_qs(answer.headers["x-query"], keep_blank_values=True) == seen


def test_a_caller_who_disconnects_is_answered_all_the_same() -> None:
    """BentoML's TimeoutMiddleware, around this one, waits for an answer, and a shutdown for that."""
    caller = Connection(b"half", disconnects_after=2)
    caller.run()
    assert caller.pulled == 2
    assert caller.sent[0]["status"] == 400


def test_a_caller_who_disconnects_is_no_longer_worked_for() -> None:
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


def test_what_is_wrong_without_the_body_is_said_before_it_is_read() -> None:
    def refuse(_request: Request) -> None:
        raise ParameterError("there is no parameter 'rain'")

    caller = Connection(bytes(10))
    caller.run(to=app(check=refuse))
    assert caller.pulled == 0
    assert caller.sent[0]["status"] == 400
    assert b"'rain'" in caller.sent[1]["body"]


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
