"""How many bytes of uploads may be in memory together, of one process."""

from collections.abc import Iterator
from contextlib import contextmanager

from serving.errors import BusyError
from serving.operations.metrics import BUFFERED


class UploadBuffer:
    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._taken = 0

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """Of one request; all of it is given back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            self.give_back(share.taken)

    def take(self, count: int) -> None:
        """Raises BusyError where that would be too many."""
        if self._taken + count > self._max_bytes:
            raise BusyError(f"{self._taken:,} bytes of images are in memory already; try again in a moment")
        self._taken += count
        BUFFERED.inc(count)

    def give_back(self, count: int) -> None:
        self._taken -= count
        BUFFERED.dec(count)


class Share:
    def __init__(self, buffer: UploadBuffer) -> None:
        self._buffer = buffer
        self.taken = 0

    def take(self, count: int) -> None:
        self._buffer.take(count)
        self.taken += count
