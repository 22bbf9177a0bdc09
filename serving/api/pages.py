"""What the service shows people and tools: the page, the API description, its reader.

All files are read once, at the start. The page asks nobody but us: its policy says so to the browser.
"""

import hashlib
import mimetypes
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from derain.files import shipped
from serving.api.openapi import Description
from serving.api.problems import ALL_TYPES, ERRORS_PAGE
from serving.api.services import services_of
from serving.settings import Settings

_HTML = "text/html; charset=utf-8"
_FOLDER = Path(__file__).parents[1] / "page"
_EXAMPLES = shipped("examples")
_OFFERED = ("gate", "meadow", "night")

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)

_ERRORS = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Derain errors</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="page/errors.css">
<h1>Errors</h1>
<p>The <code>type</code> of an answer in <code>application/problem+json</code> leads here; its
<code>detail</code> says what was wrong with the request itself.</p>
{sections}</html>
"""

_ERROR = """<h2 id="{name}">{title}</h2>
<p><code>{uri}</code>, status {status.value}. {advice}</p>
"""


def read_pages(settings: Settings, description: Description) -> dict[str, Response]:
    """By their paths. Without the page the API's description is at the root.

    Swagger UI comes with BentoML, which serves it at static_content/. BentoML's own page around it
    reports each visit to an analytics service; ours does not.
    """
    docs = _file(_FOLDER / "docs.html", _POLICY)
    assets = [path for path in sorted(_FOLDER.iterdir()) if path.suffix in (".css", ".js")]
    examples = [_EXAMPLES / f"{name}{size}.jpg" for name in _OFFERED for size in ("", "-small")]
    return {
        "/": _page_with_limits(settings) if settings.page else docs,
        **{f"/page/{path.name}": _file(path) for path in assets},
        **{f"/examples/{path.name}": _file(path) for path in examples if settings.page},
        "/example.jpg": _file(_EXAMPLES / "rain.jpg"),
        "/docs": docs,
        ERRORS_PAGE: _in_memory(_errors().encode(), _HTML, _POLICY),
        "/openapi.json": JSONResponse(description),
        "/docs.json": JSONResponse(description),  # where BentoML's tools look for it
    }


async def page(request: Request) -> Response:
    """What is at this path, or 304 to a browser that has it already."""
    there = services_of(request).pages.get(request.scope["path"])
    if there is None:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    etag = there.headers.get("etag")
    if etag is None or request.headers.get("if-none-match") != etag:
        return there
    headers = {name: value for name, value in there.headers.items() if name != "content-length"}
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)


def _page_with_limits(settings: Settings) -> Response:
    """People read the limits before they send anything, and the page checks a file before it sends it."""
    html = (_FOLDER / "index.html").read_text(encoding="utf-8")
    limits = {
        "{{max_pixels}}": str(settings.max_pixels),
        "{{max_bytes}}": str(settings.max_bytes),
        "{{megapixels}}": f"{round(settings.max_pixels / 1e6, 2):g}",
        "{{megabytes}}": f"{round(settings.max_bytes / 1e6, 2):g}",
    }
    for placeholder, value in limits.items():
        assert placeholder in html, placeholder
        html = html.replace(placeholder, value)
    return _in_memory(html.encode(), _HTML, _POLICY)


def _file(path: Path, policy: str | None = None) -> Response:
    return _in_memory(path.read_bytes(), _media_type(path), policy)


def _in_memory(data: bytes, media_type: str, policy: str | None = None) -> Response:
    headers = {
        "content-type": media_type,
        "cache-control": "no-cache",  # asked for again each time, for the service may have changed
        "etag": f'"{hashlib.sha256(data).hexdigest()[:32]}"',
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        **({"content-security-policy": policy} if policy else {}),
    }
    return Response(data, headers=headers)


def _media_type(path: Path) -> str:
    """Not all systems know that of a script, and a browser runs no module of another type."""
    known = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".html": _HTML}
    return known.get(path.suffix) or mimetypes.types_map[path.suffix]


def _errors() -> str:
    sections = "".join(_ERROR.format(**asdict(known), uri=known.uri) for known in ALL_TYPES)
    return _ERRORS.format(sections=sections)
