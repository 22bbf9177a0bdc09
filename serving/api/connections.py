"""A caller's connection: what uvicorn's own loses, shuts too soon, or answers without a problem document."""

import asyncio
from typing import Any, ClassVar

import httptools
import uvicorn.config
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from serving.api.problems import MALFORMED, Problem, problem_of
from serving.errors import DisconnectedError

# All answers begin with these bytes, so that they can be sent before it is known how an answer goes on.
_HEAD = b"HTTP/1.1 "

# One byte of them at a time, at these intervals: what finds out whether anybody is left to read.
_PROBES_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
assert len(_PROBES_S) < len(_HEAD)

# Of a request's line and headers, and of what may follow a body. Proxies and browsers send less than 64 kB;
# the parser itself knows no limit, and takes longer the longer a header is.
_MAX_HEAD_BYTES = 131_072

_NO_HTTP = Problem(MALFORMED, "This is not a request of HTTP/1.1 that can be understood.")
_LONG_HEAD = Problem(MALFORMED, f"The request's headers have more than {_MAX_HEAD_BYTES:,} bytes.")
_CUT_SHORT = problem_of(DisconnectedError("the connection was closed before the whole body had arrived"))


class Connection(HttpToolsProtocol):
    """Of HTTP/1.1, by httptools.

    A request to go over to another protocol (`Upgrade: h2c`, which Java's HttpClient sends by itself) is
    answered as if it had not asked for that: nothing else is spoken here (RFC 9110, section 7.8).

    A caller who sends no more may still be waiting for the answer, or be gone: TCP does not say which. So
    the first bytes of the answer are sent at once, one by one. A peer that is gone refuses them, and the
    connection is lost; to one that waits they are what it waits for.
    """

    keep_alive_s: ClassVar[int] = 90  # for the next request on an open connection

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.timeout_keep_alive = self.keep_alive_s
        self._sends_no_more = False
        self._head_bytes = 0  # that came since a head, a piece of a body or a request ended

    def data_received(self, data: bytes) -> None:
        if self._head_bytes > _MAX_HEAD_BYTES or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        self._unset_keepalive_if_required()
        try:
            while data:
                data = self._parse(data)
        except httptools.HttpParserError:
            self._refuse(_NO_HTTP)
            return
        if self._head_bytes > _MAX_HEAD_BYTES:
            self._refuse(_LONG_HEAD)

    def _parse(self, data: bytes) -> bytes:
        """All of it; but where a request asks for an upgrade, after which the parser would read no body, what
        it is to read instead: the same request without that, and what follows."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            method, version = self.parser.get_method(), self.parser.get_http_version().encode()
            if method == b"CONNECT":  # means an upgrade whatever its headers say
                raise httptools.HttpParserError("no proxy") from None
            lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
            lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
            (end_of_head,) = upgrade.args
            self.parser = httptools.HttpRequestParser(self)
            return b"\r\n".join([*lines, b"", data[end_of_head:]])
        return b""

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def on_headers_complete(self) -> None:
        self._head_bytes = 0
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._head_bytes = 0
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's never keeps a connection
        """Keeps the connection for the answers that are still to come."""
        cycle = self.cycle  # the last one
        if cycle is None or cycle.response_complete or self.scheme == "https":  # where asyncio cannot keep it
            return False
        if cycle.more_body:
            self._refuse(_CUT_SHORT)
            return False
        self._sends_no_more = True
        if not cycle.response_started and not self.pipeline:
            cycle.transport = _Ahead(self.transport, self.loop)
        return True

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._sends_no_more and self.cycle.response_complete:
            self.transport.close()

    def _refuse(self, problem: Problem) -> None:
        """Answers in place of the app, unless that has begun to, and closes."""
        cycle = self.cycle
        is_answering = cycle is not None and not cycle.response_complete
        if is_answering and not cycle.more_body:
            cycle.keep_alive = False  # it is about what came after a whole request, whose answer goes first
            return
        if not (is_answering and cycle.response_started):
            lines = [b"%b: %b" % (name.encode(), value.encode()) for name, value in problem.headers.items()]
            length = b"content-length: %d" % len(problem.body)
            head = [STATUS_LINE[problem.status].rstrip(), *lines, length, b"connection: close", b"", b""]
            self.transport.write(b"\r\n".join(head) + problem.body)
        self.transport.close()


class _Ahead(asyncio.Transport):
    """A transport on which the beginning of an answer is sent before there is an answer."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._sent = 0
        self._intervals_s = iter(_PROBES_S)
        self._timer: asyncio.TimerHandle | None = None
        self._probe()

    def _probe(self) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(_HEAD[self._sent : self._sent + 1])
        self._sent += 1
        interval_s = next(self._intervals_s, None)
        self._timer = self._loop.call_later(interval_s, self._probe) if interval_s is not None else None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._timer is not None:
            self._timer.cancel()
        ahead, self._sent = self._sent, 0
        assert bytes(data[:ahead]) == _HEAD[:ahead]
        self._transport.write(data[ahead:])

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._transport.close()


def use_connections(keep_alive_s: int) -> None:
    """Makes uvicorn take them for all servers that name no others: BentoML, which starts ours, names none."""
    Connection.keep_alive_s = keep_alive_s
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{Connection.__name__}"
