"""The app on BentoML, which starts and watches workers, packs bentos, and has clients.

Importing this does nothing: `bentoml serve serving.service:DerainService` makes the service of the
environment's settings when it asks for that name.
"""

import asyncio
import os
from functools import cache
from http import HTTPStatus
from importlib import import_module
from typing import Annotated, Any

import bentoml
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml.validators import ContentType
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from derain.errors import DerainError
from derain.memory import give_memory_back
from serving.api.connections import use_connections
from serving.api.routes import find
from serving.app import create_app
from serving.errors import KeysError
from serving.operations.logs import set_up_logs
from serving.operations.request_record import RequestRecord
from serving.pipeline.job import Job
from serving.pipeline.model_pool import check_default
from serving.pipeline.options import Options
from serving.pipeline.pipeline import Pipeline
from serving.pipeline.reload import reload_file, reload_on_hangup
from serving.settings import Settings, settings_or_exit


def create_service(settings: Settings) -> bentoml.Service[Any]:
    """The app as BentoML runs it: in workers, each with models and limits of its own."""
    app = create_app(settings, reload_file(os.getppid()))

    class DerainService:
        """Takes rain out of photographs."""

        @bentoml.on_deployment  # type: ignore[untyped-decorator]
        @staticmethod
        def check() -> None:
            """Before any worker starts: BentoML would start one that fails again and again, for ever."""
            reload_on_hangup()
            _check_exporter(settings)
            try:
                check_default(settings)
            except (DerainError, OSError) as error:
                raise SystemExit(f"derain: {error}") from None

        def __init__(self) -> None:
            """In a worker, before its app starts."""
            self._traces = _set_up_traces(settings)

        @bentoml.on_shutdown  # type: ignore[untyped-decorator]
        async def send_traces(self) -> None:
            """What has not been sent yet: uvicorn ends the process by its signal, without a farewell."""
            if self._traces is not None:
                await asyncio.to_thread(self._traces.shutdown)

        @bentoml.api(route="/v1/derain")  # type: ignore[untyped-decorator]
        async def derain(
            self, image: Annotated[bytes, ContentType("image/*")], /
        ) -> Annotated[bytes, ContentType("image/*")]:
            """The image without rain, in the format it came in.

            BentoML's clients learn from this what can be called. Over HTTP the app in front answers them;
            this is for callers in Python.
            """
            pipeline: Pipeline = app.state.services.pipeline
            header = await pipeline.read_header(image)
            job = Job(image, header, header.format.answer_format, Options(), RequestRecord("in-process"))
            return (await pipeline.derain(job)).data

    service = bentoml.service(name="derain", workers=settings.workers, **_configuration(settings))(
        DerainService
    )
    service.mount_asgi_app(app, path="/")  # so that its lifespan is the worker's
    service.add_asgi_middleware(InFront, front=app)
    return service


def _configuration(settings: Settings) -> dict[str, Any]:
    """What BentoML would do by itself is off, for ours is stricter.

    Its limit of time answers without a problem document and cannot stop the work, so it is only a backstop
    behind the pipeline's.
    """
    return {
        "traffic": {"timeout": settings.upload_timeout_s + settings.timeout_s + 30},
        "metrics": {"enabled": False},
        "logging": {"access": {"enabled": False}},
        "tracing": _tracing(settings),
    }


def _tracing(settings: Settings) -> dict[str, Any]:
    if settings.trace_endpoint is None:
        return {"excluded_urls": ".*"}  # or BentoML records spans all the same, six an image, for nobody
    otlp = {"protocol": "http", "endpoint": settings.trace_endpoint}
    return {"exporter_type": "otlp", "sample_rate": settings.trace_share, "otlp": otlp}


def _check_exporter(settings: Settings) -> None:
    """Ends the program where traces are asked for, and what sends them is not installed."""
    if settings.trace_endpoint is None:
        return
    try:
        import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ModuleNotFoundError:
        raise SystemExit(
            "derain: DERAIN_TRACE_ENDPOINT needs a package that is not installed: pip install 'derain[trace]'"
        ) from None


def _set_up_traces(settings: Settings) -> TracerProvider | None:
    """Makes everybody's what BentoML gives to its own middleware alone; None where nothing is traced."""
    if settings.trace_endpoint is None:
        return None
    provider: TracerProvider = BentoMLContainer.tracer_provider.get()
    trace.set_tracer_provider(provider)
    return provider


class InFront:
    """Middleware around BentoML's app, which answers only what is no route of ours: its schema, Swagger UI.

    Its own route for a method reads whole bodies, without a limit, and words errors in its own way.
    """

    def __init__(self, app: ASGIApp, front: Starlette) -> None:
        self._behind = app
        self._front = front
        front.router.default = self._rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._front if scope["type"] == "http" else self._behind
        await app(scope, receive, send)

    async def _rest(self, scope: Scope, receive: Receive, send: Send) -> None:
        if find(scope["path"].rstrip("/")) is not None:  # on the private port: BentoML has probes of its own
            raise HTTPException(HTTPStatus.NOT_FOUND)
        await self._behind(scope, receive, send)


@cache
def _service_of_environment() -> bentoml.Service[Any]:
    """In the parent and in its workers; ends the process in words where a setting is wrong."""
    settings = settings_or_exit()
    set_up_logs(settings.log)
    give_memory_back()
    use_connections(settings.keep_alive_s)
    try:
        return create_service(settings)
    except (KeysError, OSError) as error:
        raise SystemExit(f"derain: DERAIN_KEYS: {error}") from None


def __getattr__(name: str) -> bentoml.Service[Any]:
    if name == "DerainService":
        return _service_of_environment()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
