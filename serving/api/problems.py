"""Every error leaves as RFC 9457 problem+json: the one table from error to type and status, and the one
middleware from error to answer."""

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
from serving.errors import (
    BusyError,
    DeadlineError,
    DisconnectedError,
    EncodingError,
    ForbiddenError,
    NotAcceptableError,
    NotReadyError,
    OriginError,
    ParameterError,
    RateError,
    RefusedReloadError,
    RetryableError,
    UnauthorizedError,
    UnknownModelError,
    UploadError,
    UploadTimeoutError,
    UploadTooLargeError,
)
from serving.operations.metrics import REJECTED
from serving.operations.request_record import RequestRecord, record_of

logger = logging.getLogger("derain.problems")

MEDIA_TYPE = "application/problem+json"
ACCEPTED_ENCODINGS = "gzip"  # of bodies, besides none


@dataclass(frozen=True)
class ProblemType:
    """A kind of problem, by which programs tell it: its name never changes."""

    name: str | None  # None: nothing but what the status says
    status: HTTPStatus
    title: str
    advice: str  # what the caller can do

    @property
    def uri(self) -> str:
        """Where the service has a page about it."""
        return f"{ERRORS_PAGE}#{self.name}" if self.name else "about:blank"


ERRORS_PAGE = "/errors"

_BAD = HTTPStatus.BAD_REQUEST
_LARGE = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
_UNSUPPORTED = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
_LATER = HTTPStatus.TOO_MANY_REQUESTS

PROBLEM_TYPES: dict[type[DerainError], ProblemType] = {
    EmptyImageError: ProblemType(
        "empty-image",
        _BAD,
        "No image",
        "Send the file's bytes as the body, or as a file of a multipart form.",
    ),
    CorruptImageError: ProblemType(
        "damaged-image",
        _BAD,
        "Damaged image",
        "Send the file again, as it was; a part of it is missing or wrong.",
    ),
    UploadError: ProblemType(
        "unreadable-upload",
        _BAD,
        "Unreadable upload",
        "Send one image, or a multipart form with a file in it.",
    ),
    ParameterError: ProblemType(
        "invalid-parameter", _BAD, "Invalid parameter", "The detail names the parameter and what it can be."
    ),
    DisconnectedError: ProblemType(
        "disconnected", _BAD, "Caller disconnected", "Keep the connection open until the answer has arrived."
    ),
    UnauthorizedError: ProblemType(
        "key-needed",
        HTTPStatus.UNAUTHORIZED,
        "Key needed",
        "Send a key that the operator of the service gave you.",
    ),
    ForbiddenError: ProblemType(
        "key-not-allowed", HTTPStatus.FORBIDDEN, "Key not allowed", "Use an operator's key."
    ),
    OriginError: ProblemType(
        "origin-not-allowed",
        HTTPStatus.FORBIDDEN,
        "Origin not allowed",
        "Ask the operator to add the page's origin to DERAIN_CORS_ORIGINS, or call from a server.",
    ),
    UnknownModelError: ProblemType(
        "unknown-model", HTTPStatus.NOT_FOUND, "Unknown model", "Choose a model that /v1/models lists."
    ),
    NotAcceptableError: ProblemType(
        "not-acceptable",
        HTTPStatus.NOT_ACCEPTABLE,
        "No acceptable format",
        "Accept one of the formats that the detail lists, or send no Accept header.",
    ),
    UploadTimeoutError: ProblemType(
        "upload-timeout",
        HTTPStatus.REQUEST_TIMEOUT,
        "Upload too slow",
        "Send the whole body without a pause.",
    ),
    RefusedReloadError: ProblemType(
        "reload-refused",
        HTTPStatus.CONFLICT,
        "Model refused",
        "Mend the model's folder, or promote another one; the old model is still served.",
    ),
    ImageTooLargeError: ProblemType(
        "image-too-large",
        _LARGE,
        "Too many pixels",
        "Send a smaller image, or ask for a format that holds this size.",
    ),
    UploadTooLargeError: ProblemType(
        "upload-too-large",
        _LARGE,
        "Too many bytes",
        "Send fewer bytes; of a batch, send several smaller ones.",
    ),
    UnsupportedFormatError: ProblemType(
        "unsupported-image",
        _UNSUPPORTED,
        "Unsupported image",
        "Convert the image to a format, and a kind of it, that the service reads.",
    ),
    EncodingError: ProblemType(
        "unsupported-encoding",
        _UNSUPPORTED,
        "Unsupported Content-Encoding",
        "Send the body as it is, or with Content-Encoding: gzip.",
    ),
    BusyError: ProblemType(
        "busy", _LATER, "Too many images waiting", "Send the request again after Retry-After seconds."
    ),
    RateError: ProblemType(
        "rate-exceeded",
        _LATER,
        "Rate exceeded",
        "Send the request again after Retry-After seconds, and fewer a minute.",
    ),
    DeadlineError: ProblemType(
        "not-done-in-time",
        HTTPStatus.GATEWAY_TIMEOUT,
        "Not done in time",
        "Send a smaller image, or try again when the service is less busy.",
    ),
    NotReadyError: ProblemType(
        "not-ready",
        HTTPStatus.SERVICE_UNAVAILABLE,
        "Not ready",
        "Try again in a moment: the models are being loaded.",
    ),
}

