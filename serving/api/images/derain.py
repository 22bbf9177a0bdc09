"""POST /v1/derain: one image in, the same without rain out."""

from starlette.requests import Request
from starlette.responses import Response

from serving.api.images.negotiation import choose_format
from serving.api.images.parameters import read_options
from serving.api.images.uploads import read_image
from serving.api.services import services_of
from serving.operations.request_record import RequestRecord, record_of
from serving.pipeline.job import DerainedFile, Job

_STAGES = ("queue", "decode", "infer", "monitor", "encode")  # the last two at the same time


def check_options(request: Request) -> None:
    """Raises ParameterError for what is wrong in the query."""
    read_options(request.query_params)


async def read_job(request: Request, body: bytes) -> Job:
    """Of a body that is one image, or a form with one and fields beside it.

    Raises the errors of `read_image`, `read_options`, `choose_format`, and of reading an image's header.
    """
    return await read_job_for(request.headers.get("accept"), request, body)


async def read_job_for(accept: str | None, request: Request, body: bytes) -> Job:
    """With another Accept header than that of the request."""
    image, query = await read_image(request, body)
    options = read_options(query)
    header = await services_of(request).pipeline.read_header(image)
    target = options.target or choose_format(accept, header.format)
    return Job(image, header, target, options, record_of(request.scope))


async def derain(request: Request, job: Job) -> Response:
    done = await services_of(request).pipeline.derain(job)
    return Response(done.data, headers=image_headers(done, job.record))


def image_headers(done: DerainedFile, record: RequestRecord) -> dict[str, str]:
    """Of the answer, but for its length."""
    spent_ms = record.stages_ms
    stages = ", ".join(f"{stage};dur={spent_ms[stage]:.1f}" for stage in _STAGES if stage in spent_ms)
    headers = {
        "content-type": done.format.media_type,
        "server-timing": stages,
        "x-derain-model": done.model,
        "etag": f'"{done.sha256[:32]}"',
    }
    if done.rain_found is not None:
        headers["derain-rain"] = "found" if done.rain_found else "none"
    if done.dropped:
        headers["derain-dropped"] = ", ".join(done.dropped)
    if done.residual_rain is not None:
        headers["x-derain-residual-rain"] = f"{done.residual_rain.probability:.2f}"
    return headers
