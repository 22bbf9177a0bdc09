"""What one worker has to tell the others: that the models were changed.

Workers are processes of their own, and a request reaches only one of them. So it touches a file that all
of them look at; their common parent names it.
"""

import asyncio
import logging
import os
import tempfile
from pathlib import Path

from derain.errors import DerainError
from serving.models import Models

logger = logging.getLogger("derain.models")

_EVERY_S = 1.0


class Announcements:
    def __init__(self) -> None:
        self._path = Path(tempfile.gettempdir()) / f"derain-reload-{os.getppid()}"
        self._seen = self._last()

    def make(self) -> None:
        self._path.touch()
        self._seen = self._last()

    def close(self) -> None:
        self._path.unlink(missing_ok=True)

    async def watch(self, models: Models) -> None:
        """For ever: reloads when another worker has."""
        while True:
            await asyncio.sleep(_EVERY_S)
            last = self._last()
            if last != self._seen:
                self._seen = last
                try:
                    await asyncio.to_thread(models.reload)
                except DerainError as error:
                    logger.error("another worker has a new model, this one cannot take it: %s", error)

    def _last(self) -> int:
        try:
            return self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return 0
