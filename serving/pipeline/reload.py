"""Reloads that reach all workers.

Workers are processes of their own: a request reaches only one of them, and a signal their common parent.
So each of these touches a file, named after the parent, that all workers look at.
"""

import asyncio
import atexit
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path

from circus.sighandler import SysHandler

from serving.errors import RefusedReloadError
from serving.pipeline.model_pool import ModelPool

logger = logging.getLogger("derain.models")

_EVERY_S = 1.0


class ReloadFile:
    """Made before the models are read, so that no reload is missed in the meantime."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = self._last()

    def touch(self) -> None:
        """Tells the other workers; this one has reloaded."""
        self.path.touch()
        self._seen = self._last()

    async def watch(self, models: ModelPool) -> None:
        """For ever: reloads when another worker has, or SIGHUP asks for it."""
        while True:
            await asyncio.sleep(_EVERY_S)
            last = self._last()
            if last != self._seen:
                self._seen = last
                await _reload(models)

    def _last(self) -> int:
        try:
            return self.path.stat().st_mtime_ns
        except FileNotFoundError:
            return 0


def reload_file(parent: int) -> Path:
    """Of the workers that have this parent."""
    return Path(tempfile.gettempdir()) / f"derain-reload-{parent}"


def reload_on_hangup() -> None:
    """In the parent, before it has workers: SIGHUP makes all of them reload.

    BentoML's arbiter would take it to start other workers instead, and to end those that serve without
    a look at whether the others can: with a model that is broken, none would be left.
    """
    path = reload_file(os.getpid())
    atexit.register(path.unlink, missing_ok=True)
    if sys.platform != "win32":
        SysHandler.SIGNALS.remove(signal.SIGHUP)
        signal.signal(signal.SIGHUP, lambda *_: _touch(path))


def pass_hangup_on(path: Path) -> None:
    """In a worker: the signal is its parent's, but one that goes to all processes of a group or a terminal
    must not end the workers, which is what it does by default."""
    if sys.platform != "win32":
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _touch, path)


async def _reload(models: ModelPool) -> None:
    try:
        await asyncio.to_thread(models.reload)
    except RefusedReloadError:
        return  # the log has why
    except Exception:
        logger.exception("the reload failed, the old model stays")


def _touch(path: Path) -> None:
    """Of a signal: whatever is wrong must not end the process that got it."""
    try:
        path.touch()
    except OSError as error:
        logger.error("the workers cannot be told to reload: %s", error)
