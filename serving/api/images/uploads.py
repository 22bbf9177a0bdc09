"""Request bodies: bounded one by one and together while they arrive, compressed ones as well."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Generic, NoReturn, TypeVar

from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from derain.errors import EmptyImageError
from serving.api.images.forms import is_form, read_form
from serving.api.images.parameters import with_fields
from serving.api.images.upload_buffer import Share
from serving.api.problems import ACCEPTED_ENCODINGS
from serving.api.services import services_of
from serving.errors import (
    DisconnectedError,
    EncodingError,
    UploadError,
    UploadTimeoutError,
    UploadTooLargeError,
)
from serving.settings import Settings

_GZIP = 16 + zlib.MAX_WBITS
_PIECE_BYTES = 1 << 20

T = TypeVar("T")


class UploadRoute(Generic[T]):
    """An endpoint with a body. What can be checked without it is checked first; then the body arrives, is
    read, and answered.

    It counts as held in memory until the answer is out. A caller who disconnects ends the work for it, as
    far as it can be ended.
    """

    def __init__(
        self,
        check: Callable[[Request], object],
        read: Callable[[Request, bytes], Awaitable[T]],
        answer: Callable[[Request, T], Awaitable[Response]],
    ) -> None:
        self._check = check
        self._read = read
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises the errors of its three parts and of `read_body`, and DisconnectedError."""
        request = Request(scope, receive)
        services = services_of(request)
        self._check(request)
        with services.upload_buffer.share() as share:
            upload = await self._read(request, await read_body(request, services.settings, share))
            await unless_disconnected(self._respond(request, upload, send), receive)

    async def _respond(self, request: Request, upload: T, send: Send) -> None:
        response = await self._answer(request, upload)
        await response(request.scope, _nothing_more, send)


async def _nothing_more() -> NoReturn:
    """Of a body that has been read; `unless_disconnected` is who listens."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("a future that nobody ends has ended")


async def unless_disconnected(answering: Coroutine[Any, Any, T], receive: Receive) -> T:
    """Awaits the answer; when the caller disconnects before, cancels it and raises DisconnectedError."""
    work = asyncio.ensure_future(answering)
    ended = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((work, ended), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            await asyncio.wait((work,))
            if work.cancelled():
                raise DisconnectedError("the caller hung up")
        return work.result()
    finally:
        for task in (work, ended):
            task.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def read_image(request: Request, body: bytes) -> tuple[bytes, QueryParams]:
    """The image that a body is, or that a form holds, and its parameters.

    Raises the errors of `read_form`, and EmptyImageError.
    """
    query = request.query_params
    if is_form(request.headers):
        form = await asyncio.to_thread(read_form, request.headers, body, max_files=1)
        body, query = form.files[0].data, with_fields(query, form.fields)
    if not body:
        raise EmptyImageError("no image: the body is empty")
    return body, query


async def read_body(request: Request, limits: Settings, share: Share) -> bytes:
    """Without its Content-Encoding, and that counts.

    Raises UploadTooLargeError, UploadTimeoutError, BusyError, DisconnectedError and the errors of `_decoded`.
    """
    too_large = UploadTooLargeError(f"the body is too large: at most {limits.max_bytes:,} bytes are allowed")
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limits.max_bytes:
        raise too_large
    chunks = []
    try:
        async with asyncio.timeout(limits.upload_timeout_s):
            async for chunk in _decoded(request, limits.max_bytes, too_large):
                if share.taken + len(chunk) > limits.max_bytes:
                    raise too_large
                share.take(len(chunk))
                chunks.append(chunk)
    except TimeoutError:
        raise UploadTimeoutError(f"the body did not arrive within {limits.upload_timeout_s:g} s") from None
    except ClientDisconnect:
        raise DisconnectedError("the caller hung up before the whole body had arrived") from None
    return b"".join(chunks)


async def _decoded(request: Request, max_bytes: int, too_large: UploadTooLargeError) -> AsyncIterator[bytes]:
    """The body as it comes, without its Content-Encoding; raises EncodingError, UploadError for bad gzip.

    Raises `too_large` for more gzip than bytes are allowed: empty members make nothing of any length.
    """
    encoding = ", ".join(request.headers.getlist("content-encoding")).strip().lower()
    if encoding in ("", "identity"):
        async for chunk in request.stream():
            yield chunk
    elif encoding in ("gzip", "x-gzip"):
        inflater, received = _Inflater(), 0
        async for chunk in request.stream():
            received += len(chunk)
            if received > max_bytes:
                raise too_large
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
        """A piece of what is in the chunk, and the rest of the chunk; raises UploadError.

        Members of nothing, or of a byte, are taken together: each call is a step to another thread.
        """
        pieces, size = [], 0
        while chunk and size < _PIECE_BYTES:
            piece, chunk = self._inflate(chunk)
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces), chunk

    def _inflate(self, chunk: bytes) -> tuple[bytes, bytes]:
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
