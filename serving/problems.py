"""Every error leaves as RFC 9457 problem+json: the one table from error to status, and the
middleware that gives the framework's own errors the same form."""

import json
import logging
from dataclasses import dataclass
from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from derain.errors import (
    CorruptImageError,
    DerainError,
    EmptyImageError,
    ImageTooLargeError,
    UnsupportedFormatError,
)

logger = logging.getLogger("bentoml.derain")

MEDIA_TYPE = "application/problem+json"


class UploadError(DerainError):
    """A request body that holds no single picture."""


class UploadTooLargeError(DerainError):
    """More bytes than the limit."""


class UploadTimeoutError(DerainError):
    """The body did not arrive in time."""


class ParameterError(DerainError):
    """A parameter that there is not, or a value that it cannot have."""


class UnauthorizedError(DerainError):
    """No key, or one that is not known."""


class ForbiddenError(DerainError):
    """A key that may not do this."""


class UnknownModelError(DerainError):
    """A model that is not served here."""


class NotAcceptableError(DerainError):
    """None of the formats that the caller accepts can be written."""


class RefusedReloadError(DerainError):
    """The model to be served from now on is none that can be: the old one stays."""


class ComeAgainError(DerainError):
    """Not now, but later."""

    def __init__(self, text: str, retry_after_s: int = 2) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class BusyError(ComeAgainError):
    """Too many pictures, pixels or bytes are waiting already."""


class RateError(ComeAgainError):
    """More pictures a minute than the key allows."""


class DeadlineError(DerainError):
    """Not done in time."""


class HungUpError(DerainError):
    """Nobody waits for the answer any more."""


STATUSES: dict[type[DerainError], HTTPStatus] = {
    EmptyImageError: HTTPStatus.BAD_REQUEST,
    CorruptImageError: HTTPStatus.BAD_REQUEST,
    UploadError: HTTPStatus.BAD_REQUEST,
    ParameterError: HTTPStatus.BAD_REQUEST,
    HungUpError: HTTPStatus.BAD_REQUEST,
    UnauthorizedError: HTTPStatus.UNAUTHORIZED,
    ForbiddenError: HTTPStatus.FORBIDDEN,
    UnknownModelError: HTTPStatus.NOT_FOUND,
    NotAcceptableError: HTTPStatus.NOT_ACCEPTABLE,
    UploadTimeoutError: HTTPStatus.REQUEST_TIMEOUT,
    RefusedReloadError: HTTPStatus.CONFLICT,
    ImageTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UploadTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedFormatError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    BusyError: HTTPStatus.TOO_MANY_REQUESTS,
    RateError: HTTPStatus.TOO_MANY_REQUESTS,
    DeadlineError: HTTPStatus.GATEWAY_TIMEOUT,
}

_RETRY_AFTER_S = 2  # where nothing better is known

NOTHING_HERE = "There is nothing here; /docs describes what there is."

# What to say of errors that the framework raises, where its own words would not help.
_DETAILS = {
    HTTPStatus.NOT_FOUND: NOTHING_HERE,
    HTTPStatus.METHOD_NOT_ALLOWED: "Not with this method; /docs describes what there is.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "Send the picture as the body, or as one file of a multipart form.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Not ready; try again in a moment.",
    HTTPStatus.GATEWAY_TIMEOUT: "Not done in time; send a smaller picture or try again later.",
}
_UNEXPECTED = "Something went wrong in the service; it has been logged."


@dataclass(frozen=True)
class Problem:
    status: HTTPStatus
    detail: str
    retry_after_s: int = _RETRY_AFTER_S

    @property
    def headers(self) -> dict[str, str]:
        headers = {"content-type": MEDIA_TYPE}
        if self.status is HTTPStatus.TOO_MANY_REQUESTS:
            headers["retry-after"] = str(self.retry_after_s)
        if self.status is HTTPStatus.UNAUTHORIZED:
            headers["www-authenticate"] = "Bearer"
        return headers

    @property
    def fields(self) -> dict[str, str | int]:
        return {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
        }

    @property
    def body(self) -> bytes:
        return json.dumps(self.fields).encode()

    def response(self) -> Response:
        return Response(self.body, self.status, self.headers)


def problem_of(error: DerainError) -> Problem:
    """The status of an error by its class; a class that is not in the table is a mistake of ours."""
    retry_after_s = error.retry_after_s if isinstance(error, ComeAgainError) else _RETRY_AFTER_S
    return Problem(STATUSES[type(error)], str(error), retry_after_s)


class ProblemResponses:
    """Middleware: an error response that is not a problem yet becomes one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = replaced = False

        async def send_problem(message: Message) -> None:
            nonlocal started, replaced
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                is_problem = headers.get("content-type", "").startswith(MEDIA_TYPE)
                replaced = message["status"] >= 400 and not is_problem
                if replaced:
                    await _send_instead(message, headers, scope, receive, send)
                    return
            if not replaced:
                await send(message)

        try:
            await self.app(scope, receive, send_problem)
        except Exception:
            logger.exception("a fault in the service")
            if started:
                raise  # it is too late for words: cut the connection
            await Problem(HTTPStatus.INTERNAL_SERVER_ERROR, _UNEXPECTED).response()(scope, receive, send)


async def _send_instead(
    start: Message, headers: MutableHeaders, scope: Scope, receive: Receive, send: Send
) -> None:
    status = HTTPStatus(start["status"])
    unknown = _UNEXPECTED if status >= 500 else status.description or status.phrase
    response = Problem(status, _DETAILS.get(status, unknown)).response()
    if "allow" in headers:
        response.headers["allow"] = headers["allow"]
    await response(scope, receive, send)
