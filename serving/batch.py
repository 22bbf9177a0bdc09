"""Several pictures in one request: a form of files in, a zip or a multipart answer out, errors per file."""

import asyncio
import io
import json
import secrets
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import PurePosixPath

from starlette.datastructures import QueryParams
from starlette.requests import Request as HttpRequest
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from derain.errors import DerainError, EmptyImageError
from serving.exchange import Exchange, exchange_of, reject
from serving.forms import File, is_form, read_form
from serving.multipart import MULTIPART, end_of, part_of
from serving.negotiation import choose_media_type
from serving.parameters import read_parameters, with_fields
from serving.pipeline import Pipeline, Request
from serving.problems import MEDIA_TYPE, UploadError
from serving.uploads import Buffer, Limits, read_body, unless_hung_up

ROUTE = "/v1/derain/batch"
ZIP = "application/zip"


@dataclass(frozen=True)
class Part:
    """What became of one file."""

    name: str  # in the answer
    media_type: str
    data: bytes
    summary: dict[str, str | int]


class Batches:
    """The route as an ASGI app: pictures are derained one after the other, and sent as they are done."""

    def __init__(self, pipeline: Pipeline, limits: Limits, buffer: Buffer, max_files: int) -> None:
        self._pipeline = pipeline
        self._limits = limits
        self._buffer = buffer
        self._max_files = max_files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        http = HttpRequest(scope, receive)
        with self._buffer.share() as share:
            try:
                media_type = choose_media_type(http.headers.get("accept"), (ZIP, MULTIPART))
                self._request(http.query_params)  # before the body: what is wrong with it is said at once
                if not is_form(http.headers):
                    raise UploadError("a batch is a multipart form of files; send one picture to /v1/derain")
                body = await read_body(http, self._limits, share)
                form = await asyncio.to_thread(read_form, http.headers, body, self._max_files)
                request = self._request(with_fields(http.query_params, form.fields))
            except DerainError as error:
                await reject(error, exchange_of(scope)).response()(scope, receive, send)
                return
            del body
            parts = self._parts(form.files, request, exchange_of(scope))
            response = _zipped(parts) if media_type == ZIP else _mixed(parts)
            await unless_hung_up(response(scope, receive, send), receive)

    def _request(self, query: QueryParams) -> Request:
        """Raises ParameterError and UnknownModelError."""
        request = Request(read_parameters(query))
        self._pipeline.models.get(request.parameters.model)
        return request

    async def _parts(self, files: list[File], request: Request, exchange: Exchange) -> AsyncIterator[Part]:
        taken: set[str] = set()
        for number, file in enumerate(files, 1):
            name = PurePosixPath(file.name.replace("\\", "/")).name or f"picture-{number}"
            one = Exchange(f"{exchange.id}.{number}", exchange.key)
            try:
                if not file.data:
                    raise EmptyImageError("no picture: the file is empty")
                derained = await self._pipeline.derain(file.data, request, one)
            except DerainError as error:
                problem = reject(error, one)
                yield Part(
                    _untaken(f"{name}.problem.json", taken),
                    MEDIA_TYPE,
                    problem.body,
                    {
                        "file": file.name,
                        "status": problem.status.value,
                        "type": problem.type.uri,
                        "detail": problem.detail,
                    },
                )
            else:
                if not name.lower().endswith(derained.format.suffixes):
                    name = PurePosixPath(name).stem + derained.format.suffixes[0]
                summary: dict[str, str | int] = {
                    "file": file.name,
                    "status": HTTPStatus.OK.value,
                    "model": derained.model,
                }
                if derained.rain_found is not None:
                    summary["rain"] = "found" if derained.rain_found else "none"
                if derained.dropped:
                    summary["dropped"] = ", ".join(derained.dropped)
                yield Part(
                    _untaken(name, taken),
                    derained.format.media_type,
                    derained.data,
                    summary,
                )


def _zipped(parts: AsyncIterator[Part]) -> StreamingResponse:
    headers = {"content-disposition": 'attachment; filename="derained.zip"'}
    return StreamingResponse(_zip(parts), media_type=ZIP, headers=headers)


async def _zip(parts: AsyncIterator[Part]) -> AsyncIterator[bytes]:
    """Pictures do not become smaller in a zip: they are stored. `results.json` says what became of each."""
    written = _Drain()
    results = []
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as archive:
        async for part in parts:
            archive.writestr(part.name, part.data)
            results.append({**part.summary, "name": part.name})
            yield written.take()
        archive.writestr("results.json", json.dumps(results, indent=1))
    yield written.take()


def _mixed(parts: AsyncIterator[Part]) -> StreamingResponse:
    boundary = secrets.token_hex(16)
    return StreamingResponse(_multipart(parts, boundary), media_type=f"{MULTIPART}; boundary={boundary}")


async def _multipart(parts: AsyncIterator[Part], boundary: str) -> AsyncIterator[bytes]:
    async for part in parts:
        name = "".join(" " if letter in '"\\' or ord(letter) < 32 else letter for letter in part.name)
        disposition = f'attachment; filename="{name}"'
        headers = {"content-type": part.media_type, "content-disposition": disposition}
        yield part_of(boundary, headers, part.data)
    yield end_of(boundary)


class _Drain(io.RawIOBase):
    """A file that keeps only what has not been taken yet."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, piece: object) -> int:
        data = bytes(piece)  # type: ignore[call-overload]
        self._pieces.append(data)
        return len(data)

    def take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


def _untaken(name: str, taken: set[str]) -> str:
    """The name, or another one where an earlier file has it; `results.json` is ours."""
    path = PurePosixPath(name)
    others = (f"{path.stem}-{number}{path.suffix}" for number in range(2, 10_000))
    free = next(other for other in (name, *others) if other not in {*taken, "results.json"})
    taken.add(free)
    return free
