"""What the service shows people and tools: the demo page, the API description, its reader."""

from dataclasses import asdict
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from derain.places import shipped
from serving.openapi import DESCRIPTION
from serving.problems import ALL_TYPES, ERRORS_PAGE

_PAGE = Path(__file__).parent / "page.html"
_EXAMPLE = shipped("examples") / "rain.jpg"

# Swagger UI comes with BentoML, which serves it at static_content/. BentoML's own page around
# it reports each visit to an analytics service; this one asks nobody but us.
_DOCS = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Derain API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="static_content/swagger-ui.css">
<div id="api"></div>
<script src="static_content/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({ url: "openapi.json", dom_id: "#api", validatorUrl: null })</script>
</html>
"""

_ERRORS = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Derain errors</title>
<link rel="icon" href="data:,">
<style>body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 42rem; margin: 2rem auto; padding: 0 1rem }}
:target {{ text-decoration: underline }}</style>
<h1>Errors</h1>
<p>The <code>type</code> of an answer in <code>application/problem+json</code> leads here; its
<code>detail</code> says what was wrong with the request itself.</p>
{sections}</html>
"""

_ERROR = """<h2 id="{name}">{title}</h2>
<p><code>{uri}</code>, status {status.value}. {advice}</p>
"""


def page_routes(with_demo: bool) -> list[BaseRoute]:
    """Without the demo the API's description is at the root."""
    return [
        Route("/", _page if with_demo else _docs),
        Route("/example.jpg", _example),
        Route("/docs", _docs),
        Route(ERRORS_PAGE, _errors),
        Route("/openapi.json", _openapi),
        Route("/docs.json", _openapi),  # where BentoML's tools look for it
    ]


async def _page(_request: Request) -> Response:
    return FileResponse(_PAGE)


async def _example(_request: Request) -> Response:
    return FileResponse(_EXAMPLE)


async def _docs(_request: Request) -> Response:
    return HTMLResponse(_DOCS)


async def _errors(_request: Request) -> Response:
    sections = "".join(_ERROR.format(**asdict(known), uri=known.uri) for known in ALL_TYPES)
    return HTMLResponse(_ERRORS.format(sections=sections))


async def _openapi(_request: Request) -> Response:
    return JSONResponse(DESCRIPTION)
