"""The private port: metrics, probes and administration, away from the public.

In a thread and an event loop of its own, so that it answers whatever the public one is doing. Several
workers share the port: each has a socket of its own on it, and the kernel chooses.
"""

import logging
import socket
import threading

import uvicorn
from starlette.types import ASGIApp

logger = logging.getLogger("derain.private")


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
