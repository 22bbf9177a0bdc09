"""Request bodies: bounded one by one and together while they arrive, compressed ones as well."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.datastructures import MutableHeaders, QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from derain.errors import DerainError, EmptyImageError
from serving.exchange import exchange_of, reject
from serving.forms import is_form, read_form
from serving.metrics import BUFFERED
from serving.parameters import with_fields
from serving.problems import (
    ACCEPTED_ENCODINGS,
    BusyError,
    EncodingError,
    HungUpError,
    UploadError,
    UploadTimeoutError,
    UploadTooLargeError,
)

ROUTE = "/v1/derain"

_GZIP = 16 + zlib.MAX_WBITS
_PIECE_BYTES = 1 << 20

T = TypeVar("T")


class Buffer:
    """How many bytes of uploads may be in memory together, of one process."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._taken = 0

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """Of one request; all of it is given back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            self.give_back(share.taken)

    def take(self, count: int) -> None:
        """Raises BusyError where that would be too many."""
        if self._taken + count > self._most:
            raise BusyError(f"{self._taken:,} bytes of pictures are in memory already; try again in a moment")
        self._taken += count
        BUFFERED.inc(count)

    def give_back(self, count: int) -> None:
        self._taken -= count
        BUFFERED.dec(count)


class Share:
    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self.taken = 0

    def take(self, count: int) -> None:
        self._buffer.take(count)
        self.taken += count


@dataclass(frozen=True)
class Limits:
    max_bytes: int  # of one body
    timeout_s: float  # for it to arrive


class Uploads:
    """Middleware: what is behind it sees a POST with the bytes of one picture, its parameters in the query.

    The body is read here, at most `max_bytes` of it. A caller who hangs up ends the work for him, as
    far as it can be ended. Every request is answered, even one that nobody waits for: BentoML's timeout
    middleware, around this one, hangs without an answer.
    """

    def __init__(self, app: ASGIApp, limits: Limits, buffer: Buffer) -> None:
        self.app = app
        self.limits = limits
        self.buffer = buffer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != ROUTE:
            await self.app(scope, receive, send)
            return
        started = False

        async def send_noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        with self.buffer.share() as share:
            try:
                body, query = await read_picture(Request(scope, receive), self.limits, share)
                inner = _as_raw(scope, len(body), query)
                await unless_hung_up(self._pass_on(inner, body, send_noted), receive)
            except DerainError as error:
                problem = reject(error, exchange_of(scope))
                if not started:
                    await problem.response()(scope, receive, send)

    async def _pass_on(self, scope: Scope, body: bytes, send: Send) -> None:
        sent = False

        async def receive_body() -> Message:
            nonlocal sent
            if sent:
                await asyncio.get_running_loop().create_future()  # for ever: `unless_hung_up` listens
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, receive_body, send)


async def unless_hung_up(answering: Coroutine[Any, Any, T], receive: Receive) -> T:
    """Awaits the answer; when the caller hangs up before, cancels it and raises HungUpError."""
    work = asyncio.ensure_future(answering)
    ended = asyncio.ensure_future(_hung_up(receive))
    try:
        await asyncio.wait((work, ended), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            await asyncio.wait((work,))
            if work.cancelled():
                raise HungUpError("the caller hung up")
        return work.result()
    finally:
        for task in (work, ended):
            task.cancel()


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def read_picture(request: Request, limits: Limits, share: Share) -> tuple[bytes, QueryParams]:
    """The picture that a request carries, and its parameters.

    Raises the errors of `read_body` and `read_form`, and EmptyImageError.
    """
    body, query = await read_body(request, limits, share), request.query_params
    if is_form(request.headers):
        form = await asyncio.to_thread(read_form, request.headers, body, max_files=1)
        body, query = form.files[0].data, with_fields(query, form.fields)
    if not body:
        raise EmptyImageError("no picture: the body is empty")
    return body, query


async def read_body(request: Request, limits: Limits, share: Share) -> bytes:
    """Without its Content-Encoding, and that counts.

    Raises UploadTooLargeError, UploadTimeoutError, BusyError, HungUpError and the errors of `_decoded`.
    """
    too_large = UploadTooLargeError(f"the body is too large: at most {limits.max_bytes:,} bytes are allowed")
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limits.max_bytes:
        raise too_large
    chunks = []
    try:
        async with asyncio.timeout(limits.timeout_s):
            async for chunk in _decoded(request):
                if share.taken + len(chunk) > limits.max_bytes:
                    raise too_large
                share.take(len(chunk))
                chunks.append(chunk)
    except TimeoutError:
        raise UploadTimeoutError(f"the body did not arrive within {limits.timeout_s:g} s") from None
    except ClientDisconnect:
        raise HungUpError("the caller hung up before the whole body had arrived") from None
    return b"".join(chunks)


async def _decoded(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes, without its Content-Encoding; raises EncodingError, UploadError for bad gzip."""
    encoding = ", ".join(request.headers.getlist("content-encoding")).strip().lower()
    if encoding in ("", "identity"):
        async for chunk in request.stream():
            yield chunk
    elif encoding in ("gzip", "x-gzip"):
        inflater = _Inflater()
        async for chunk in request.stream():
            while chunk:
                piece, chunk = await asyncio.to_thread(inflater.inflate, chunk)
                yield piece
        inflater.end()
    else:
        raise EncodingError(
            f"the body is encoded as {encoding!r}: "
            f"send it as it is, or with Content-Encoding: {ACCEPTED_ENCODINGS}"
        )


class _Inflater:
    """Undoes gzip, of one member or several (RFC 1952), by pieces: a bomb is noticed before it is large."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._is_begun = False  # a member that has not ended

    def inflate(self, chunk: bytes) -> tuple[bytes, bytes]:
        """A piece of what is in the chunk, and the rest of the chunk; raises UploadError."""
        try:
            piece = self._member.decompress(chunk, _PIECE_BYTES)
        except zlib.error as error:
            raise UploadError(
                "the body is not in gzip, as Content-Encoding says, or it is damaged"
            ) from error
        self._is_begun = not self._member.eof
        if self._is_begun:
            return piece, self._member.unconsumed_tail
        rest = self._member.unused_data
        self._member = zlib.decompressobj(_GZIP)
        return piece, rest

    def end(self) -> None:
        """Raises UploadError where something is missing."""
        if self._is_begun:
            raise UploadError("the body in gzip is cut short")


def _as_raw(scope: Scope, length: int, query: QueryParams) -> Scope:
    raw = {**scope, "headers": list(scope["headers"]), "query_string": str(query).encode()}
    headers = MutableHeaders(scope=raw)
    headers["content-type"] = "application/octet-stream"
    headers["content-length"] = str(length)
    del headers["transfer-encoding"]
    del headers["content-encoding"]
    return raw
