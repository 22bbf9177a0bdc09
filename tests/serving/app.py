"""The service in this process: its app in an event loop of its own, and clients of it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
from starlette.applications import Starlette
from starlette.types import ASGIApp

from serving.api.services import Services
from serving.app import create_app
from serving.settings import Settings

_MAX_S = 60

T = TypeVar("T")


@dataclass(frozen=True)
class App:
    """One that has started."""

    app: Starlette
    loop: asyncio.AbstractEventLoop

    @property
    def services(self) -> Services:
        services = self.app.state.services
        assert isinstance(services, Services)
        return services

    def run(self, awaited: Coroutine[Any, Any, T]) -> T:
        """In the app's event loop."""
        return asyncio.run_coroutine_threadsafe(awaited, self.loop).result(_MAX_S)

    def client(self, **headers: str) -> httpx.Client:
        """Several threads may use it at once."""
        return httpx.Client(transport=_InProcess(self), base_url="http://test", headers=headers)


async def call(
    app: ASGIApp,
    path: str,
    body: bytes,
    gone: asyncio.Event,
    note: Callable[[dict[str, Any]], object] = lambda message: None,
) -> list[dict[str, Any]]:
    """What is sent to a caller whose connection is lost once `gone` is set; `note` sees it as it comes."""
    messages: list[dict[str, Any]] = []
    is_sent = False

    async def receive() -> dict[str, Any]:
        nonlocal is_sent
        if is_sent:
            await gone.wait()
            return {"type": "http.disconnect"}
        is_sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        messages.append(message)
        note(message)

    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": []}
    await app(scope, receive, send)
    return messages


@contextmanager
def running(model: Path | None, **settings: object) -> Iterator[App]:
    """Without a model it serves what is in the folder that `models` names."""
    if model is not None:
        settings = {"model": model, "models": model.parent, **settings}
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        started = App(create_app(Settings.model_validate(settings)), loop)
        lifespan = started.app.router.lifespan_context(started.app)
        started.run(_enter(lifespan))
        try:
            yield started
        finally:
            started.run(_leave(lifespan))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_MAX_S)
        loop.close()


async def _enter(lifespan: Any) -> None:
    await lifespan.__aenter__()


async def _leave(lifespan: Any) -> None:
    await lifespan.__aexit__(None, None, None)


class _InProcess(httpx.BaseTransport):
    def __init__(self, app: App) -> None:
        self._app = app
        self._transport = httpx.ASGITransport(app.app, raise_app_exceptions=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._app.run(self._answer(request))

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        if not isinstance(request.stream, httpx.AsyncByteStream):
            request.stream = _Pieces(request.stream)
        answer = await self._transport.handle_async_request(request)
        return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())


class _Pieces(httpx.AsyncByteStream):
    """Of a body that is an iterator."""

    def __init__(self, stream: httpx.SyncByteStream | httpx.AsyncByteStream) -> None:
        assert isinstance(stream, httpx.SyncByteStream)
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._stream:
            yield piece
