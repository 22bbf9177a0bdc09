"""What the service shows people and tools: the page, the API description, its reader.

All files are read once, at the start. The page asks nobody but us: its policy says so to the browser.
"""

import hashlib
import mimetypes
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from serving.openapi import DESCRIPTION
from serving.settings import Settings

_FOLDER = Path(__file__).parent / "page"
_EXAMPLES = Path(__file__).parent.parent / "examples"
_OFFERED = ("street", "meadow", "night")

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
# Swagger UI sets styles from its script, and draws its icons from data.
_DOCS_POLICY = _POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")

Answer = Callable[[Request], Awaitable[Response]]


def page_routes(settings: Settings) -> list[BaseRoute]:
    """Without the page the API's description is at the root.

    Swagger UI comes with BentoML, which serves it at static_content/. BentoML's own page around it
    reports each visit to an analytics service; ours does not.
    """
    docs = _file(_FOLDER / "docs.html", _DOCS_POLICY)
    page = _file(_FOLDER / "index.html", _POLICY, settings)
    assets = [path for path in sorted(_FOLDER.iterdir()) if path.suffix in (".css", ".js")]
    examples = [_EXAMPLES / f"{name}{size}.jpg" for name in _OFFERED for size in ("", "-small")]
    return [
        Route("/", page if settings.page else docs),
        *(Route(f"/page/{path.name}", _file(path)) for path in assets),
        *(Route(f"/examples/{path.name}", _file(path)) for path in examples if settings.page),
        Route("/docs", docs),
        Route("/openapi.json", _openapi),
        Route("/docs.json", _openapi),  # where BentoML's tools look for it
    ]


def _file(path: Path, policy: str | None = None, settings: Settings | None = None) -> Answer:
    """A file out of memory; a browser that has it already is told so."""
    data = path.read_bytes()
    if settings is not None:
        data = _with_limits(data.decode(), settings).encode()
    headers = {
        "content-type": _media_type(path),
        "cache-control": "no-cache",  # asked for again each time, for the service may have changed
        "etag": f'"{hashlib.sha256(data).hexdigest()[:32]}"',
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        **({"content-security-policy": policy} if policy else {}),
    }

    async def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(data, headers=headers)

    return answer


def _with_limits(page: str, settings: Settings) -> str:
    """People read them before they send anything, and the page looks before it does."""
    limits = {
        "{{max_pixels}}": str(settings.max_pixels),
        "{{max_bytes}}": str(settings.max_bytes),
        "{{megapixels}}": f"{settings.max_pixels / 1e6:.3g}",
        "{{megabytes}}": f"{settings.max_bytes / 1e6:.3g}",
    }
    for placeholder, value in limits.items():
        assert placeholder in page, placeholder
        page = page.replace(placeholder, value)
    return page


def _media_type(path: Path) -> str:
    """A browser runs no module of another type than this, and systems differ in what they know of types."""
    known = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}
    name = known.get(path.suffix)
    return f"{name}; charset=utf-8" if name else mimetypes.types_map[path.suffix]


async def _openapi(_request: Request) -> Response:
    return JSONResponse(DESCRIPTION)
