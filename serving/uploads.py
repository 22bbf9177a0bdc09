"""Request bodies: bounded one by one and together while they arrive, and forms taken apart."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.datastructures import Headers, MutableHeaders, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from derain.errors import DerainError, EmptyImageError
from serving.exchange import exchange_of, reject
from serving.metrics import BUFFERED
from serving.problems import (
    BusyError,
    HungUpError,
    UploadError,
    UploadTimeoutError,
    UploadTooLargeError,
)

ROUTE = "/v1/derain"

_MOST_FIELDS = 16

T = TypeVar("T")


@dataclass(frozen=True)
class File:
    """One of a form."""

    name: str
    data: bytes


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
    """Middleware: what is behind it sees a POST with the bytes of one picture, and nothing else.

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
                body = await read_picture_bytes(Request(scope, receive), self.limits, share)
                await unless_hung_up(self._pass_on(scope, body, send_noted), receive)
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

        await self.app(_as_raw(scope, len(body)), receive_body, send)


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


async def read_picture_bytes(request: Request, limits: Limits, share: Share) -> bytes:
    """The picture that a request carries; raises the errors of `read_body` and EmptyImageError."""
    body = await read_body(request, limits, share)
    if is_form(request.headers):
        files = await files_of(request.headers, body, most=1)
        body = files[0].data
    if not body:
        raise EmptyImageError("no picture: the body is empty")
    return body


async def read_body(request: Request, limits: Limits, share: Share) -> bytes:
    """Raises UploadTooLargeError, UploadTimeoutError, BusyError or HungUpError."""
    too_large = UploadTooLargeError(f"the body is too large: at most {limits.max_bytes:,} bytes are allowed")
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limits.max_bytes:
        raise too_large
    chunks = []
    try:
        async with asyncio.timeout(limits.timeout_s):
            async for chunk in request.stream():
                if share.taken + len(chunk) > limits.max_bytes:
                    raise too_large
                share.take(len(chunk))
                chunks.append(chunk)
    except TimeoutError:
        raise UploadTimeoutError(f"the body did not arrive within {limits.timeout_s:g} s") from None
    except ClientDisconnect:
        raise HungUpError("the caller hung up before the whole body had arrived") from None
    return b"".join(chunks)


def is_form(headers: Headers) -> bool:
    return headers.get("content-type", "").lower().startswith("multipart/form-data")


async def files_of(headers: Headers, body: bytes, most: int) -> list[File]:
    """The files of a form, at least one; raises UploadError. In a thread: large forms take a while."""
    return await asyncio.to_thread(lambda: asyncio.run(_take_apart(headers, body, most)))


class _Parser(MultiPartParser):
    """Starlette's, which forgets the file of a part that is cut short."""

    def close_files(self) -> None:
        for file in self._files_to_close_on_error:
            file.close()


async def _take_apart(headers: Headers, body: bytes, most: int) -> list[File]:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        # One more than may be: to say how many there are is better than to say that it is too many.
        parser = _Parser(headers, stream(), max_files=most + 1, max_fields=_MOST_FIELDS)
        parser.spool_max_size = len(body)  # what is in memory already need not go to a disk
        form = await parser.parse()
    except (MultiPartException, LookupError, ValueError) as error:
        raise UploadError(f"the multipart form cannot be read: {error}") from error
    try:
        parts = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if not 1 <= len(parts) <= most:
            allowed = "one picture" if most == 1 else f"1 to {most} pictures"
            raise UploadError(f"the multipart form has {len(parts)} files: send {allowed}")
        return [File(part.filename or "", await part.read()) for part in parts]
    finally:
        parser.close_files()


def _as_raw(scope: Scope, length: int) -> Scope:
    raw = {**scope, "headers": list(scope["headers"])}
    headers = MutableHeaders(scope=raw)
    headers["content-type"] = "application/octet-stream"
    headers["content-length"] = str(length)
    del headers["transfer-encoding"]
    return raw
