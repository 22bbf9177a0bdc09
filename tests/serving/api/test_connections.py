"""The connections themselves, of a server of uvicorn's in a thread, without the service."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.config import HTTP_PROTOCOLS

from serving.api.connections import Connection, use_connections
from serving.settings import Settings

BODY = bytes(range(256)) * 2000
LONG_ENOUGH_S = 30


class Ending:
    """How the answers ended that were never sent."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.hung_up = threading.Event()

    async def wait_for_nothing(self, request: Request) -> Response:
        await request.body()
        self.begun.set()
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.hung_up.set()
        return Response()


ENDING = Ending()


async def _echo(request: Request) -> Response:
    body = await request.body()
    return Response(body, headers={"x-path": f"{request.url.path}?{request.url.query}"})


async def _echo_late(request: Request) -> Response:
    body = await request.body()
    await asyncio.sleep(0.2)  # several probes
    return Response(body)


APP = Starlette(
    routes=[
        Route("/echo", _echo, methods=["GET", "POST"]),
        Route("/late", _echo_late, methods=["POST"]),
        Route("/never", ENDING.wait_for_nothing, methods=["POST"]),
    ]
)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "keep_alive_s", Connection.keep_alive_s)
        patch.setitem(HTTP_PROTOCOLS, "auto", HTTP_PROTOCOLS["auto"])
        use_connections(keep_alive_s=1)
        yield from _served()


def _served() -> Iterator[int]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    # As BentoML has it, which names neither a protocol nor a time of ours.
    config = uvicorn.Config(APP, log_config=None, lifespan="off", timeout_keep_alive=3600)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def request(path: str = "/echo", *lines: str, body: bytes = BODY, version: str = "1.1") -> bytes:
    head = [f"POST {path} HTTP/{version}", "Host: rain", f"Content-Length: {len(body)}", *lines, "", ""]
    return "\r\n".join(head).encode() + body


