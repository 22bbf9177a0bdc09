"""Which web pages of other origins may call from their scripts, and which headers those may read."""

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from serving.api.problems import problem_of
from serving.errors import OriginError

_SENT = (
    *("Authorization", "X-API-Key", "X-Request-ID", "Content-Encoding"),
    *("traceparent", "tracestate", "baggage"),
)

# Of answers without an image, and of errors.
_READ = ("Content-Disposition", "Retry-After", "Allow", "WWW-Authenticate", "Accept-Encoding")


class Cors(CORSMiddleware):
    """Answers preflights, before keys are asked for, and names in each answer who may read it.

    Never with credentials: keys are headers that a script sets itself, and there are no cookies.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str], headers: Collection[str]) -> None:
        """`headers` are those that come with an image."""
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=_SENT,
            expose_headers=(*headers, *_READ),
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        origin, method = request_headers["origin"], request_headers["access-control-request-method"]
        if not self.is_allowed_origin(origin):
            text = f"scripts of {origin!r} may not call this service"
        elif method not in self.allow_methods:
            text = f"scripts may not use {method!r}, but {', '.join(self.allow_methods)}"
        else:
            wanted = request_headers.get("access-control-request-headers", "")
            text = f"scripts may not send all of the headers {wanted!r}, but {', '.join(_SENT)}"
        problem = problem_of(OriginError(text)).response()
        problem.headers["vary"] = response.headers["vary"]
        return problem
