"""One image with progress reports: a multipart answer that starts at once and ends with the image.

The reports are part of the answer to the caller's own request. So the service keeps no state, other
callers see none of it, it works with several workers and replicas, and a disconnect cancels the work.
"""

import asyncio
import json
import secrets
from dataclasses import dataclass, field

from starlette.requests import Request as HttpRequest
from starlette.types import Receive, Scope, Send

from derain.errors import DerainError
from serving.exchange import Exchange, exchange_of, reject
from serving.multipart import MULTIPART, end_of, part_of
from serving.parameters import read_parameters
from serving.pipeline import Derained, Pipeline, Request
from serving.uploads import Buffer, Limits, read_picture, unless_hung_up

ROUTE = "/v1/derain/progress"


class Progress:
    """The route as an ASGI app: JSON parts report progress, the last part is the image or a problem."""

    def __init__(self, pipeline: Pipeline, limits: Limits, buffer: Buffer) -> None:
        self._pipeline = pipeline
        self._limits = limits
        self._buffer = buffer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        http, exchange, answer = HttpRequest(scope, receive), exchange_of(scope), _Answer(send)
        with self._buffer.share() as share:
            try:
                read_parameters(http.query_params)  # what is wrong there is said before the body is read
                body, query = await read_picture(http, self._limits, share)
                request = Request(read_parameters(query))
                derained = await unless_hung_up(self._derain(body, request, exchange, answer), receive)
                await answer.end(derained.headers(exchange), derained.data)
            except DerainError as error:
                problem = reject(error, exchange)
                if answer.is_begun:
                    await answer.end(problem.headers, problem.body)
                else:  # then the status can still say it
                    await problem.response()(scope, receive, send)

    async def _derain(self, body: bytes, request: Request, exchange: Exchange, answer: "_Answer") -> Derained:
        """Only the latest report is kept, so a slow reader fills no memory."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        report = _Report("queue")

        def note(stage: str, done: int, tiles: int) -> None:
            nonlocal report
            report = _Report(stage, done, tiles)
            loop.call_soon_threadsafe(changed.set)

        exchange.note_progress = note
        work = asyncio.create_task(self._pipeline.derain(body, request, exchange))
        work.add_done_callback(lambda _: changed.set())
        try:
            await changed.wait()
            while not work.done():
                changed.clear()
                await answer.report(report)
                await changed.wait()
            return work.result()
        finally:
            work.cancel()
            await asyncio.wait((work,))


@dataclass(frozen=True)
class _Report:
    """The stage of an image and, during inference, its tiles."""

    stage: str
    done: int = 0
    tiles: int = 0  # 0: not in inference

    @property
    def body(self) -> bytes:
        tiles = {"done": self.done, "tiles": self.tiles} if self.tiles else {}
        return json.dumps({"stage": self.stage, **tiles}).encode()


@dataclass
class _Answer:
    send: Send
    is_begun: bool = False
    _boundary: str = field(default_factory=lambda: secrets.token_hex(16))

    async def report(self, report: _Report) -> None:
        await self._send(part_of(self._boundary, {"content-type": "application/json"}, report.body))

    async def end(self, headers: dict[str, str], data: bytes) -> None:
        """With the last part."""
        await self._send(part_of(self._boundary, headers, data) + end_of(self._boundary), is_last=True)

    async def _send(self, data: bytes, is_last: bool = False) -> None:
        if not self.is_begun:
            self.is_begun = True
            headers = {
                "content-type": f"{MULTIPART}; boundary={self._boundary}",
                "cache-control": "no-store",
                "x-accel-buffering": "no",  # nginx would collect reports and send them late
            }
            raw = [(name.encode(), value.encode()) for name, value in headers.items()]
            await self.send({"type": "http.response.start", "status": 200, "headers": raw})
        await self.send({"type": "http.response.body", "body": data, "more_body": not is_last})
