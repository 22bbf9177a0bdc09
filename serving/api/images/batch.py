"""POST /v1/derain/batch: a form of files in, a zip or a multipart answer out, errors per file."""

import asyncio
import io
import json
import secrets
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import PurePosixPath

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import StreamingResponse

from derain.errors import DerainError, EmptyImageError
from serving.api.images.forms import File, is_form, read_form
from serving.api.images.multipart import MULTIPART, end_of, part_of
from serving.api.images.negotiation import choose_media_type
from serving.api.images.parameters import read_options, with_fields
from serving.api.problems import MEDIA_TYPE, Problem, reject
from serving.api.services import services_of
from serving.errors import UploadError
from serving.operations.request_record import RequestRecord, record_of
from serving.pipeline.job import DerainedFile, Job
from serving.pipeline.options import Options
from serving.pipeline.pipeline import Pipeline

ZIP = "application/zip"


@dataclass(frozen=True)
class Batch:
    files: list[File]
    options: Options


@dataclass(frozen=True)
class Part:
    """What became of one file."""

    name: str  # in the answer
    media_type: str
    data: bytes
    summary: dict[str, str | int]


def check_batch(request: Request) -> None:
    """Raises NotAcceptableError, ParameterError, UnknownModelError and UploadError."""
    _media_type(request)
    _options(request, request.query_params)
    if not is_form(request.headers):
        raise UploadError("a batch is a multipart form of files; send one image to /v1/derain")


async def read_batch(request: Request, body: bytes) -> Batch:
    """Raises the errors of `read_form`, ParameterError and UnknownModelError."""
    max_files = services_of(request).settings.max_files
    form = await asyncio.to_thread(read_form, request.headers, body, max_files)
    record_of(request.scope).charge(len(form.files) - 1)
    return Batch(form.files, _options(request, with_fields(request.query_params, form.fields)))


async def derain_batch(request: Request, batch: Batch) -> StreamingResponse:
    """Images are derained one after the other, and sent as they are done."""
    parts = _parts(batch, services_of(request).pipeline, record_of(request.scope))
    return _zipped(parts) if _media_type(request) == ZIP else _mixed(parts)


def _media_type(request: Request) -> str:
    return choose_media_type(request.headers.get("accept"), (ZIP, MULTIPART))


def _options(request: Request, query: QueryParams) -> Options:
    """Raises ParameterError and UnknownModelError."""
    options = read_options(query)
    services_of(request).models.get(options.model)
    return options


async def _parts(batch: Batch, pipeline: Pipeline, record: RequestRecord) -> AsyncIterator[Part]:
    taken: set[str] = set()
    for number, file in enumerate(batch.files, 1):
        name = PurePosixPath(file.name.replace("\\", "/")).name or f"image-{number}"
        one = RequestRecord(f"{record.id}.{number}", record.key)
        try:
            part = _image_part(file, name, await _derain(file, batch.options, pipeline, one))
        except DerainError as error:
            part = _problem_part(file, name, reject(error, one))
        yield replace(part, name=_untaken(part.name, taken))


async def _derain(file: File, options: Options, pipeline: Pipeline, record: RequestRecord) -> DerainedFile:
    if not file.data:
        raise EmptyImageError("no image: the file is empty")
    header = await pipeline.read_header(file.data)
    target = options.target or header.format.answer_format
    return await pipeline.derain(Job(file.data, header, target, options, record))


def _image_part(file: File, name: str, done: DerainedFile) -> Part:
    if not name.lower().endswith(done.format.suffixes):
        name = PurePosixPath(name).stem + done.format.suffixes[0]
    summary: dict[str, str | int] = {
        "file": file.name,
        "status": HTTPStatus.OK.value,
        "model": done.model,
    }
    if done.rain_found is not None:
        summary["rain"] = "found" if done.rain_found else "none"
    if done.dropped:
        summary["dropped"] = ", ".join(done.dropped)
    return Part(name, done.format.media_type, done.data, summary)


def _problem_part(file: File, name: str, problem: Problem) -> Part:
    summary: dict[str, str | int] = {
        "file": file.name,
        "status": problem.status.value,
        "type": problem.type.uri,
        "detail": problem.detail,
    }
    return Part(f"{name}.problem.json", MEDIA_TYPE, problem.body, summary)


def _zipped(parts: AsyncIterator[Part]) -> StreamingResponse:
    headers = {"content-disposition": 'attachment; filename="derained.zip"'}
    return StreamingResponse(_zip(parts), media_type=ZIP, headers=headers)


async def _zip(parts: AsyncIterator[Part]) -> AsyncIterator[bytes]:
    """Images do not become smaller in a zip: they are stored. `results.json` says what became of each."""
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
