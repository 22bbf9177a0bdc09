"""POST /v1/derain/progress: a multipart answer that starts at once, reports, and ends with the image.

The reports are part of the answer to the caller's own request. So the service keeps no state, other
callers see none of it, it works with several workers and replicas, and a disconnect cancels the work.
"""

import asyncio
import json
import re
import secrets
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from derain.errors import DerainError
from serving.api.images.derain import image_headers, read_job_for
from serving.api.images.multipart import MULTIPART, end_of, part_of
from serving.api.problems import reject
from serving.api.services import services_of
from serving.pipeline.job import DerainedFile, Job
from serving.pipeline.pipeline import Pipeline


async def read_watched_job(request: Request, body: bytes) -> Job:
    """As `read_job`. Who accepts the answer's own type takes the image in it in any format."""
    accept = request.headers.get("accept")
    if accept is not None:
        accept = re.sub(re.escape(MULTIPART), "*/*", accept, flags=re.IGNORECASE)
    return await read_job_for(accept, request, body)


async def derain_with_progress(request: Request, job: Job) -> Response:
    return _Reporting(services_of(request).pipeline, job)


@dataclass(frozen=True)
class _Report:
    """The stage of an image and, during inference, the pixels that are done, of those of all scales."""

    stage: str
    done: int = 0
    of: int = 0  # 0: not in inference

    @property
    def body(self) -> bytes:
        pixels = {"done": self.done, "of": self.of} if self.of else {}
        return json.dumps({"stage": self.stage, **pixels}).encode()


class _Reporting(Response):
    """JSON parts report progress, the last part is the image or a problem."""

    def __init__(self, pipeline: Pipeline, job: Job) -> None:
        self._pipeline = pipeline
        self._job = job
        self._boundary = secrets.token_hex(16)
        self._is_begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises what goes wrong before the first report: then the status can still say it."""
        try:
            done = await self._work(send)
            headers, last = image_headers(done, self._job.record), done.data
        except DerainError as error:
            if not self._is_begun:
                raise
            problem = reject(error, self._job.record)
            headers, last = problem.headers, problem.body
        await self._send(part_of(self._boundary, headers, last) + end_of(self._boundary), send, is_last=True)

    async def _work(self, send: Send) -> DerainedFile:
        """Only the latest report is kept, so a slow reader fills no memory."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        report = _Report("queue")

        def note(stage: str, done: int, of: int) -> None:
            nonlocal report
            report = _Report(stage, done, of)
            loop.call_soon_threadsafe(changed.set)

        self._job.record.note_progress = note
        work = asyncio.create_task(self._pipeline.derain(self._job))
        work.add_done_callback(lambda _: changed.set())
        try:
            await changed.wait()
            while not work.done():
                changed.clear()
                await self._send(
                    part_of(self._boundary, {"content-type": "application/json"}, report.body), send
                )
                await changed.wait()
            return work.result()
        finally:
            work.cancel()
            await asyncio.wait((work,))

    async def _send(self, data: bytes, send: Send, is_last: bool = False) -> None:
        if not self._is_begun:
            self._is_begun = True
            headers = {
                "content-type": f"{MULTIPART}; boundary={self._boundary}",
                "cache-control": "no-store",
                "x-accel-buffering": "no",  # nginx would collect reports and send them late
            }
            raw = [(name.encode(), value.encode()) for name, value in headers.items()]
            await send({"type": "http.response.start", "status": 200, "headers": raw})
        await send({"type": "http.response.body", "body": data, "more_body": not is_last})
