"""All of HTTP as one ASGI app, without a server or BentoML: start reading here, then `api/routes.py`."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware

from serving.api.admin_port import serve_privately
from serving.api.api_keys import Access, Keys
from serving.api.cors import Cors
from serving.api.images.upload_buffer import UploadBuffer
from serving.api.openapi import ANSWER_HEADERS, describe
from serving.api.pages import read_pages
from serving.api.problems import Problems
from serving.api.request_log import RequestLog
from serving.api.routes import ROUTES, in_starlette, of_private_port, of_public_port
from serving.api.services import Services
from serving.pipeline.model_pool import ModelPool
from serving.pipeline.pipeline import Pipeline
from serving.pipeline.reload import ReloadFile, pass_hangup_on
from serving.settings import Settings


def create_app(settings: Settings, reload_path: Path | None = None) -> Starlette:
    """For any ASGI server; its models are open while its lifespan is.

    `reload_path` is the file by which workers of one parent tell one another to reload. Raises KeysError
    and OSError for a file of keys that cannot be read.
    """
    keys = Keys(settings.keys) if settings.keys is not None else None
    private_app = _private_app(keys)

    @asynccontextmanager
    async def running(app: Starlette) -> AsyncIterator[None]:
        async with _services(settings, reload_path) as services:
            services.give_to(app)
            services.give_to(private_app)
            with _private_port(private_app, settings):
                yield

    routes = of_public_port(has_private_port=settings.private_port is not None)
    access = Access(keys, settings.rate_per_minute)
    return Starlette(routes=in_starlette(routes, access), middleware=_middleware(settings), lifespan=running)


def _middleware(settings: Settings) -> list[Middleware]:
    """The first one is the outermost."""
    cors = []
    if settings.cors_origins is not None:
        cors = [Middleware(Cors, origins=settings.cors_origins, headers=ANSWER_HEADERS)]
    return [Middleware(RequestLog), *cors, Middleware(Problems)]


def _private_app(keys: Keys | None) -> Starlette:
    routes = in_starlette(of_private_port(), Access(keys))
    return Starlette(routes=routes, middleware=[Middleware(RequestLog), Middleware(Problems)])


@asynccontextmanager
async def _services(settings: Settings, reload_path: Path | None) -> AsyncIterator[Services]:
    async with AsyncExitStack() as at_the_end:
        reloads = ReloadFile(reload_path) if reload_path is not None else None
        models = ModelPool(settings)
        at_the_end.callback(models.close)
        pipeline = Pipeline(models, settings)
        at_the_end.push_async_callback(pipeline.close)
        if reloads is not None:
            pass_hangup_on(reloads.path)
            at_the_end.callback(asyncio.create_task(reloads.watch(models)).cancel)
        yield Services(
            settings,
            models,
            pipeline,
            UploadBuffer(settings.buffer_bytes),
            read_pages(settings, describe(ROUTES)),
            asyncio.get_running_loop(),
            reloads,
        )


@contextmanager
def _private_port(app: Starlette, settings: Settings) -> Iterator[None]:
    """Served meanwhile, where there is to be one."""
    if settings.private_port is None:
        yield
        return
    is_shared = settings.workers > 1
    server = serve_privately(app, settings.private_host, settings.private_port, is_shared)
    try:
        yield
    finally:
        server.close()
