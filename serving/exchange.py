"""One request and its answer: what becomes known of it on the way, and the line that is logged at the end.

The outermost middleware of ours. It names the request, counts its bytes, and sees to it that every
request is answered, by a problem where nothing better can be said.
"""

import logging
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from opentelemetry.trace import SpanContext
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from derain.errors import DerainError
from serving.metrics import RECEIVED, REJECTED, REQUEST_SECONDS, REQUESTS, SENT
from serving.problems import Problem, problem_of
from serving.traces import current_span, in_a_trace

logger = logging.getLogger("derain.requests")

# What may be taken over from a caller into logs and headers.
_FIT_ID = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)
_ASKED_ALL_THE_TIME = frozenset(("/livez", "/readyz", "/healthz", "/metrics"))
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))

# The stage of an image and, during inference, its tiles: done and in total, else 0 and 0.
NoteProgress = Callable[[str, int, int], object]


@dataclass
class Exchange:
    """Kept in the scope of the request, where all that handle it find it."""

    id: str
    key: str = "none"  # the name of the caller's
    stages_ms: dict[str, float] = field(default_factory=dict)  # in the order they ended
    facts: dict[str, Any] = field(default_factory=dict)  # for the log
    span: SpanContext = field(default_factory=current_span)  # the request's
    note_progress: NoteProgress | None = None  # where somebody watches; from any thread, returns at once

    def enter(self, stage: str) -> None:
        if self.note_progress is not None:
            self.note_progress(stage, 0, 0)


def exchange_of(scope: Scope) -> Exchange:
    exchange = scope["derain.exchange"]
    assert isinstance(exchange, Exchange)
    return exchange


def reject(error: DerainError, exchange: Exchange) -> Problem:
    """The answer to a request, or a part of one, that is not carried out; counted, and noted."""
    reason = type(error).__name__
    REJECTED.labels(reason).inc()
    exchange.facts["rejected"] = reason
    return problem_of(error)


class Exchanges:
    """Middleware; `templates` are the paths there are, `{name}` standing for any one part of it."""

    def __init__(self, app: ASGIApp, templates: list[str]) -> None:
        self.app = app
        self._templates = {template: _pattern(template) for template in templates}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        with in_a_trace(headers):
            await self._answer(scope, receive, send, asked=headers.get("x-request-id", ""))

    async def _answer(self, scope: Scope, receive: Receive, send: Send, asked: str) -> None:
        started = time.perf_counter()
        exchange = Exchange(asked if _FIT_ID.fullmatch(asked) else uuid.uuid4().hex)
        scope["derain.exchange"] = exchange
        status = received = sent = 0

        async def count_received() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def send_named(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = exchange.id
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, count_received, send_named)
        finally:
            seconds = time.perf_counter() - started
            route = self._route(scope["path"])
            method = scope["method"] if scope["method"] in _METHODS else "other"
            REQUESTS.labels(route, method, status).inc()
            REQUEST_SECONDS.labels(route).observe(seconds)
            RECEIVED.inc(received)
            SENT.inc(sent)
            logger.log(
                _level(route, status),
                "%s %s %d",
                method,
                route,
                status,
                extra={
                    "request": {
                        "id": exchange.id,
                        "method": method,
                        "route": route,
                        "status": status,
                        "ms": round(1000 * seconds, 1),
                        "received": received,
                        "sent": sent,
                        "key": exchange.key,
                        "stages_ms": {stage: round(ms, 1) for stage, ms in exchange.stages_ms.items()},
                        **exchange.facts,
                    }
                },
            )

    def _route(self, path: str) -> str:
        """The template, so that a path that is tried makes no series of its own."""
        if path in self._templates:
            return path
        fits = (template for template, pattern in self._templates.items() if pattern.fullmatch(path))
        return next(fits, "other")


def _level(route: str, status: int) -> int:
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return logging.ERROR
    return logging.DEBUG if route in _ASKED_ALL_THE_TIME else logging.INFO


def _pattern(template: str) -> re.Pattern[str]:
    literal, *rest = re.split(r"\{\w+\}", template)
    return re.compile(re.escape(literal) + "".join("[^/]+" + re.escape(part) for part in rest))