MALFORMED = ProblemType(
    "malformed-request", _BAD, "Malformed request", "Mend the client: what it sends is not HTTP/1.1."
)
NOT_FOUND = ProblemType(
    "not-found", HTTPStatus.NOT_FOUND, "Nothing here", "Look at /docs for the paths that there are."
)
FAULT = ProblemType(
    "internal-error",
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "Internal error",
    "Tell the operator the X-Request-ID of the answer: the log has what went wrong.",
)

# Of errors that the framework raises; one that is not here has no type but its status.
_OF_FRAMEWORK = {
    known.status: known
    for known in (
        NOT_FOUND,
        ProblemType(
            "method-not-allowed",
            HTTPStatus.METHOD_NOT_ALLOWED,
            "Method not allowed",
            "Use a method that the Allow header names.",
        ),
        FAULT,
        PROBLEM_TYPES[NotReadyError],
        PROBLEM_TYPES[DeadlineError],
    )
}

ALL_TYPES = tuple(
    {known.name: known for known in (*PROBLEM_TYPES.values(), MALFORMED, *_OF_FRAMEWORK.values())}.values()
)

_RETRY_AFTER_S = 2  # where nothing better is known

# What to say of errors that the framework raises, where its own words would not help.
_DETAILS = {
    HTTPStatus.NOT_FOUND: "There is nothing here; /docs describes what there is.",
    HTTPStatus.METHOD_NOT_ALLOWED: "Not with this method; /docs describes what there is.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "Send the image as the body, or as one file of a multipart form.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Not ready; try again in a moment.",
    HTTPStatus.GATEWAY_TIMEOUT: "Not done in time; send a smaller image or try again later.",
}
_UNEXPECTED = "Something went wrong in the service; it has been logged."


@dataclass(frozen=True)
class Problem:
    type: ProblemType
    detail: str
    retry_after_s: int = _RETRY_AFTER_S

    @property
    def status(self) -> HTTPStatus:
        return self.type.status

    @property
    def headers(self) -> dict[str, str]:
        headers = {"content-type": MEDIA_TYPE}
        if self.type is PROBLEM_TYPES[EncodingError]:
            headers["accept-encoding"] = ACCEPTED_ENCODINGS
        if self.status is HTTPStatus.TOO_MANY_REQUESTS:
            headers["retry-after"] = str(self.retry_after_s)
        if self.status is HTTPStatus.UNAUTHORIZED:
            headers["www-authenticate"] = "Bearer"
        return headers

    @property
    def fields(self) -> dict[str, str | int]:
        return {
            "type": self.type.uri,
            "title": self.type.title,
            "status": self.status.value,
            "detail": self.detail,
        }

    @property
    def body(self) -> bytes:
        return json.dumps(self.fields).encode()

    def response(self) -> Response:
        return Response(self.body, self.status, self.headers)


def problem_of(error: DerainError) -> Problem:
    """The type of an error by its class; a class that is not in the table is a mistake of ours."""
    retry_after_s = error.retry_after_s if isinstance(error, RetryableError) else _RETRY_AFTER_S
    return Problem(PROBLEM_TYPES[type(error)], str(error), retry_after_s)


def reject(error: DerainError, record: RequestRecord) -> Problem:
    """What is said of a request, or a part of one, that is not carried out; counted, and noted."""
    reason = type(error).__name__
    REJECTED.labels(reason).inc()
    record.facts["rejected"] = reason
    return problem_of(error)


class Problems:
    """The middleware from error to answer: of ours that are raised, and of responses of the framework.

    OPTIONS, which no route of ours knows, is answered with the methods that the route does know. Every
    request is answered, even one that nobody waits for: BentoML's timeout middleware, around this one, hangs
    without an answer.
    """

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
                replacement = _replacement(message, scope["method"])
                if replacement is not None:
                    replaced = True
                    await replacement(scope, receive, send)
            if not replaced:
                await send(message)

        try:
            await self.app(scope, receive, send_problem)
        except Exception as error:
            problem = _said_of(error, record_of(scope))
            if not started:
                await problem.response()(scope, receive, send)
            elif not isinstance(error, DisconnectedError):
                raise  # it is too late for words: cut the connection


def _said_of(error: Exception, record: RequestRecord) -> Problem:
    if isinstance(error, DerainError) and type(error) in PROBLEM_TYPES:
        return reject(error, record)
    logger.error("a fault in the service", exc_info=error)
    return Problem(FAULT, _UNEXPECTED)


def _replacement(start: Message, method: str) -> Response | None:
    """For a response of the framework that reports an error in its own words."""
    headers = MutableHeaders(scope=start)
    if start["status"] < 400 or headers.get("content-type", "").startswith(MEDIA_TYPE):
        return None
    status = HTTPStatus(start["status"])
    if status is HTTPStatus.METHOD_NOT_ALLOWED and method == "OPTIONS" and "allow" in headers:
        return Response(status_code=HTTPStatus.NO_CONTENT, headers={"allow": f"{headers['allow']}, OPTIONS"})
    unknown = _UNEXPECTED if status >= 500 else status.description or status.phrase
    only_status = ProblemType(None, status, status.phrase, "")
    response = Problem(_OF_FRAMEWORK.get(status, only_status), _DETAILS.get(status, unknown)).response()
    if "allow" in headers:
        response.headers["allow"] = headers["allow"]
    return response
