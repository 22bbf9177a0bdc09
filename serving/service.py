"""The BentoML service: a picture in the rain comes in, the same without rain goes out."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Annotated, Any

import bentoml
from bentoml.validators import ContentType
from starlette.applications import Starlette
from starlette.routing import Route

from derain.errors import DerainError
from serving.batch import ROUTE as BATCH_ROUTE
from serving.batch import Batches
from serving.connections import use_connections
from serving.cors import Cors
from serving.exchange import Exchanges, exchange_of, reject
from serving.keys import Access, keys_or_exit
from serving.logs import set_up_logs
from serving.memory import give_memory_back
from serving.models import Models, check_default
from serving.openapi import ANSWER_HEADERS, TEMPLATES
from serving.pages import page_routes
from serving.parameters import read_parameters
from serving.pipeline import Pipeline, Request
from serving.private import NotPublic, private_routes, serve_privately
from serving.problems import ProblemResponses
from serving.progress import ROUTE as PROGRESS_ROUTE
from serving.progress import Progress
from serving.routes import admin_route, metrics_route, model_routes, probe_routes
from serving.settings import Settings, settings_or_exit
from serving.traces import set_up_traces
from serving.uploads import ROUTE, Buffer, Limits, Uploads
from serving.workers import Announcements, reload_on_hangup

settings = settings_or_exit()
set_up_logs(settings.log)
give_memory_back()
use_connections(settings.keep_alive_s)
keys = keys_or_exit(settings.keys)

logger = logging.getLogger("derain")

_LIMITS = Limits(settings.max_bytes, settings.upload_timeout_s)
_BUFFER = Buffer(settings.buffer_bytes)

# BentoML's own limit answers without a problem document and cannot stop the work, so it is
# only a backstop behind the pipeline's.
_BACKSTOP_S = settings.upload_timeout_s + settings.timeout_s + 30

_ALIVE_WITHIN_S = 5.0


def _tracing(settings: Settings) -> dict[str, Any]:
    if settings.trace_endpoint is None:
        return {"excluded_urls": ".*"}  # or BentoML records spans all the same, six a picture, for nobody
    otlp = {"protocol": "http", "endpoint": settings.trace_endpoint}
    return {"exporter_type": "otlp", "sample_rate": settings.trace_share, "otlp": otlp}


@asynccontextmanager
async def _running(app: Starlette) -> AsyncIterator[None]:
    """From the moment the service is there until it ends."""
    service: DerainService = app.state.service
    async with service.running():
        yield


application = Starlette(lifespan=_running)


@bentoml.service(
    name="derain",
    workers=settings.workers,
    traffic={"timeout": _BACKSTOP_S},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing=_tracing(settings),
)
@bentoml.mount_asgi_app(application, path="/")
class DerainService:
    """Takes rain out of photographs."""

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def check() -> None:
        """Before any worker starts: BentoML would start one that fails again and again, for ever."""
        reload_on_hangup()
        try:
            check_default(settings)
        except (DerainError, OSError) as error:
            raise SystemExit(f"derain: {error}") from None

    def __init__(self) -> None:
        self._traces = set_up_traces(settings)
        self._announcements = Announcements()
        self._models = Models(settings)
        self._pipeline = Pipeline(self._models, settings)
        application.state.service = self
        operating = [
            metrics_route(),
            *probe_routes(),
            admin_route(self._models, self._announcements.make),
        ]
        batches = Batches(self._pipeline, _LIMITS, _BUFFER, settings.max_files)
        application.router.routes = [
            Route(BATCH_ROUTE, batches, methods=["POST"]),
            Route(PROGRESS_ROUTE, Progress(self._pipeline, _LIMITS, _BUFFER), methods=["POST"]),
            *model_routes(self._models),
            *operating,
            *page_routes(settings),
        ]
        self._private_app = Starlette(routes=[*private_routes(self._is_alive), *operating])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        private = None
        if settings.private_port is not None:
            private = serve_privately(
                Exchanges(ProblemResponses(Access(self._private_app, keys, None)), TEMPLATES),
                settings.private_host,
                settings.private_port,
                is_shared=settings.workers > 1,
            )
        watching = asyncio.create_task(self._announcements.watch(self._models))
        try:
            yield
        finally:
            watching.cancel()
            if private is not None:
                private.close()
            self._models.close()
            if self._traces is not None:
                # What has not been sent yet: uvicorn ends the process by its signal, without a farewell.
                await asyncio.to_thread(self._traces.shutdown)

    @bentoml.api(route=ROUTE)  # type: ignore[untyped-decorator]
    async def derain(
        self, image: Annotated[bytes, ContentType("image/*")], /, ctx: bentoml.Context
    ) -> Annotated[bytes, ContentType("image/*")]:
        """The picture without rain, in the format it came in or the one asked for."""
        http, answer = ctx.request, ctx.response
        exchange = exchange_of(http.scope)
        try:
            request = Request(read_parameters(http.query_params), http.headers.get("accept"))
            derained = await self._pipeline.derain(image, request, exchange)
        except DerainError as error:
            problem = reject(error, exchange)
            answer.status_code = problem.status
            answer.headers.update(problem.headers)
            return problem.body
        answer.headers.update(derained.headers(exchange))
        return derained.data

    def _is_alive(self) -> bool:
        """Whether the public event loop answers; of a thread other than its own."""
        answer = asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop)
        try:
            answer.result(timeout=_ALIVE_WITHIN_S)
        except TimeoutError:
            return False
        return True


def _know_schemas(service: bentoml.Service[DerainService]) -> None:
    """Once and for all: BentoML derives the schema of a body anew for each request that has one."""
    for method in service.apis.values():
        schema = method.input_spec.model_json_schema
        method.input_spec.model_json_schema = cache(schema)


def _guard(service: bentoml.Service[DerainService]) -> None:
    """Middleware around the service; the first one is the outermost."""
    service.add_asgi_middleware(Exchanges, templates=TEMPLATES)
    if settings.cors_origins is not None:
        service.add_asgi_middleware(Cors, origins=settings.cors_origins, headers=ANSWER_HEADERS)
    service.add_asgi_middleware(ProblemResponses)
    if settings.private_port is not None:
        service.add_asgi_middleware(NotPublic)
    service.add_asgi_middleware(Access, keys=keys, rate_per_minute=settings.rate_per_minute)
    service.add_asgi_middleware(Uploads, limits=_LIMITS, buffer=_BUFFER)


_know_schemas(DerainService)
_guard(DerainService)