def answers(port: int, sent: bytes, half_closed: bool = True) -> bytes:
    """All that comes until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=LONG_ENOUGH_S) as caller:
        caller.sendall(sent)
        if half_closed:
            caller.shutdown(socket.SHUT_WR)
        pieces = []
        while piece := caller.recv(1 << 16):
            pieces.append(piece)
        return b"".join(pieces)


def assert_echoed(answer: bytes) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == BODY


UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
WEBSOCKET = ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13")


@pytest.mark.parametrize("upgrade", ["h2c", "websocket", "TLS/1.2, HTTP/1.1", "rain"])
def test_a_body_is_not_lost_to_an_upgrade_that_is_not_taken(port: int, upgrade: str) -> None:
    asking = request("/echo", *UPGRADE, *WEBSOCKET, f"Upgrade: {upgrade}")
    assert_echoed(answers(port, asking))
    # The connection goes on as it is: one more on the same.
    both = answers(port, asking + request("/echo", "Connection: close"), half_closed=False)
    assert both.count(b"HTTP/1.1 200 OK") == 2
    assert both.count(BODY) == 2


def test_a_head_may_come_in_pieces(port: int) -> None:
    sent = request("/echo", *UPGRADE, "Upgrade: h2c")
    with socket.create_connection(("127.0.0.1", port), timeout=LONG_ENOUGH_S) as caller:
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, 200, 9):
            caller.sendall(sent[start : start + 9])
            time.sleep(0.002)  # or the kernel would put them together
        caller.sendall(sent[207:])
        caller.shutdown(socket.SHUT_WR)
        assert_echoed(b"".join(iter(lambda: caller.recv(1 << 16), b"")))


@pytest.mark.parametrize("path", ["/echo", "/late"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_who_sends_no_more_gets_the_answer(port: int, path: str, version: str) -> None:
    assert_echoed(answers(port, request(path, version=version)))


def test_who_sends_no_more_gets_all_answers(port: int) -> None:
    late, at_once = request("/late"), request("/echo")
    assert answers(port, late + at_once).count(BODY) == 2


@pytest.mark.parametrize("length", [20, 200, len(BODY)], ids=["head", "body", "more"])
def test_half_a_request_after_one_is_no_request(port: int, length: int) -> None:
    first, _, rest = answers(port, request("/late") + request()[:length]).partition(BODY)
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert (b"before the whole body had arrived" in rest) == (
        length > 20
    )  # of less than a head nothing is known
    assert rest.count(b"HTTP/1.1") == (length > 20)


def test_who_is_gone_is_noticed(port: int) -> None:
    ENDING.begun.clear()
    with socket.create_connection(("127.0.0.1", port)) as caller:
        caller.sendall(request("/never"))
        assert ENDING.begun.wait(LONG_ENOUGH_S)
        assert not ENDING.hung_up.is_set()
    assert ENDING.hung_up.wait(LONG_ENOUGH_S)


def test_who_closes_in_the_middle_of_a_body_is_told(port: int) -> None:
    answer = answers(port, request()[:-1])
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"before the whole body had arrived" in answer
    assert b'"/errors#disconnected"' in answer


@pytest.mark.parametrize(
    "sent",
    [
        b"rain\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"CONNECT rain:443 HTTP/1.1\r\nHost: rain\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: rain\r\nTransfer-Encoding: chunked\r\n\r\nrain\r\n",
        b"POST /echo HTTP/1.1\r\nHost: rain\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    ],
    ids=["word", "tls", "connect", "chunk", "lengths"],
)
def test_what_is_no_http_is_told_so_by_a_problem(port: int, sent: bytes) -> None:
    answer = answers(port, sent, half_closed=False)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-type: application/problem+json" in answer
    assert b'"type": "/errors#malformed-request"' in answer


@pytest.mark.parametrize("header", [b"x: " + b"a" * 70_000, b"a:b\r\n" * 14_000], ids=["long", "many"])
def test_headers_have_a_limit(port: int, header: bytes) -> None:
    """Beyond it a connection takes memory and the time of all others, before any key is asked for."""
    head = b"GET /echo HTTP/1.1\r\nhost: rain\r\n"
    assert b"200 OK" in answers(port, head + header + b"\r\n\r\n")
    answer = answers(port, (head + 3 * header)[: 131_072 + 1], half_closed=False)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"headers have more than 131,072 bytes" in answer


def test_a_body_is_no_head(port: int) -> None:
    assert_echoed(answers(port, request(body=BODY)))
    large = bytes(1_000_000)
    assert answers(port, request(body=large)).endswith(large)


def test_what_is_no_http_after_a_request_leaves_the_answer(port: int) -> None:
    assert_echoed(answers(port, request("/late") + b"rain\r\n\r\n", half_closed=False))


def test_an_address_with_its_host_is_that_path(port: int) -> None:
    assert b"x-path: /echo?a=1\r\n" in answers(port, request("http://rain:1/echo?a=1"))


def test_an_idle_connection_is_kept_as_long_as_is_set(port: int) -> None:
    """The fixture sets a second; uvicorn was told an hour, for which nobody here waits."""
    assert_echoed(answers(port, request(), half_closed=False))


def test_by_default_it_is_kept_longer_than_by_a_proxy() -> None:
    """Of 75 s, nginx's and others': who closes first must be the one that sends, or a request is lost."""
    assert Settings().keep_alive_s > 75


def test_chunks_trailers_and_expectations(port: int) -> None:
    chunks = b"".join(b"%x;a=b\r\n%b\r\n" % (len(piece), piece) for piece in (BODY[:9], BODY[9:]))
    head = b"POST /echo HTTP/1.1\r\nHost: rain\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    assert_echoed(answers(port, head + chunks + b"0\r\nX-Sum: 1\r\n\r\n"))
    expecting = answers(port, request("/echo", "Expect: 100-continue"))
    interim, _, rest = expecting.partition(b"\r\n\r\n")
    assert interim.startswith(b"HTTP/1.1 100 ")
    assert_echoed(rest)
