"""What all workers have to know: that the models are to be read again.

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

from serving.models import Models
from serving.problems import RefusedReloadError

logger = logging.getLogger("derain.models")

_EVERY_S = 1.0


class Announcements:
    """Made before the models are read, so that none is missed in the meantime."""

    def __init__(self) -> None:
        self._path = _path(os.getppid())
        self._seen = self._last()

    def make(self) -> None:
        """Tells the other workers; this one has reloaded."""
        self._path.touch()
        self._seen = self._last()

    async def watch(self, models: Models) -> None:
        """For ever: reloads when another worker has, or SIGHUP asks for it.

        The signal is the parent's, but one that goes to all processes of a group or a terminal must not
        end the workers, which is what it does by default.
        """
        if sys.platform != "win32":
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _touch, self._path)
        while True:
            await asyncio.sleep(_EVERY_S)
            last = self._last()
            if last != self._seen:
                self._seen = last
                try:
                    await asyncio.to_thread(models.reload)
                except RefusedReloadError:
                    continue  # the log has why
                except Exception:
                    logger.exception("the reload failed, the old model stays")

    def _last(self) -> int:
        try:
            return self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return 0


def reload_on_hangup() -> None:
    """In the parent, before it has workers: SIGHUP makes all of them reload.

    BentoML's arbiter would take it to start other workers instead, and to end those that serve without
    a look at whether the others can: with a model that is broken, none would be left.
    """
    path = _path(os.getpid())
    atexit.register(path.unlink, missing_ok=True)
    if sys.platform != "win32":
        SysHandler.SIGNALS.remove(signal.SIGHUP)
        signal.signal(signal.SIGHUP, lambda *_: _touch(path))


def _path(parent: int) -> Path:
    return Path(tempfile.gettempdir()) / f"derain-reload-{parent}"


def _touch(path: Path) -> None:
    """Of a signal: whatever is wrong must not end the process that got it."""
    try:
        path.touch()
    except OSError as error:
        logger.error("the workers cannot be told to reload: %s", error)
