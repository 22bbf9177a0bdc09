"""The line that is logged of each request, and what is counted of it.

The outermost middleware of ours: it names the request and counts its bytes.
"""

import logging
import re
import time
import uuid
from dataclasses import dataclass
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.routes import Audience, Route, find
from serving.operations.metrics import RECEIVED, REQUEST_SECONDS, REQUESTS, SENT
from serving.operations.request_record import RequestRecord
from serving.operations.tracing import in_a_trace

logger = logging.getLogger("derain.requests")

# What may be taken over from a caller into logs and headers.
_FIT_ID = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


@dataclass
class _Traffic:
    status: int = 0
    received: int = 0  # bytes of bodies
    sent: int = 0


class RequestLog:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        asked = headers.get("x-request-id", "")
        with in_a_trace(headers):
            record = RequestRecord(asked if _FIT_ID.fullmatch(asked) else uuid.uuid4().hex)
            record.keep_in(scope)
            await self._answer(scope, receive, send, record)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, record: RequestRecord) -> None:
        started, traffic = time.perf_counter(), _Traffic()

        async def count_received() -> Message:
            message = await receive()
            traffic.received += len(message.get("body", b""))
            return message

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                traffic.status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = record.id
            traffic.sent += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, count_received, send_named)
        finally:
            _note(scope, record, traffic, time.perf_counter() - started)


def _note(scope: Scope, record: RequestRecord, traffic: _Traffic, seconds: float) -> None:
    """Under the template of the path: one that is only tried makes no series of its own."""
    route = find(scope["path"])
    path = route.path if route is not None else "other"
    method = scope["method"] if scope["method"] in _METHODS else "other"
    REQUESTS.labels(path, method, traffic.status).inc()
    REQUEST_SECONDS.labels(path).observe(seconds)
    RECEIVED.inc(traffic.received)
    SENT.inc(traffic.sent)
    line = {
        "id": record.id,
        "method": method,
        "route": path,
        "status": traffic.status,
        "ms": round(1000 * seconds, 1),
        "received": traffic.received,
        "sent": traffic.sent,
        "key": record.key,
        "stages_ms": {stage: round(ms, 1) for stage, ms in record.stages_ms.items()},
        **record.facts,
    }
    level = _level(route, traffic.status)
    logger.log(level, "%s %s %d", method, path, traffic.status, extra={"request": line})


def _level(route: Route | None, status: int) -> int:
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return logging.ERROR
    is_asked_all_the_time = route is not None and route.audience is Audience.PRIVATE
    return logging.DEBUG if is_asked_all_the_time else logging.INFO
