"""Request bodies: bounded while they arrive, and a multipart form becomes its one file."""

from collections.abc import AsyncGenerator, AsyncIterator

from starlette.datastructures import Headers, MutableHeaders, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from derain.errors import DerainError, EmptyImageError
from serving.problems import UploadError, UploadTooLargeError, problem_of

ROUTE = "/v1/derain"


class Uploads:
    """Middleware: what is behind it sees a POST with the bytes of one picture, and nothing else.

    The body is read here, at most `max_bytes` of it. Every request is answered, even one that
    nobody waits for: BentoML's timeout middleware, around this one, hangs without an answer.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != ROUTE:
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            body = await read_picture_bytes(request, self.max_bytes)
        except DerainError as error:
            await problem_of(error).response()(scope, receive, send)
            return
        except ClientDisconnect:
            hung_up = UploadError("the caller hung up before the whole body had arrived")
            await problem_of(hung_up).response()(scope, receive, send)
            return
        sent = False

        async def receive_body() -> Message:
            nonlocal sent
            if sent:
                return await receive()  # waits for the caller to hang up
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(_as_raw(scope, len(body)), receive_body, send)


async def read_picture_bytes(request: Request, max_bytes: int) -> bytes:
    """The picture that a request carries; raises UploadTooLargeError, UploadError or EmptyImageError."""
    body = b"".join([chunk async for chunk in _limited(request, max_bytes)])
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        body = await _only_file(request.headers, body)
    if not body:
        raise EmptyImageError("no picture: the body is empty")
    return body


async def _limited(request: Request, max_bytes: int) -> AsyncIterator[bytes]:
    too_large = UploadTooLargeError(f"the body is too large: at most {max_bytes:,} bytes are allowed")
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise too_large
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > max_bytes:
            raise too_large
        yield chunk


async def _only_file(headers: Headers, body: bytes) -> bytes:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await MultiPartParser(headers, stream(), max_files=2, max_fields=16).parse()
    except (MultiPartException, LookupError, ValueError) as error:
        raise UploadError(f"the multipart form cannot be read: {error}") from error
    try:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if len(files) != 1:
            raise UploadError(f"the multipart form has {len(files)} files: send one picture")
        return await files[0].read()
    finally:
        await form.close()


def _as_raw(scope: Scope, length: int) -> Scope:
    raw = {**scope, "headers": list(scope["headers"])}
    headers = MutableHeaders(scope=raw)
    headers["content-type"] = "application/octet-stream"
    headers["content-length"] = str(length)
    del headers["transfer-encoding"]
    return raw
