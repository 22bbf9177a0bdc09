"""The one table of routes: path, method, audience, handler, and the description in OpenAPI."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from http import HTTPStatus
from re import Pattern

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, compile_path
from starlette.routing import Route as StarletteRoute
from starlette.types import ASGIApp

from serving.api import models, openapi, probes
from serving.api.api_keys import Access, Restricted
from serving.api.images.batch import check_batch, derain_batch, read_batch
from serving.api.images.derain import check_options, derain, read_job
from serving.api.images.progress import derain_with_progress, read_watched_job
from serving.api.images.uploads import UploadRoute
from serving.api.openapi import FOR_KEYS, OBJECT, YES, Description, get, get_of_model, json_answer
from serving.api.pages import page
from serving.api.problems import ERRORS_PAGE


class Audience(Enum):
    PUBLIC = "everybody"
    KEY = "callers with a key, if the service has keys"
    ADMIN = "callers with an operator's key; on the private port, if there is one"
    PRIVATE = "everybody on the private port; on the public port, if there is no private one"


@dataclass(frozen=True)
class Route:
    path: str  # `{name}` stands for one segment of any text
    method: str
    audience: Audience
    handler: Callable[[Request], Awaitable[Response]] | ASGIApp
    operation: Description | None = None  # in OpenAPI; None: pages for people, and aliases

    @cached_property
    def pattern(self) -> Pattern[str]:
        """Matches the paths of this route, as Starlette does."""
        return compile_path(self.path)[0]


# Statuses of errors, for OpenAPI.
_ABSENT = (*FOR_KEYS, HTTPStatus.NOT_FOUND)
_UNREADY = HTTPStatus.SERVICE_UNAVAILABLE

_ONE_IMAGE = (check_options, read_job)  # how a request with one image is checked and read

ROUTES = (
    Route("/v1/derain", "POST", Audience.KEY, UploadRoute(*_ONE_IMAGE, derain), openapi.derain()),
    Route(
        "/v1/derain/progress",
        "POST",
        Audience.KEY,
        UploadRoute(check_options, read_watched_job, derain_with_progress),
        openapi.derain_with_progress(),
    ),
    Route(
        "/v1/derain/batch",
        "POST",
        Audience.KEY,
        UploadRoute(check_batch, read_batch, derain_batch),
        openapi.derain_batch(),
    ),
    Route(
        "/v1/models",
        "GET",
        Audience.KEY,
        models.list_models,
        get(
            "list_models",
            "The models that are served",
            json_answer("All of them.", openapi.MODEL_LIST),
            *FOR_KEYS,
        ),
    ),
    Route(
        "/v1/models/{name}",
        "GET",
        Audience.KEY,
        models.describe_model,
        get_of_model(
            "get_model",
            "A model, and its manifest with scores",
            json_answer("The model.", openapi.model_and(manifest=OBJECT)),
            *_ABSENT,
        ),
    ),
    Route(
        "/v2",
        "GET",
        Audience.PUBLIC,
        models.describe_server,
        get("server_metadata", "Open Inference Protocol: the server", json_answer("The server.", OBJECT)),
    ),
    Route(
        "/v2/health/live",
        "GET",
        Audience.PRIVATE,
        probes.is_live,
        get("server_live", "Open Inference Protocol: alive?", json_answer("Yes.", OBJECT)),
    ),
    Route(
        "/v2/health/ready",
        "GET",
        Audience.PRIVATE,
        probes.is_ready,
        get("server_ready", "Open Inference Protocol: ready?", json_answer("Yes.", OBJECT), _UNREADY),
    ),
    Route(
        "/v2/models/{name}",
        "GET",
        Audience.KEY,
        models.describe_in_protocol,
        get_of_model(
            "model_metadata", "Open Inference Protocol: a model", json_answer("The model.", OBJECT), *_ABSENT
        ),
    ),
    Route(
        "/v2/models/{name}/ready",
        "GET",
        Audience.KEY,
        models.is_model_ready,
        get_of_model(
            "model_ready", "Open Inference Protocol: is it ready?", json_answer("Yes.", OBJECT), *_ABSENT
        ),
    ),
    Route(
        "/livez", "GET", Audience.PRIVATE, probes.probe, get("livez", "Is the process alive?", YES, _UNREADY)
    ),
    Route(
        "/readyz",
        "GET",
        Audience.PRIVATE,
        probes.probe,
        get("readyz", "Are the models loaded, can images be sent?", YES, _UNREADY),
    ),
    Route("/healthz", "GET", Audience.PRIVATE, probes.probe),
    Route(
        "/metrics",
        "GET",
        Audience.PRIVATE,
        probes.metrics,
        get("metrics", "Metrics for Prometheus", openapi.METRICS_TEXT),
    ),
    Route(
        "/admin/reload",
        "POST",
        Audience.ADMIN,
        models.reload_models,
        get(
            "reload_models",
            "Serve what the models folder has now",
            json_answer("It is served.", openapi.model_and(outcome={"type": "string"})),
            *FOR_KEYS,
            HTTPStatus.CONFLICT,
        ),
    ),
    *(
        Route(path, "GET", Audience.PUBLIC, page)
        for path in (
            *("/", "/docs", ERRORS_PAGE, "/openapi.json", "/docs.json"),
            *("/example.jpg", "/page/{name}", "/examples/{name}"),
        )
    ),
)

_OF_OPERATORS = (Audience.ADMIN, Audience.PRIVATE)


def of_public_port(has_private_port: bool) -> tuple[Route, ...]:
    """All routes; without those of operators where they have a port of their own."""
    return tuple(route for route in ROUTES if not (has_private_port and route.audience in _OF_OPERATORS))


def of_private_port() -> tuple[Route, ...]:
    return tuple(route for route in ROUTES if route.audience in _OF_OPERATORS)


def find(path: str, routes: tuple[Route, ...] = ROUTES) -> Route | None:
    """The route of a path, for any method."""
    return next((route for route in routes if route.pattern.match(path)), None)


def in_starlette(routes: tuple[Route, ...], access: Access) -> list[BaseRoute]:
    return [
        StarletteRoute(
            route.path, route.handler, methods=[route.method], middleware=_middleware(route.audience, access)
        )
        for route in routes
    ]


def _middleware(audience: Audience, access: Access) -> list[Middleware]:
    if audience not in (Audience.KEY, Audience.ADMIN):
        return []
    return [Middleware(Restricted, access, is_for_admins=audience is Audience.ADMIN)]
