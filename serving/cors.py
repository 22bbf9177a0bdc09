"""Which web pages of other origins may call from their scripts, and which headers those may read."""

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from serving.problems import OriginError, problem_of

ALL = "*"

_SENT = (
    *("Authorization", "X-API-Key", "X-Request-ID", "Content-Encoding"),
    *("traceparent", "tracestate", "baggage"),
)

# Of answers without an image, and of errors.
_READ = ("Content-Disposition", "Retry-After", "Allow", "WWW-Authenticate", "Accept-Encoding")

_DEFAULT_PORTS = {"http": 80, "https": 443}
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?", re.ASCII)


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


def read_origins(text: str) -> tuple[str, ...]:
    """Origins as browsers send them, from a list with commas; raises ValueError."""
    origins = tuple(_read_origin(word) for word in text.replace(",", " ").split())
    if not origins:
        raise ValueError("names no origin: write some like https://example.com, or * for all")
    if ALL in origins and len(origins) > 1:
        raise ValueError("has * beside others: * alone allows all")
    return origins


def _read_origin(word: str) -> str:
    if word == ALL:
        return word
    origin = word.lower()
    if not _ORIGIN.fullmatch(origin):
        raise ValueError(
            f"{word!r} is no origin: write a scheme, a host and perhaps a port, like "
            "https://example.com:8443, without a path or a slash at the end, or * for all"
        )
    parts = urlsplit(origin)
    is_default = parts.port is not None and parts.port == _DEFAULT_PORTS.get(parts.scheme)
    return origin.removesuffix(f":{parts.port}") if is_default else origin
