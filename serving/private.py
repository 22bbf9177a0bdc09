"""The private port: metrics, probes and administration, away from the public.

In a thread and an event loop of its own, so that it answers whatever the public one is doing. Several
workers share the port: each has a socket of its own on it, and the kernel chooses.
"""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable

import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.problems import NOT_FOUND, NOT_READY, NOTHING_HERE, Problem

logger = logging.getLogger("derain.private")


_PREFIXES = ("/metrics", "/livez", "/readyz", "/healthz", "/v2/health", "/admin")


class NotPublic:
    """Middleware of the public port: what is on the private one is not there."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(_PREFIXES):
            await Problem(NOT_FOUND, NOTHING_HERE).response()(scope, receive, send)
            return
        await self.app(scope, receive, send)


def private_routes(is_alive: Callable[[], bool]) -> list[BaseRoute]:
    """The probes that BentoML has on the public port: here they ask after that port's event loop."""

    async def probe(_request: Request) -> Response:
        if await asyncio.to_thread(is_alive):
            return PlainTextResponse("\n")
        return Problem(NOT_READY, "The service does not answer.").response()

    return [Route(path, probe) for path in ("/livez", "/readyz", "/healthz")]


def serve_privately(app: ASGIApp, host: str, port: int, is_shared: bool) -> "PrivateServer":
    """Raises OSError where the port is not to be had."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    logger.info("metrics, probes and administration are on %s:%d", host, port)
    return PrivateServer(app, listener)


class PrivateServer:
    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        self._listener = listener
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="derain-private", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(5)
        self._listener.close()
